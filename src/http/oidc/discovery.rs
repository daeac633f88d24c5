use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::app::App;
use crate::http::extract::Request;
use crate::http::reply;
use crate::oidc::discovery;

/// How long the document may be kept, in seconds.
const MAX_AGE: u32 = 300;

/// The discovery document, the same at both well-known names and in both places of the issuer's
/// path (OpenID Connect Discovery §4, RFC 8414 §3.1).
pub(in crate::http) async fn get(State(app): State<Arc<App>>, request: Request) -> Response {
    let document = discovery::document(&request.call(&app.services));
    reply::published(document.as_bytes().to_vec(), MAX_AGE)
}
