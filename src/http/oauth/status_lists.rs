//! Status lists (draft-ietf-oauth-status-list §8): documents that everyone may read and caches keep.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
};
use axum::response::Response;

use crate::app::App;
use crate::http::extract::Request;
use crate::http::reply;

/// How long the aggregation may be kept, in seconds: a list is in it before its first token is out.
const AGGREGATION_AGE: u32 = 30;

/// `GET {issuer}/statuslists` (§9.3).
pub(in crate::http) async fn aggregation(
    State(app): State<Arc<App>>,
    request: Request,
) -> Response {
    match app.services.statuses.aggregation(&request.tenant, request.now).await {
        Ok(Some(lists)) => reply::published(lists.as_bytes().to_vec(), AGGREGATION_AGE),
        Ok(None) => reply::problem(StatusCode::NOT_FOUND),
        Err(error) => reply::unavailable(&error),
    }
}

/// `GET {issuer}/statuslists/{id}` (§8.1).
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    request: Request,
    path: RawPathParams,
    headers: HeaderMap,
) -> Response {
    let id = path.iter().find(|(name, _)| *name == "id").map_or("", |(_, id)| id);
    let token = match app.services.statuses.list(&request.tenant, id, request.now).await {
        Ok(Some(token)) => token,
        Ok(None) => return reply::problem(StatusCode::NOT_FOUND),
        Err(error) => return reply::unavailable(&error),
    };
    // Weak: the same list may come in gzip.
    let tag = format!("W/\"{}\"", token.tag);
    let mut response = if knows(&headers, &token.tag) {
        let mut unchanged = Response::default();
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        let mut whole = Response::new(Body::from(token.jwt.clone()));
        let content_type = HeaderValue::from_static("application/statuslist+jwt");
        whole.headers_mut().insert(CONTENT_TYPE, content_type);
        whole
    };
    let cache = format!("public, max-age={}", token.ttl.as_secs());
    for (name, value) in [(ETAG, tag), (CACHE_CONTROL, cache)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Whether the caller has this version (RFC 9110 §13.1.2; weak comparison).
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let named = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    named
        .flat_map(|all| all.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one).trim_matches('"') == tag)
}
