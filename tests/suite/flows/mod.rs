//! Flows from the first request to the last.

mod code;
mod device;
mod token;
