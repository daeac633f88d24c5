use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::handlers::{cookie_named, from_our_page, nothing, server};
use super::view;
use crate::base::Timestamp;
use crate::http::extract::{Form, Query};
use crate::http::pages::template::TV_STYLESHEET;
use crate::http::{Edge, reply};
use crate::model::ClientId;
use crate::rp::builtin;
use crate::rp::demo::Demo;
use crate::rp::qr::Qr;
use crate::rp::tv::{Screen, Television};
use crate::tenant::Tenant;

const COOKIE_NAME: &str = "pmp_demo_tv";
/// How often the screen is drawn anew: a browser without scripts can do no better.
const REFRESH: &str = "3; url=/demo/tv";

/// The screen; where there is none yet, a set is switched on.
pub(super) async fn get(
    State(edge): State<Edge>,
    Query(query): Query,
    headers: HeaderMap,
) -> Response {
    let app = &edge.app;
    let Some(demo) = &app.demo else { return nothing() };
    let wanted = query.get("tenant");
    let now = app.clock.now();
    let set =
        cookie_named(&headers, COOKIE_NAME).and_then(|cookie| demo.televisions.find(cookie, now));
    match set {
        Some(set) if wanted.is_none_or(|tenant| tenant == set.tenant) => show(&edge, &set, now),
        _ if query.get("begun").is_some() => {
            let context = json!({"stage": "no_cookie", "channel": Value::Null});
            view::render(&edge, StatusCode::BAD_REQUEST, "demo_tv.html", &context)
        }
        _ => begin(&edge, demo, wanted).await,
    }
}

/// Try again, or sign out: the set forgets what it knows and begins anew.
pub(super) async fn post(
    State(edge): State<Edge>,
    headers: HeaderMap,
    Form(form): Form,
) -> Response {
    let app = &edge.app;
    let Some(demo) = &app.demo else { return nothing() };
    if !from_our_page(app, &headers) {
        return reply::problem(StatusCode::FORBIDDEN);
    }
    if let Some(cookie) = cookie_named(&headers, COOKIE_NAME) {
        demo.televisions.forget(cookie);
    }
    match form.get("tenant").and_then(|slug| app.registry.named(slug)) {
        Some(tenant) => reply::see_other(&format!("/demo/tv?tenant={}", tenant.slug)),
        None => reply::see_other("/demo/tv"),
    }
}

/// The style sheet of the screen.
pub(super) async fn stylesheet() -> Response {
    let kind = (CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    let kept = (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    ([kind, kept], TV_STYLESHEET).into_response()
}

/// Whether a tenant has the television's client.
pub(super) fn has_one(tenant: &Tenant) -> bool {
    let id = ClientId::new(builtin::TV);
    tenant.settings.clients.iter().any(|client| client.id == id)
}

async fn begin(edge: &Edge, demo: &Demo, wanted: Option<&str>) -> Response {
    let app = &edge.app;
    let tenants = app.registry.all();
    let mut able = tenants.iter().filter(|tenant| has_one(tenant));
    let tenant = match wanted {
        Some(slug) => able.find(|tenant| tenant.slug.as_str() == slug),
        None => able.next(),
    };
    let (Some(tenant), Some(server)) = (tenant, server(app)) else { return nothing() };
    let (sets, entropy) = (Arc::clone(&demo.televisions), &*app.entropy);
    let place = (tenant.slug.as_str(), tenant.issuer());
    let (cookie, waiting) = match sets.begin(&server, place, entropy, app.clock.now()).await {
        Ok(begun) => begun,
        Err(error) => {
            tracing::warn!(%error, "the demo's television has no code");
            let context = json!({
                "stage": "failed",
                "why": error.to_string(),
                "slug": tenant.slug,
                "channel": tenant.settings.name,
            });
            return view::render(edge, StatusCode::SERVICE_UNAVAILABLE, "demo_tv.html", &context);
        }
    };
    app.spawn(async move { sets.follow(&server, waiting).await });
    let mut response = reply::see_other("/demo/tv?begun=1");
    let cookie = cookie.reveal();
    let cookie =
        format!("{COOKIE_NAME}={cookie}; Path=/demo/tv; HttpOnly; SameSite=Lax; Max-Age=3600");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

fn show(edge: &Edge, set: &Television, now: Timestamp) -> Response {
    let mut context = match &set.screen {
        Screen::Code { user_code, address, link, from, until } => {
            let left = until.since(now).as_secs();
            let label = edge.templates.text("demo_tv", "qr");
            json!({
                "stage": "code",
                "user_code": user_code,
                "address": address.split_once("://").map_or(address.as_str(), |(_, rest)| rest),
                "href": address,
                "qr": Qr::of(link).map(|qr| qr.svg(label)),
                "left": format!("{}:{:02}", left / 60, left % 60),
                "seconds": left,
                "life": until.since(*from).as_secs(),
            })
        }
        Screen::Welcome { name } => json!({"stage": "welcome", "name": name}),
        Screen::Denied => json!({"stage": "denied"}),
        Screen::Expired => json!({"stage": "expired"}),
        Screen::Failed(why) => json!({"stage": "failed", "why": why}),
    };
    let tenant = edge.app.registry.named(&set.tenant);
    context["slug"] = Value::from(set.tenant.as_str());
    context["channel"] = tenant.map(|tenant| tenant.settings.name.clone()).into();
    let mut response = view::render(edge, StatusCode::OK, "demo_tv.html", &context);
    if matches!(set.screen, Screen::Code { .. }) {
        let refresh = HeaderValue::from_static(REFRESH);
        response.headers_mut().insert(HeaderName::from_static("refresh"), refresh);
    }
    response
}
