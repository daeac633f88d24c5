//! Handlers of what OpenID Connect adds.

pub(in crate::http) mod discovery;
pub(in crate::http) mod userinfo;
