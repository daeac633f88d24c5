//! OAuth 2: authorize, token and its grants, introspect, revoke, metadata.
//!
//! Owns the protocol's decisions. `engine/` is the one folder that knows oxide-auth; storage decides
//! what must happen once; `token/` makes and reads tokens; `http/` speaks HTTP.

pub mod error;
pub mod params;

pub use error::{Cause, ErrorCode, TokenError};
pub use params::{InvalidParams, Params};
