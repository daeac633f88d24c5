use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::Response;

use super::{Why, json};
use crate::oauth::TokenError;

/// A refusal of the token side: the public half as JSON (RFC 6749 §5.2); the private half is
/// on the request's line in the log.
pub fn token_error(error: &TokenError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::json!({
        "error": error.code().as_str(),
        "error_description": error.description(),
    });
    let mut response = json(status, &body);
    response.extensions_mut().insert(Why(error.cause().to_string()));
    if error.challenges_basic() {
        let challenge = HeaderValue::from_static("Basic realm=\"pmp-auth\", charset=\"UTF-8\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
