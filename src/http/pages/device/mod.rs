//! The user's side of the device flow (RFC 8628 §3.3): the code is entered, the card of who asks is
//! looked at, someone signs in and decides, and goes back to the device.
//!
//! GET only shows. Which page comes next is `oauth::device`'s to say.

mod card;
mod decision;
mod entry;
mod short;
mod view;

pub(in crate::http) use card::{get as card, post as card_post};
pub(in crate::http) use decision::{get as decision, post as decision_post};
pub(in crate::http) use entry::{get, post};
pub(in crate::http) use short::{get as short, post as short_post};

use axum::http::HeaderMap;
use axum::response::Response;

use self::entry::EntryPage;
use super::authorize::call;
use super::show::name_of;
use super::visitor::Visitor;
use super::waiting;
use crate::http::Edge;
use crate::http::extract::Request;
use crate::oauth::authorize::Refused;
use crate::oauth::device::decision::{Standing, deny as deny_device, standing};
use crate::session::{KnownDevice, PendingDevice, Waiting};
use crate::storage::DecideDevice;

/// The user does not sign in: whoever has the code and does not want it ends it.
pub(super) async fn turn_away(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    pending: &PendingDevice,
) -> Result<Response, Refused> {
    match pending.device() {
        Some(device) => deny(edge, request, visitor, device).await,
        None => Ok(EntryPage::default().show(edge, request, visitor)),
    }
}

/// The device that waits under `txn`, or the answer where there is none.
async fn open(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    visitor: &Visitor,
    txn: &str,
) -> Result<Result<PendingDevice, Response>, Refused> {
    Ok(match waiting::open(edge, request, headers, visitor, txn).await? {
        Ok(Waiting::Device(pending)) => Ok(pending),
        Ok(other) => Err(waiting::resumed(request, &other, txn)),
        Err(response) => Err(response),
    })
}

/// Somebody says no.
async fn deny(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    device: &KnownDevice,
) -> Result<Response, Refused> {
    let call = call(edge, request);
    let decided = deny_device(&call, &device.digest, visitor.session.as_ref()).await?;
    if decided == DecideDevice::Decided {
        edge.app.metrics.device("denied");
        return Ok(view::denied(edge, request));
    }
    ended(edge, request, visitor, device).await
}

/// The page for a device about which there is nothing to decide any more.
async fn ended(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    device: &KnownDevice,
) -> Result<Response, Refused> {
    let session = visitor.session.as_ref();
    Ok(match standing(&call(edge, request), &device.digest, session).await? {
        Standing::Allowed => {
            let client = request.tenant.client(&device.client).await?;
            let name = client.map_or_else(|| device.client.to_string(), |client| name_of(&client));
            view::allowed(edge, request, &name)
        }
        Standing::Denied => view::denied(edge, request),
        // Undecided only if it was lost in a race: the user may look again.
        Standing::Gone | Standing::Open(_) => {
            EntryPage::dead(&device.code.to_string()).show(edge, request, visitor)
        }
    })
}
