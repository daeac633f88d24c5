//! Outgoing requests. Owns where we may connect to and how long we wait; what is asked and what is
//! done with the answer belongs to the callers.

mod loopback;

pub use loopback::{Answer, FetchError, Loopback, Outgoing};
