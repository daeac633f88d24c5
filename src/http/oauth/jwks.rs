use axum::response::Response;

use crate::http::extract::Request;
use crate::http::reply;

/// How long a key set may be kept, in seconds: a new key is published long before it signs, but a
/// compromised one should be forgotten soon.
const MAX_AGE: u32 = 300;

/// `GET {issuer}/jwks.json` (RFC 7517 §5).
pub(in crate::http) async fn get(request: Request) -> Response {
    match request.tenant.keys.jwks(request.now).await {
        Ok(keys) => reply::published(keys.as_bytes().to_vec(), MAX_AGE),
        Err(error) => reply::unavailable(&error),
    }
}
