use std::sync::Arc;

use axum::extract::{OriginalUri, RawPathParams, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{HOST, HeaderMap};
use axum::response::Response;
use serde_json::Value;

use crate::app::App;
use crate::http::extract::Request;
use crate::http::reply;
use crate::oauth::resource_metadata;

/// How long a document may be kept, in seconds.
const MAX_AGE: u32 = 300;
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// `GET {issuer}/resources`: the tenant's APIs, and where their metadata are.
pub(in crate::http) async fn list(request: Request) -> Response {
    published(&resource_metadata::list(&request.tenant.settings))
}

/// `GET {issuer}/resources/{id}`: the metadata of one API (RFC 9728 §2).
pub(in crate::http) async fn get(request: Request, params: RawPathParams) -> Response {
    let id = params.iter().find(|(name, _)| *name == "id").map(|(_, id)| id);
    let document = id.and_then(|id| resource_metadata::by_id(&request.tenant.settings, id));
    document.map_or_else(nothing, |document| published(&document))
}

/// The same at the address that RFC 9728 §3.1 gives it, where a proxy of the API hands the request
/// on with the API's own `Host`.
pub(in crate::http) async fn well_known(
    State(app): State<Arc<App>>,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let named = || headers.get(HOST)?.to_str().ok();
    let authority = uri.authority().map(axum::http::uri::Authority::as_str).or_else(named);
    let host = authority.unwrap_or_default().to_ascii_lowercase();
    let path = uri.path().strip_prefix(WELL_KNOWN).unwrap_or_default();
    let tenants = app.registry.all();
    let tenants = tenants.iter().map(|tenant| &*tenant.settings);
    let document = resource_metadata::at_host(tenants, &host, path, query.as_deref());
    document.map_or_else(nothing, |document| published(&document))
}

fn published(document: &Value) -> Response {
    reply::published(document.to_string(), MAX_AGE)
}

fn nothing() -> Response {
    reply::problem(StatusCode::NOT_FOUND)
}
