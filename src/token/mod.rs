//! Everything we hand out: minted here, and verified here when it comes back.
//!
//! Owns the formats of access tokens, ID tokens and refresh tokens, and what makes one of ours.
//! Whether a verified token was revoked is for `revocation/` to say.

pub mod access;
pub mod api_key;
mod claims;
pub mod id;
mod jws;
pub mod refresh;
pub mod relying;

pub use jws::Why;

#[cfg(test)]
mod tests;
