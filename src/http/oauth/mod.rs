//! Handlers of the OAuth 2 endpoints that programs call.

pub(in crate::http) mod api_keys;
pub(in crate::http) mod device_authorization;
pub(in crate::http) mod introspect;
pub(in crate::http) mod jwks;
pub(in crate::http) mod resources;
pub(in crate::http) mod revocations;
pub(in crate::http) mod revoke;
pub(in crate::http) mod status_lists;
pub(in crate::http) mod token;
pub(in crate::http) mod verify;

use axum::extract::RawQuery;

use super::extract::Authorization;
use crate::oauth::{Cause, Params, Presented, TokenError};

/// What a request says about its client. Parameters in the URL would be logged on the way
/// (RFC 6749 §2.3.1, §3.2): there must be none.
fn presented(
    query: &RawQuery,
    authorization: &Authorization,
    form: &Params,
) -> Result<Presented, TokenError> {
    if query.0.as_ref().is_some_and(|query| !query.is_empty()) {
        return Err(Cause::InQuery.into());
    }
    Presented::read(&authorization.all(), form)
}
