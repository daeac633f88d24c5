//! Client authentication (RFC 6749 §2.3): what was presented, resolved to one identity, and the
//! proof that it is so.

mod authenticate;
mod presented;

pub use authenticate::{AuthenticatedClient, authenticate};
pub use presented::Presented;
