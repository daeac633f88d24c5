use std::sync::Arc;

use axum::extract::{FromRequestParts as _, MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::http::router::{self, Sharing};
use crate::http::{Edge, extract};
use crate::tenant::Tenant;

/// Lets scripts of other origins read what they may: everyone the published documents, the
/// registered origins of the tenant's clients token, revocation and userinfo, nobody the rest.
/// Never with credentials: no cookie of ours counts there.
pub(in crate::http) async fn cors(
    State(edge): State<Edge>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let sharing = route.map_or(Sharing::Nobody, router::sharing);
    if sharing == Sharing::Nobody {
        return next.run(request).await;
    }
    let origin = request.headers().get(ORIGIN).cloned();
    let (allowed, request) = match (&origin, sharing) {
        // Whether or not an origin is named: caches keep these answers for other callers.
        (_, Sharing::Everyone) => (Some(HeaderValue::from_static("*")), request),
        (Some(origin), Sharing::Registered) => {
            let (mut parts, body) = request.into_parts();
            let tenant = extract::Request::from_request_parts(&mut parts, &edge).await;
            let known = tenant.is_ok_and(|it| is_registered(&it.tenant, origin));
            (known.then(|| origin.clone()), Request::from_parts(parts, body))
        }
        _ => (None, request),
    };
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight {
        let mut empty = Response::default();
        *empty.status_mut() = StatusCode::NO_CONTENT;
        empty
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    if sharing == Sharing::Registered {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(allowed) = allowed {
        share(headers, allowed, preflight);
    }
    response
}

fn share(headers: &mut HeaderMap, allowed: HeaderValue, preflight: bool) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    // Other origins may read it, so the isolation of other answers would only be in the way.
    set(HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
    if preflight {
        set(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
        set(ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type");
        set(ACCESS_CONTROL_MAX_AGE, "600");
    } else {
        set(ACCESS_CONTROL_EXPOSE_HEADERS, "www-authenticate, retry-after, x-request-id");
    }
}

/// Whether a client of the tenant registered exactly this origin.
fn is_registered(tenant: &Arc<Tenant>, origin: &HeaderValue) -> bool {
    let clients = tenant.settings.clients.iter().filter(|client| client.enabled);
    clients
        .flat_map(|client| &client.cors_origins)
        .any(|known| known.as_bytes() == origin.as_bytes())
}
