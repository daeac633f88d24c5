//! OpenID Connect: discovery, userinfo, logout.
//!
//! Owns what OpenID Connect adds to OAuth 2. ID tokens are minted in `token/`, as part of the grants
//! in `oauth/`.

pub mod logout;
pub mod discovery;
pub mod userinfo;
