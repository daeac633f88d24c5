use axum::extract::State;
use axum::http::header::{COOKIE, HeaderMap, HeaderValue, ORIGIN, SET_COOKIE};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use super::view;
use crate::app::App;
use crate::fetch::Loopback;
use crate::http::extract::{Form, Query};
use crate::http::{Edge, reply};
use crate::rp::demo::{Demo, DemoError, Stage, Tokens};
use crate::token::relying;

const COOKIE_NAME: &str = "pmp_demo";

/// The app at its start, or the tokens of whoever is logged in.
pub(super) async fn home(State(edge): State<Edge>, headers: HeaderMap) -> Response {
    let Some(demo) = &edge.app.demo else { return nothing() };
    match cookie(&headers).and_then(|cookie| demo.visitor(cookie)) {
        Some(visitor) if matches!(visitor.stage, Stage::SignedIn { .. }) => {
            view::signed_in(&edge, &visitor)
        }
        _ => view::start(&edge, None),
    }
}

/// Sends the browser to a tenant to log in.
pub(super) async fn login(State(edge): State<Edge>, Query(query): Query) -> Response {
    let (app, tenant) = (&edge.app, query.get("tenant").unwrap_or_default());
    let Some(demo) = &app.demo else { return nothing() };
    let Some(tenant) = app.registry.named(tenant) else { return nothing() };
    let (cookie, url) =
        demo.begin(tenant.slug.as_str(), tenant.issuer(), &*app.entropy, app.clock.now());
    let mut response = reply::see_other(&url);
    set_cookie(&mut response, cookie.reveal(), 3600);
    response
}

/// The browser comes back, with a code or with an error.
pub(super) async fn callback(
    State(edge): State<Edge>,
    Query(query): Query,
    headers: HeaderMap,
) -> Response {
    let app = &edge.app;
    let Some(demo) = &app.demo else { return nothing() };
    let Some(cookie) = cookie(&headers) else { return view::start(&edge, Some("no cookie")) };
    let Some(visitor) = demo.visitor(cookie) else { return view::start(&edge, Some("too late")) };
    let outcome = match &visitor.stage {
        Stage::Leaving { state, nonce, verifier } => {
            // RFC 9207 §2.4 and RFC 6749 §10.12: the answer is to our question, from whom we asked.
            if query.get("state") != Some(state.as_str())
                || query.get("iss") != Some(visitor.issuer.as_str())
            {
                Err("the answer does not fit the question".to_owned())
            } else if let Some(error) = query.get("error") {
                Err(query.get("error_description").unwrap_or(error).to_owned())
            } else {
                let code = query.get("code").unwrap_or_default();
                finish(app, demo, &visitor.issuer, Opening { code, nonce, verifier }).await
            }
        }
        Stage::SignedIn { .. } => return reply::see_other("/demo"),
    };
    match outcome {
        Ok((tokens, user)) => {
            let stage = Stage::SignedIn { tokens, user, last: None };
            demo.keep(cookie, visitor.clone().at(stage), app.clock.now());
            reply::see_other("/demo")
        }
        Err(problem) => {
            demo.forget(cookie);
            view::start(&edge, Some(&problem))
        }
    }
}

struct Opening<'a> {
    code: &'a str,
    nonce: &'a str,
    verifier: &'a crate::base::Secret<String>,
}

async fn finish(
    app: &App,
    demo: &Demo,
    issuer: &str,
    opening: Opening<'_>,
) -> Result<(Tokens, Value), String> {
    let server = server(app).ok_or("the server is not on this machine")?;
    let tokens = demo.redeem(&server, issuer, opening.code, opening.verifier).await;
    let tokens = tokens.map_err(|error| error.to_string())?;
    let keys = demo.keys(&server, issuer).await.map_err(|error| error.to_string())?;
    let client = Some(crate::rp::demo::CLIENT_ID);
    let claims = relying::check(tokens.id.reveal(), &keys, issuer, client, app.clock.now());
    let claims = claims.map_err(|why| format!("the ID token is not believed: {why}"))?;
    if claims["nonce"] != opening.nonce {
        return Err("the ID token is for another log-in".to_owned());
    }
    let user = demo.userinfo(&server, issuer, &tokens).await.map_err(|error| error.to_string())?;
    Ok((tokens, user))
}

/// One of the buttons: refresh, introspect, verify, revoke.
pub(super) async fn attempt(
    State(edge): State<Edge>,
    headers: HeaderMap,
    Form(form): Form,
) -> Response {
    let app = &edge.app;
    let Some(demo) = &app.demo else { return nothing() };
    if !from_our_page(app, &headers) {
        return reply::problem(StatusCode::FORBIDDEN);
    }
    let (Some(cookie), Some(what)) = (cookie(&headers), form.get("what")) else {
        return reply::see_other("/demo");
    };
    let (Some(visitor), Some(server)) = (demo.visitor(cookie), server(app)) else {
        return reply::see_other("/demo");
    };
    let Stage::SignedIn { mut tokens, user, .. } = visitor.stage.clone() else {
        return reply::see_other("/demo");
    };
    let issuer = &visitor.issuer;
    let answer = match what {
        "refresh" => match demo.refresh(&server, issuer, &tokens).await {
            Ok(new) => {
                tokens = new;
                Ok(json!({"refreshed": true}))
            }
            Err(error) => Err(error),
        },
        "introspect" => demo.introspect(&server, issuer, &tokens).await,
        "verify" => demo.keys(&server, issuer).await.map(|keys| {
            match relying::check(tokens.access.reveal(), &keys, issuer, None, app.clock.now()) {
                Ok(claims) => json!({"signature": "good", "claims": claims}),
                Err(why) => json!({"signature": "not believed", "why": why.to_string()}),
            }
        }),
        "revoke" => demo.revoke(&server, issuer, &tokens).await.map(|_| json!({"revoked": true})),
        _ => return reply::see_other("/demo"),
    };
    let answer = answer.unwrap_or_else(|error| match error {
        DemoError::Refused(body) => body,
        other => Value::from(other.to_string()),
    });
    let stage = Stage::SignedIn { tokens, user, last: Some((what.to_owned(), answer)) };
    demo.keep(cookie, visitor.at(stage), app.clock.now());
    reply::see_other("/demo")
}

/// Forgets the visitor here and sends the browser to log out at the tenant.
pub(super) async fn logout(State(edge): State<Edge>, headers: HeaderMap) -> Response {
    let Some(demo) = &edge.app.demo else { return nothing() };
    let Some(cookie) = cookie(&headers) else { return reply::see_other("/demo") };
    let Some(visitor) = demo.visitor(cookie) else { return reply::see_other("/demo") };
    demo.forget(cookie);
    let mut response = reply::see_other(&demo.logout_url(&visitor));
    set_cookie(&mut response, "", 0);
    response
}

pub(super) fn nothing() -> Response {
    reply::problem(StatusCode::NOT_FOUND)
}

/// Our own listener, by loopback.
pub(super) fn server(app: &App) -> Option<Loopback> {
    Loopback::new(*app.listening.get()?).ok()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    cookie_named(headers, COOKIE_NAME)
}

/// The value of a cookie.
pub(super) fn cookie_named<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == wanted).then_some(value))
}

fn set_cookie(response: &mut Response, value: &str, seconds: u32) {
    let cookie =
        format!("{COOKIE_NAME}={value}; Path=/demo; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// Whether a browser says that the form stood on a page of this origin.
pub(super) fn from_our_page(app: &App, headers: &HeaderMap) -> bool {
    let own = app.settings.server.public_url.origin().ascii_serialization();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => origin.parse::<Uri>().is_ok() && origin.eq_ignore_ascii_case(&own),
        (None, None) => false,
    }
}
