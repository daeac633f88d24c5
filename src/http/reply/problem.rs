use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::response::Response;

use super::{json, no_store};
use crate::storage::StoreError;

/// Marks a refusal that says no more than its status: where a browser asked for a page, the edge
/// shows it as one.
#[derive(Debug, Clone, Copy)]
pub struct Problem {
    /// A word for programs.
    pub error: &'static str,
    /// A sentence for people.
    pub description: &'static str,
}

/// The private half of a refusal: on its way to the request's line in the log, not to the caller.
#[derive(Debug, Clone)]
pub struct Why(pub String);

/// A refusal that needs no more words than its status has.
pub fn problem(status: StatusCode) -> Response {
    let problem = Problem::of(status);
    let body = serde_json::json!({
        "error": problem.error,
        "error_description": problem.description,
    });
    let mut response = json(status, &body);
    response.extensions_mut().insert(problem);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A refusal as `application/problem+json` (RFC 9457 §3), with what the caller is to do.
pub fn problem_details(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    no_store(status, HeaderValue::from_static("application/problem+json"), body.to_string())
}

/// The store could not answer: 503, never a protocol error.
pub fn unavailable(error: &StoreError) -> Response {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE);
    response.extensions_mut().insert(Why(error.to_string()));
    response
}

impl Problem {
    fn of(status: StatusCode) -> Self {
        let (error, description) = match status {
            StatusCode::BAD_REQUEST => ("invalid_request", "the request cannot be understood"),
            StatusCode::NOT_FOUND => {
                ("not_found", "there is nothing at this address; check the issuer URL and the path")
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method_not_allowed", "this address does not take this method; see Allow")
            }
            StatusCode::REQUEST_TIMEOUT => ("request_timeout", "the request took too long to come"),
            StatusCode::PAYLOAD_TOO_LARGE => {
                ("payload_too_large", "the body is larger than this address takes")
            }
            StatusCode::URI_TOO_LONG => ("uri_too_long", "the address is longer than 8 KiB"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ("unsupported_media_type", "send the body without Content-Encoding")
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                ("header_fields_too_large", "the headers are larger than 32 KiB")
            }
            StatusCode::MISDIRECTED_REQUEST => {
                ("misdirected_request", "this server has no such host")
            }
            StatusCode::TOO_MANY_REQUESTS => {
                ("temporarily_unavailable", "too many requests; wait as long as Retry-After says")
            }
            StatusCode::SERVICE_UNAVAILABLE => (
                "temporarily_unavailable",
                "the server cannot answer just now; nothing is wrong with the request, try it again",
            ),
            _ => ("server_error", "the server failed; the operator's log has the reason"),
        };
        Self { error, description }
    }
}
