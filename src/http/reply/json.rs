use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::problem;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `value` as JSON, never to be stored by a cache (RFC 6749 §5.1).
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => no_store(status, JSON, body),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// JSON that is written already, never to be stored by a cache.
pub fn json_text(status: StatusCode, text: String) -> Response {
    no_store(status, JSON, text)
}

/// A body of any type that no cache may store.
pub fn no_store(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// JSON that everyone may read and keep for `max_age` seconds: metadata and key sets.
pub fn published(body: impl Into<Body>, max_age: u32) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    let cache = HeaderValue::try_from(format!("public, max-age={max_age}"));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, cache.unwrap_or(HeaderValue::from_static("no-store")));
    response
}
