//! The command line and the file that it reads.

mod config;
