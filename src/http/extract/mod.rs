//! Requests into types. An extractor refuses what no handler should see.

mod authorization;
mod form;
mod peer;
mod prefer;
mod tenant;

pub use authorization::Authorization;
pub(in crate::http) use form::is_form;
pub use form::{Form, Query};
pub(in crate::http) use peer::{RequestId, client_address};
pub(in crate::http) use prefer::preferred_wait;
pub use tenant::Request;
