//! Whether we live, whether we are ready, and how we are.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::HeaderValue;
use axum::response::Response;

use super::reply;
use crate::app::App;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The process answers. Never touches the store: a database that is away is no reason to restart
/// us.
pub(super) async fn livez() -> Response {
    reply::no_store(StatusCode::OK, TEXT, "ok\n")
}

/// Everything was loaded; there is no answer before.
pub(super) async fn startupz() -> Response {
    reply::no_store(StatusCode::OK, TEXT, "ok\n")
}

/// Whether requests should be sent here. `?verbose` names the checks; what a check found wrong is
/// for the log alone.
pub(super) async fn readyz(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let readiness = app.readiness().await;
    let verbose =
        query.as_deref().is_some_and(|query| query.split('&').any(|key| key == "verbose"));
    let mut page = String::new();
    if verbose {
        for (check, good) in &readiness.checks {
            page.push_str(if *good { "[+] " } else { "[-] " });
            page.push_str(check);
            page.push('\n');
        }
    }
    let ready = readiness.is_ready();
    page.push_str(if ready { "ok\n" } else { "not ready\n" });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::no_store(status, TEXT, page)
}

/// Metrics in the text format of OpenMetrics.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.observe();
    reply::no_store(StatusCode::OK, OPEN_METRICS, app.metrics.render())
}
