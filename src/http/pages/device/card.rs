use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::{deny, ended, open, view};
use crate::http::Edge;
use crate::http::extract::{Form, Query, Request};
use crate::http::pages::authorize::{call, nothing_waits};
use crate::http::pages::refused;
use crate::http::pages::visitor::{Visitor, is_ours};
use crate::http::pages::waiting;
use crate::oauth::authorize::Refused;
use crate::oauth::device::decision::{Standing, standing};
use crate::oauth::device::{Step, next};
use crate::session::{DeviceStage, Waiting};

/// `GET {issuer}/device/card?txn=…`: who asks and for what, before anyone signs in.
pub(in crate::http) async fn get(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    Query(params): Query,
) -> Response {
    let Some(txn) = params.get("txn") else { return nothing_waits(&edge, &request, &headers) };
    let shown = show(&edge, &request, &headers, txn).await;
    shown.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

async fn show(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    txn: &str,
) -> Result<Response, Refused> {
    let visitor = Visitor::of(edge, request, headers).await?;
    let pending = match open(edge, request, headers, &visitor, txn).await? {
        Ok(pending) => pending,
        Err(response) => return Ok(response),
    };
    let session = visitor.session.as_ref();
    let DeviceStage::Card(device) = &pending.stage else {
        return Ok(waiting::resumed(request, &Waiting::Device(pending), txn));
    };
    let call = call(edge, request);
    let Standing::Open(record) = standing(&call, &device.digest, session).await? else {
        return ended(edge, request, &visitor, device).await;
    };
    let asked = view::Asked::of(edge, request, device, &record).await?;
    Ok(asked.card(edge, request, &visitor, txn))
}

/// `POST {issuer}/device/card`: the user goes on, or did not start this.
pub(in crate::http) async fn post(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    Form(params): Form,
) -> Response {
    let Some(txn) = params.get("txn") else { return nothing_waits(&edge, &request, &headers) };
    let goes_on = params.get("decision") == Some("continue");
    let done = go_on(&edge, &request, &headers, (txn, params.get("csrf")), goes_on).await;
    done.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

async fn go_on(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    (txn, token): (&str, Option<&str>),
    goes_on: bool,
) -> Result<Response, Refused> {
    let visitor = Visitor::of(edge, request, headers).await?;
    let (tenant, ring) = (&request.tenant, &edge.app.services.ring);
    if !is_ours(visitor.anonymous_csrf(tenant), token, ring, tenant, headers) {
        return Ok(refused::forged(edge, request, headers, None));
    }
    let mut pending = match open(edge, request, headers, &visitor, txn).await? {
        Ok(pending) => pending,
        Err(response) => return Ok(response),
    };
    if next(&pending, visitor.session.as_ref()) == Step::Card
        && let DeviceStage::Card(device) = &pending.stage
    {
        if !goes_on {
            return deny(edge, request, &visitor, device).await;
        }
        pending.stage = DeviceStage::Deciding(device.clone());
    }
    Ok(waiting::device_page(edge, request, &visitor, pending))
}
