//! The demo app's pages at `/demo`: a relying party of this very server, for a first look. What it
//! says to the server is in `rp::demo`; here it only reads requests and renders.

mod handlers;
mod tv;
mod view;

use axum::Router;
use axum::routing::{get, post};

use super::Edge;

/// The routes of the demo app; each answers 404 where `server.demo` is off.
pub(in crate::http) fn routes() -> Router<Edge> {
    Router::new()
        .route("/demo", get(handlers::home))
        .route("/demo/login", get(handlers::login))
        .route("/demo/callback", get(handlers::callback))
        .route("/demo/try", post(handlers::attempt))
        .route("/demo/logout", get(handlers::logout))
        .route("/demo/tv", get(tv::get).post(tv::post))
        .route("/demo/tv.css", get(tv::stylesheet))
}
