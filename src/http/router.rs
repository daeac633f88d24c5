//! Every route on one page.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use super::{Edge, demo, layer, oauth, oidc, ops, pages, reply};

/// The endpoints of one tenant, below its issuer.
fn tenant() -> Router<Edge> {
    Router::new()
        // OAuth 2 and OpenID Connect
        .route("/token", post(oauth::token::post))
        .route("/device_authorization", post(oauth::device_authorization::post))
        .route("/introspect", post(oauth::introspect::post))
        .route("/revoke", post(oauth::revoke::post))
        .route("/verify", of_any_method(get(oauth::verify::any)))
        .route("/resources", get(oauth::resources::list))
        .route("/resources/{id}", get(oauth::resources::get))
        .route("/revocations", get(oauth::revocations::get).layer(gzip()))
        .route("/revocations/poll", post(oauth::revocations::post).layer(gzip()))
        .route("/api-keys", get(oauth::api_keys::list).post(oauth::api_keys::create))
        .route("/api-keys/{id}", get(oauth::api_keys::get).delete(oauth::api_keys::revoke))
        .route("/api-keys/{id}/rotate", post(oauth::api_keys::rotate))
        .route("/statuslists", get(oauth::status_lists::aggregation))
        .route("/statuslists/{id}", get(oauth::status_lists::list).layer(gzip()))
        .route("/jwks.json", get(oauth::jwks::get))
        .route("/userinfo", get(oidc::userinfo::get).post(oidc::userinfo::post))
        .route("/.well-known/openid-configuration", get(oidc::discovery::get))
        .route("/.well-known/oauth-authorization-server", get(oidc::discovery::get))
        // Pages
        .route("/authorize", get(pages::authorize::get).post(pages::authorize::post))
        .route("/login", get(pages::login::get).post(pages::login::post))
        .route("/consent", get(pages::consent::get).post(pages::consent::post))
        .route("/device/card", get(pages::device::card).post(pages::device::card_post))
        .route("/device/decision", get(pages::device::decision).post(pages::device::decision_post))
        .route("/logout", get(pages::logout::get).post(pages::logout::post))
        .route("/brand.css", get(pages::brand::colours))
        .route("/logo", get(pages::brand::logo))
}

/// The same below `/t/{slug}`. Where there is no slug, the short address for codes of all tenants
/// stands at the place of a tenant's own.
fn with_slug() -> Router<Edge> {
    tenant().route("/device", get(pages::device::get).post(pages::device::post))
}

/// Proxies ask with their own method, or with that of the request that they ask about.
fn of_any_method(get: MethodRouter<Edge>) -> MethodRouter<Edge> {
    use oauth::verify::any;
    get.post(any).put(any).patch(any).delete(any).options(any)
}

/// For large answers that no stranger has a hand in. Streams of events are left as they are: each
/// would need a window of its own, and every event a flush.
fn gzip() -> CompressionLayer {
    CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest)
}

/// What stands at fixed places beside the tenants.
fn fixed() -> Router<Edge> {
    Router::new()
        .route("/device", get(pages::device::short).post(pages::device::short_post))
        .route("/.well-known/openid-configuration/t/{slug}", get(oidc::discovery::get))
        .route("/.well-known/oauth-authorization-server/t/{slug}", get(oidc::discovery::get))
        .route("/.well-known/oauth-protected-resource", get(oauth::resources::well_known))
        .route("/.well-known/oauth-protected-resource/{*path}", get(oauth::resources::well_known))
        .route("/assets/{name}", get(pages::brand::stylesheet))
        .merge(demo::routes())
        .merge(probes())
}

/// What keeps an eye on the process; on each listener.
fn probes() -> Router<Edge> {
    Router::new()
        .route("/livez", get(ops::livez))
        .route("/startupz", get(ops::startupz))
        .route("/readyz", get(ops::readyz))
}

/// What operators look at: on a listener of its own, or on a public one that only this machine
/// reaches. The world is not to see it.
fn admin() -> Router<Edge> {
    Router::new().route("/metrics", get(ops::metrics))
}

/// The public listener. A tenant is found by `/t/{slug}`, or by its own host; both lead to the same
/// endpoints.
pub fn public(edge: Edge) -> Router {
    let mut routes = Router::new().nest("/t/{slug}", with_slug()).merge(tenant()).merge(fixed());
    let server = &edge.app.settings.server;
    if server.admin_listen.is_none() && server.is_loopback() {
        routes = routes.merge(admin());
    }
    finish(routes, edge)
}

/// The operators' listener.
pub fn operators(edge: Edge) -> Router {
    finish(admin().merge(probes()), edge)
}

/// What every request goes through; the last is the outermost.
fn finish(routes: Router<Edge>, edge: Edge) -> Router {
    routes
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn(layer::guard))
        .layer(from_fn_with_state(edge.clone(), layer::cors))
        .layer(from_fn(layer::strict))
        .layer(CatchPanicLayer::custom(layer::panicked))
        .layer(from_fn_with_state(edge.clone(), layer::edge))
        .with_state(edge)
}

async fn nothing_here() -> Response {
    reply::problem(StatusCode::NOT_FOUND)
}

async fn not_so() -> Response {
    reply::problem(StatusCode::METHOD_NOT_ALLOWED)
}

/// Routes whose GET only shows something. HEAD is answered on these alone: elsewhere it would run
/// what GET runs, and issue, spend or end something unseen.
pub(super) fn is_harmless(route: &str) -> bool {
    sharing(route) == Sharing::Everyone
        || route.ends_with("/brand.css")
        || route.ends_with("/logo")
        || route.ends_with("/revocations")
        || is_verify(route)
        || matches!(
            route,
            "/assets/{name}" | "/livez" | "/readyz" | "/startupz" | "/metrics" | "/demo"
        )
}

/// Whether a route answers for the request that a proxy asks about: what stands in its headers is
/// about a body that the proxy keeps.
pub(super) fn is_verify(route: &str) -> bool {
    route.ends_with("/verify")
}

/// How much of a body is read, in bytes: forms are small, 64 parameters fit many times; a hundred
/// tokens at introspection do not.
pub(super) fn longest_body(route: &str) -> usize {
    if route.ends_with("/introspect") { 512 * 1024 } else { 64 * 1024 }
}

/// How long the handler of a route has: those that may wait for something to happen, as long as
/// they let a caller wait and then some.
pub(super) fn patience(route: &str) -> Duration {
    let below_issuer = route.strip_prefix("/t/{slug}").unwrap_or(route);
    match below_issuer {
        "/revocations" | "/revocations/poll" => Duration::from_secs(45),
        _ => Duration::from_secs(10),
    }
}

/// Whose scripts may read an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Pages and what only servers call.
    Nobody,
    /// Origins that clients of the tenant registered.
    Registered,
    /// Public documents.
    Everyone,
}

/// The sharing of a route, by its pattern.
pub(super) fn sharing(route: &str) -> Sharing {
    let below_issuer = route.strip_prefix("/t/{slug}").unwrap_or(route);
    if below_issuer.starts_with("/.well-known/") {
        return Sharing::Everyone;
    }
    match below_issuer {
        "/jwks.json" | "/resources" | "/resources/{id}" | "/statuslists" | "/statuslists/{id}" => {
            Sharing::Everyone
        }
        "/token" | "/device_authorization" | "/revoke" | "/userinfo" => Sharing::Registered,
        _ => Sharing::Nobody,
    }
}
