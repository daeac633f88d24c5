use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::kept::{keep, take};
use super::refused;
use super::show::{self, Frame};
use super::visitor::Visitor;
use super::waiting::{self, Came};
use crate::http::extract::{Request, is_form};
use crate::http::{Edge, reply};
use crate::oauth::authorize::{self, Answer, Page, PageCause, Refused, with_query};
use crate::oauth::{Call, InvalidParams, Params};
use crate::session::{PendingAuthorization, Waiting};

/// `GET {issuer}/authorize` (OpenID Connect Core §3.1.2.1): a new request, one that came by a POST
/// from elsewhere (`pushed`), or one that waited for its user (`txn`).
pub(in crate::http) async fn get(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let ours = Params::parse(query.as_bytes()).unwrap_or_default();
    let done = match (ours.get("client_id"), ours.get("pushed"), ours.get("txn")) {
        (None, Some(id), _) => match take(&request, id).await {
            Ok(Some(text)) => begin(&edge, &request, &headers, text.as_bytes()).await,
            Ok(None) => return refused::expired(&edge, &request, &headers, None),
            Err(refused) => Err(refused),
        },
        (None, None, Some(txn)) => resume(&edge, &request, &headers, txn).await,
        _ => begin(&edge, &request, &headers, query.as_bytes()).await,
    };
    done.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

/// `POST {issuer}/authorize`. A form from another site comes without our cookies; so a request that
/// may be put before its user is kept for a minute under an id that is good once, and the browser
/// sent to the same endpoint by GET, where the cookies come along.
pub(in crate::http) async fn post(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let done = push(&edge, &request, &headers, &body).await;
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
    let asked = authorize::Request::parse(body).map_err(Refused::Page)?;
    if let Some(url) = authorize::refuse_early(&call(edge, request), &asked).await? {
        return Ok(reply::see_other(&url));
    }
    let id = keep(edge, request, asked.params(), &authorize::PARAMETERS).await?;
    let path = show::path(&request.tenant, "/authorize");
    Ok(reply::see_other(&with_query(&path, &[("pushed", &id)])))
}

async fn begin(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    text: &[u8],
) -> Result<Response, Refused> {
    let asked = authorize::Request::parse(text).map_err(Refused::Page)?;
    let visitor = Visitor::of(edge, request, headers).await?;
    let answer = authorize::begin(&call(edge, request), &asked, visitor.session.as_ref()).await?;
    Ok(by_redirect(edge, request, &visitor, answer))
}

async fn resume(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    txn: &str,
) -> Result<Response, Refused> {
    let visitor = Visitor::of(edge, request, headers).await?;
    match waiting::open(edge, request, headers, &visitor, txn).await? {
        Ok(waiting) => waiting::resume(edge, request, &visitor, waiting, Came::ByLink).await,
        Err(response) => Ok(response),
    }
}

/// The authorization that waits under `txn`, or the answer where there is none.
pub(super) async fn open(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    visitor: &Visitor,
    txn: &str,
) -> Result<Result<PendingAuthorization, Response>, Refused> {
    Ok(match waiting::open(edge, request, headers, visitor, txn).await? {
        Ok(Waiting::Authorization(pending)) => Ok(*pending),
        Ok(other) => Err(waiting::resumed(request, &other, txn)),
        Err(response) => Err(response),
    })
}

/// What every part of the protocol knows about a request.
pub(super) fn call<'a>(edge: &'a Edge, request: &'a Request) -> Call<'a> {
    Call {
        services: &edge.app.services,
        tenant: &request.tenant,
        now: request.now,
        audit: &request.audit,
    }
}

/// Tells a browser that came by GET what to do: always by 303 (RFC 9700 §4.12).
pub(super) fn by_redirect(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    answer: Answer,
) -> Response {
    match answer {
        Answer::Redirect(url) => reply::see_other(&url),
        Answer::Ask(page, pending) => ask(edge, request, visitor, page, pending),
    }
}

/// Tells a browser that sent a form of ours what to do.
pub(super) fn by_page(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    client: &str,
    answer: Answer,
) -> Response {
    match answer {
        Answer::Redirect(url) => Frame::of(edge, request).go_on(&url, client),
        Answer::Ask(page, pending) => ask(edge, request, visitor, page, pending),
    }
}

fn ask(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    page: Page,
    pending: Box<PendingAuthorization>,
) -> Response {
    let name = match page {
        Page::Login | Page::Reauthenticate => "/login",
        Page::Consent => "/consent",
    };
    waiting::to(edge, request, visitor, name, &Waiting::Authorization(pending))
}

/// A page was asked for without saying for what: nothing began that it could go on with.
pub(super) fn nothing_waits(edge: &Edge, request: &Request, headers: &HeaderMap) -> Response {
    let refusal = refused::Refusal { key: "nothing", fix: Some("start"), ..Default::default() };
    refused::refuse(edge, request, headers, StatusCode::BAD_REQUEST, &refusal)
}
