//! Security cases, by id.

mod config;
mod jwt;
