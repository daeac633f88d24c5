use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use minijinja::context;
use minijinja::value::{Serde, Value};

use super::authorize::call;
use super::kept::{keep, take};
use super::refused::{self, Back};
use super::show::{self, Frame, name_of, with_cookie};
use super::visitor::{Visitor, is_ours};
use crate::http::extract::{Request, is_form};
use crate::http::{Edge, reply};
use crate::oauth::authorize::{PageCause, Refused, with_query};
use crate::oauth::{InvalidParams, Params};
use crate::oidc::logout;
use crate::session::{self, Interaction as _, LogoutRequest, OpenInteraction};

/// `GET {issuer}/logout` (OpenID Connect RP-Initiated Logout §2): asks whether it is meant.
pub(in crate::http) async fn get(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let asked = asked(&edge, &request, &headers, &query.unwrap_or_default()).await;
    asked.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

async fn asked(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    query: &str,
) -> Result<Response, Refused> {
    let mut params = read(query.as_bytes());
    if let Some(id) = params.get("pushed") {
        params = take(request, id).await?.map(|text| read(text.as_bytes())).unwrap_or_default();
    }
    let asked = logout::read(&call(edge, request), &params).await?;
    let visitor = Visitor::of(edge, request, headers).await?;
    let user = match &visitor.session {
        Some(session) => request.tenant.store.find_user(session.user).await?,
        None => None,
    };
    let Some(user) = user else { return ended(edge, request, &asked, "nobody").await };
    let (browser, cookie) = visitor.bound(edge, &request.tenant);
    let services = &edge.app.services;
    let txn = asked.seal(&services.ring, &request.tenant.uid, &browser, &*services.entropy);
    let visitor = Visitor { browser: Some(browser), ..visitor };
    let frame = Frame::of(edge, request);
    let csrf = visitor.csrf(&request.tenant).map(|csrf| csrf.issue(&services.ring));
    let page = context! {
        user => context! { name => user.display_name() },
        action => frame.path("/logout"),
        csrf,
        txn,
    };
    Ok(with_cookie(frame.show(StatusCode::OK, "logout.html", page), cookie.as_deref()))
}

/// `POST {issuer}/logout`: our own form confirms; any other asks, and comes round by GET so that the
/// cookies come along.
pub(in crate::http) async fn post(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = Params::parse(&body).unwrap_or_default();
    let done = match (params.get("txn"), params.get("csrf")) {
        (Some(txn), Some(token)) => {
            let leaves = params.get("decision") == Some("logout");
            confirmed(&edge, &request, &headers, txn, token, leaves).await
        }
        _ => push(&edge, &request, &headers, &body).await,
    };
    done.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

async fn push(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Refused> {
    if !is_form(headers) {
        return Err(Refused::Page(PageCause::Params(InvalidParams::Malformed)));
    }
    let params = read(body);
    let path = show::path(&request.tenant, "/logout");
    if logout::PARAMETERS.iter().all(|name| params.get(name).is_none()) {
        return Ok(reply::see_other(&path));
    }
    let id = keep(edge, request, &params, &logout::PARAMETERS).await?;
    Ok(reply::see_other(&with_query(&path, &[("pushed", &id)])))
}

/// A parameter that comes twice or cannot be read is left out: signing out works all the same.
fn read(text: &[u8]) -> Params {
    Params::parse_unrepeated(text).map(|(params, _)| params).unwrap_or_default()
}

async fn confirmed(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    txn: &str,
    token: &str,
    leaves: bool,
) -> Result<Response, Refused> {
    let visitor = Visitor::of(edge, request, headers).await?;
    let tenant = &request.tenant;
    let Some(browser) = &visitor.browser else {
        return Ok(refused::forged(edge, request, headers, None));
    };
    let ring = &edge.app.services.ring;
    let asked = match LogoutRequest::open(ring, &tenant.uid, browser, txn, request.now) {
        OpenInteraction::Open(asked) => asked,
        OpenInteraction::Expired(_) => {
            return Ok(refused::expired(edge, request, headers, None));
        }
        OpenInteraction::NotYours => return Ok(refused::forged(edge, request, headers, None)),
    };
    let Some(session) = &visitor.session else {
        return ended(edge, request, &asked, "nobody").await;
    };
    if !is_ours(visitor.csrf(tenant), Some(token), ring, tenant, headers) {
        return Ok(refused::forged(edge, request, headers, None));
    }
    if !leaves {
        return Ok(Frame::of(edge, request).show(
            StatusCode::OK,
            "logged_out.html",
            context! { state => "stayed", back => Value::UNDEFINED },
        ));
    }
    // Ended now or before: either way it is over.
    let _ = session::end(tenant, session.id, request.now, &request.audit).await?;
    let clear = visitor.names.clear(&visitor.names.session());
    let response = match (logout::target(&asked), client_of(request, &asked).await?) {
        (Some(url), Some(client)) => Frame::of(edge, request).go_on(&url, &client),
        _ => ended(edge, request, &asked, "done").await?,
    };
    Ok(with_cookie(response, Some(&clear)))
}

/// The page after it: with a way back where the application is known. Where nobody was signed in
/// and an ID token proves that the application asks, there is nothing to confirm and nothing to say.
async fn ended(
    edge: &Edge,
    request: &Request,
    asked: &LogoutRequest,
    state: &str,
) -> Result<Response, Refused> {
    let url = logout::target(asked);
    if let (Some(url), true) = (&url, asked.hinted && state == "nobody") {
        return Ok(reply::see_other(url));
    }
    let back = url.zip(client_of(request, asked).await?).map(|(url, client)| Back { url, client });
    let page = context! { state, back => Value::from(Serde(&back)) };
    Ok(Frame::of(edge, request).show(StatusCode::OK, "logged_out.html", page))
}

async fn client_of(
    request: &Request,
    asked: &LogoutRequest,
) -> crate::storage::Result<Option<String>> {
    let Some(id) = &asked.client else { return Ok(None) };
    let client = request.tenant.client(id).await?;
    Ok(client.map(|client| name_of(&client)))
}
