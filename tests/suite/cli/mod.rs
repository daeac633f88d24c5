//! The command line and the file that it reads.

mod commands;
mod config;
mod demo;
mod login;
mod serve;
