//! The suite: what the server does, from the storage engines up to whole logins. Cases that touch
//! storage run on every engine and are named after it: `storage::codes::postgres::one_of_many…`.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking; a test binary has no outside"
)]

#[macro_use]
mod support;

mod cli;
mod edge;
mod faults;
mod flows;
mod interop;
mod pages;
mod sec;
mod spec;
mod storage;
