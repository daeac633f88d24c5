use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use axum::response::Response;

use super::no_store;

/// What a page of ours may do: nothing but show itself and send its form here.
pub const PAGE_CSP: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'";

/// An HTML page, never stored.
pub fn page(status: StatusCode, html: String) -> Response {
    let html_type = HeaderValue::from_static("text/html; charset=utf-8");
    let mut response = no_store(status, html_type, html);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_CSP));
    response
}
