use std::any::Any;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::HeaderValue;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument as _, error_span, info};

use super::{Context, headers};
use crate::base::base64url;
use crate::http::extract::{RequestId, client_address};
use crate::http::reply::{self, Problem, Why};
use crate::http::{Edge, pages};

/// The peer of a connection; an extension of each of its requests.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Peer(pub(in crate::http) SocketAddr);

static NO_ROUTE: LazyLock<Arc<str>> = LazyLock::new(|| "none".into());

/// Gives a request its id, its time and its caller; the answer its headers; the log its line; the
/// metrics their observation.
pub(in crate::http) async fn edge(
    State(edge): State<Edge>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let context = context(&edge, &request);
    let id = context.id.0.clone();
    let peer = context.client;
    let method = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().into());
    let tenant = slug(&request).unwrap_or_default();
    let wants_page = pages::problem::wants_page(request.headers());
    request.extensions_mut().insert(context);
    // As urgent as any line in it: whatever the filter lets through has the id.
    let span = error_span!("request", request_id = %id);
    let mut response = next.run(request).instrument(span).await;
    if wants_page && response.extensions().get::<Problem>().is_some() {
        response = as_page(&edge, response, &id);
    }
    let cause = response.extensions_mut().remove::<Why>().map(|why| why.0);
    finish(&edge, &mut response, &id);
    let route: Arc<str> = route.unwrap_or_else(|| NO_ROUTE.clone());
    let (status, took) = (response.status().as_u16(), began.elapsed());
    edge.app.metrics.answered(&route, method, status, took);
    info!(
        method,
        route = %route,
        tenant = %tenant,
        status,
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        request_id = %id,
        peer = %peer,
        cause,
        "answered",
    );
    response
}

fn context(edge: &Edge, request: &Request) -> Context {
    let app = &edge.app;
    let unknown = || SocketAddr::from(([0, 0, 0, 0], 0));
    let peer = request.extensions().get::<Peer>().map_or_else(unknown, |peer| peer.0);
    Context {
        now: app.clock.now(),
        client: client_address(peer, request.headers(), &app.settings.server.trusted_proxies),
        // Ids of callers are not believed: they could be anything, and anybody's.
        id: RequestId(base64url::encode(app.entropy.bytes::<9>())),
    }
}

/// The slug in a path that was matched by `/t/{slug}/…`; for the log, whether there is such a
/// tenant or not, but never more of it than a slug can be long.
fn slug(request: &Request) -> Option<String> {
    let route = request.extensions().get::<MatchedPath>()?.as_str();
    let path = request.uri().path();
    let place = route.split('/').position(|segment| segment == "{slug}")?;
    path.split('/').nth(place).map(|slug| slug.chars().take(63).collect())
}

/// A method as a label: a stranger's own words would make new series.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

fn finish(edge: &Edge, response: &mut Response, id: &str) {
    let https = edge.app.settings.server.public_url.scheme() == "https";
    headers::secure(response.headers_mut(), https);
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert("x-request-id", id);
    }
    if edge.app.is_stopping() {
        // Another connection may find another node.
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    }
}

/// The same refusal as a page, with what its headers said.
fn as_page(edge: &Edge, response: Response, id: &str) -> Response {
    let Some(mut page) = pages::problem::page(edge, response.status(), id) else {
        return response;
    };
    for name in [header::RETRY_AFTER, header::CONNECTION, header::ALLOW] {
        if let Some(value) = response.headers().get(&name) {
            page.headers_mut().insert(name, value.clone());
        }
    }
    page
}

/// A handler panicked: a fault of ours, and the log alone has the place.
pub(in crate::http) fn panicked(_: Box<dyn Any + Send>) -> Response {
    reply::problem(StatusCode::INTERNAL_SERVER_ERROR)
}
