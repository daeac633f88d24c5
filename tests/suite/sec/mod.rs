//! Security cases, by id.

mod config;
