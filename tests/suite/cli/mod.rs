//! The command line and the file that it reads.

mod commands;
mod config;
mod login;
mod serve;
