//! The command line and the file that it reads.

mod api_keys;
mod commands;
mod config;
mod demo;
mod login;
mod serve;
