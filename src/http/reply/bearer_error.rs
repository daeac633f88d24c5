use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::Response;
use serde_json::json;

use super::{Why, json as json_body};
use crate::oauth::bearer::BearerError;

/// A refusal of a protected resource (RFC 6750 §3): the challenge says what is wrong; so does the
/// body.
pub fn bearer_error(error: &BearerError, realm: &str) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = match error.code() {
        Some(code) => json!({"error": code.as_str(), "error_description": error.description()}),
        None => json!({"error_description": error.description()}),
    };
    let mut response = json_body(status, &body);
    response.extensions_mut().insert(Why(error.to_string()));
    if let Some(value) = error.challenge(realm).and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
