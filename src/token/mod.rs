//! Everything we hand out: minted here, and verified here when it comes back.
//!
//! Owns the formats of access tokens, ID tokens and refresh tokens, and what makes one of ours.
//! Whether a verified token was revoked is for `revocation/` to say.

pub mod access;
pub mod id;
pub mod refresh;
pub mod relying;
