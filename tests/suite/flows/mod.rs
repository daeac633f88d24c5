//! Flows from the first request to the last.

mod token;
