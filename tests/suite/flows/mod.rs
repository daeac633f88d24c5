//! Flows from the first request to the last.

mod code;
mod device;
mod feed;
mod token;
