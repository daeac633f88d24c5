use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue, LOCATION};
use axum::response::Response;

use super::problem;

/// 303 to `url`: the browser goes on with GET and takes no body along (RFC 9700 §4.12).
pub fn see_other(url: &str) -> Response {
    // A header value has no control characters, so no address can add headers.
    let Ok(location) = HeaderValue::try_from(url) else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
