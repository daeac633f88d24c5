use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::{deny, ended, open, view};
use crate::http::Edge;
use crate::http::extract::{Form, Query, Request};
use crate::http::pages::authorize::{call, nothing_waits};
use crate::http::pages::refused;
use crate::http::pages::show::name_of;
use crate::http::pages::visitor::{Visitor, is_ours};
use crate::http::pages::waiting::{self, client_of};
use crate::model::Session;
use crate::oauth::authorize::Refused;
use crate::oauth::device::decision::{Standing, approve, standing};
use crate::oauth::device::{Step, next};
use crate::session::{DeviceStage, KnownDevice, PendingDevice, Waiting};
use crate::storage::DecideDevice;

/// `GET {issuer}/device/decision?txn=…`: asks whether the device may. This is the consent; it is
/// asked each time.
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
    let Some((device, session)) = deciding(&pending, &visitor) else {
        return Ok(waiting::resumed(request, &Waiting::Device(pending), txn));
    };
    let call = call(edge, request);
    let Standing::Open(record) = standing(&call, &device.digest, Some(session)).await? else {
        return ended(edge, request, &visitor, device).await;
    };
    let Some(user) = request.tenant.store.find_user(session.user).await? else {
        return Ok(waiting::resumed(request, &Waiting::Device(pending), txn));
    };
    let asked = view::Asked::of(edge, request, device, &record).await?;
    Ok(asked.decision(edge, request, &visitor, (txn, &user)))
}

/// The device and the session that decides about it, if that is what comes next.
fn deciding<'p, 'v>(
    pending: &'p PendingDevice,
    visitor: &'v Visitor,
) -> Option<(&'p KnownDevice, &'v Session)> {
    let session = visitor.session.as_ref()?;
    match &pending.stage {
        DeviceStage::Deciding(device) if next(pending, Some(session)) == Step::Decide => {
            Some((device, session))
        }
        _ => None,
    }
}

/// `POST {issuer}/device/decision`: the user decides.
pub(in crate::http) async fn post(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    Form(params): Form,
) -> Response {
    let Some(txn) = params.get("txn") else { return nothing_waits(&edge, &request, &headers) };
    let decision = match params.get("decision") {
        Some("allow") => Decision::Allow,
        Some("other") => Decision::Other,
        // Nothing but a clear yes is a yes.
        _ => Decision::Deny,
    };
    let done = decide(&edge, &request, &headers, (txn, params.get("csrf")), decision).await;
    done.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

#[derive(Clone, Copy)]
enum Decision {
    Allow,
    Deny,
    /// Someone else wants to sign in.
    Other,
}

async fn decide(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    (txn, token): (&str, Option<&str>),
    decision: Decision,
) -> Result<Response, Refused> {
    let visitor = Visitor::of(edge, request, headers).await?;
    let (tenant, ring) = (&request.tenant, &edge.app.services.ring);
    // Before any sign-in, or after it ended, nobody is there to decide.
    let by_user = visitor.session.is_some();
    if !by_user || !is_ours(visitor.csrf(tenant), token, ring, tenant, headers) {
        return Ok(refused::forged(edge, request, headers, None));
    }
    let mut pending = match open(edge, request, headers, &visitor, txn).await? {
        Ok(pending) => pending,
        Err(response) => return Ok(response),
    };
    let Some((device, session)) = deciding(&pending, &visitor) else {
        return Ok(waiting::device_page(edge, request, &visitor, pending));
    };
    match decision {
        Decision::Allow => match allow(edge, request, &visitor, (device, session)).await? {
            Some(response) => Ok(response),
            None => Ok(waiting::device_page(edge, request, &visitor, pending)),
        },
        Decision::Deny => deny(edge, request, &visitor, device).await,
        Decision::Other => {
            pending.ask_for_another(session, request.now);
            Ok(waiting::device_page(edge, request, &visitor, pending))
        }
    }
}

/// None when the session ended at this very moment: someone has to sign in again.
async fn allow(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    (device, session): (&KnownDevice, &Session),
) -> Result<Option<Response>, Refused> {
    let call = call(edge, request);
    let stage = DeviceStage::Deciding(device.clone());
    let waits = Waiting::Device(PendingDevice::begin(stage, request.now));
    let client = client_of(edge, request, &waits).await?;
    let standing = standing(&call, &device.digest, Some(session)).await?;
    let (Standing::Open(record), Some(client)) = (standing, client) else {
        return ended(edge, request, visitor, device).await.map(Some);
    };
    match approve(&call, &device.digest, &record, &client, session).await? {
        DecideDevice::Decided => {
            edge.app.metrics.device("approved");
            Ok(Some(view::allowed(edge, request, &name_of(&client))))
        }
        DecideDevice::NotLive => Ok(None),
        DecideDevice::AlreadyDecided | DecideDevice::Expired | DecideDevice::Unknown => {
            ended(edge, request, visitor, device).await.map(Some)
        }
    }
}
