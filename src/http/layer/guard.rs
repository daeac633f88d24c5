use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use crate::http::extract::preferred_wait;
use crate::http::{reply, router};
use crate::oauth::device::Patience;

const BODY_TIME: Duration = Duration::from_secs(30);

/// Reads the body within its limits, then runs the handler within its time. What may change
/// something runs in a task of its own: a caller that hangs up does not stop it half way, and a
/// panic in it is an answer of 500.
pub(in crate::http) async fn guard(request: Request, next: Next) -> Response {
    let Some(route) = request.extensions().get::<MatchedPath>() else {
        return next.run(request).await;
    };
    let time = router::patience(route.as_str());
    let harmless = router::is_harmless(route.as_str()) && request.method() != Method::POST;
    let most = router::longest_body(route.as_str());
    let request = match with_body(request, most).await {
        Ok(request) => request,
        Err(status) => return refuse_body(status),
    };
    if harmless {
        let ran = timeout(time, next.run(request)).await;
        return ran.unwrap_or_else(|_| reply::problem(StatusCode::SERVICE_UNAVAILABLE));
    }
    let (request, wait, _here) = with_patience(request);
    let task = tokio::spawn(next.run(request).in_current_span());
    match timeout(time + wait, task).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => reply::problem(StatusCode::INTERNAL_SERVER_ERROR),
        Err(_) => reply::problem(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// A request that prefers to wait may take that much longer, and knows when its caller is gone: when
/// what is returned beside it is dropped.
fn with_patience(mut request: Request) -> (Request, Duration, Option<DropGuard>) {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let waits = route.is_some_and(|route| route.ends_with("/token"));
    let Some(wait) = preferred_wait(request.headers()).filter(|_| waits) else {
        return (request, Duration::ZERO, None);
    };
    let gone = CancellationToken::new();
    request.extensions_mut().insert(Patience { wait, gone: gone.clone() });
    (request, wait, Some(gone.drop_guard()))
}

/// The request with its whole body in memory.
async fn with_body(request: Request, most: usize) -> Result<Request, StatusCode> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse::<u64>().ok()) > Some(most as u64) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let read = timeout(BODY_TIME, Limited::new(body, most).collect()).await;
    let bytes: Bytes = match read.map_err(|_| StatusCode::REQUEST_TIMEOUT)? {
        Ok(all) => all.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    };
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// What is left of the body is not waited for.
fn refuse_body(status: StatusCode) -> Response {
    let mut response = reply::problem(status);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
