//! What waits for its user, on its way through the pages: opened, sealed, sent on.

use axum::http::HeaderMap;
use axum::response::Response;

use super::authorize::{by_page, by_redirect, call};
use super::refused::{self, Back};
use super::show::{self, name_of, with_cookie};
use super::visitor::Visitor;
use crate::http::extract::Request;
use crate::http::{Edge, reply};
use crate::oauth::authorize::{self, Refused, with_query};
use crate::oauth::{device, waiting};
use crate::session::{DeviceStage, Interaction as _, OpenInteraction, PendingDevice, Waiting};

/// What waits under `txn`, or the page that says why nothing does.
pub(super) async fn open(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    visitor: &Visitor,
    txn: &str,
) -> Result<Result<Waiting, Response>, Refused> {
    let Some(browser) = &visitor.browser else {
        return Ok(Err(refused::no_cookie(edge, request, headers)));
    };
    let ring = &edge.app.services.ring;
    Ok(match Waiting::open(ring, &request.tenant.uid, browser, txn, request.now) {
        OpenInteraction::Open(waiting) => Ok(waiting),
        OpenInteraction::NotYours => Err(refused::other_browser(edge, request, headers)),
        OpenInteraction::Expired(Waiting::Authorization(pending)) => {
            let client = request.tenant.client(&pending.client).await?;
            let back = client.as_deref().filter(|client| client.enabled).and_then(Back::to);
            Err(refused::expired(edge, request, headers, back))
        }
        // The code has expired long since: another one is to be typed.
        OpenInteraction::Expired(Waiting::Device(_)) => {
            Err(reply::see_other(&show::path(&request.tenant, "/device")))
        }
    })
}

/// The endpoint where what waits under `txn` goes on, whatever it is: it alone knows the next page.
pub(super) fn resumed(request: &Request, waiting: &Waiting, txn: &str) -> Response {
    let name = match waiting {
        Waiting::Authorization(_) => "/authorize",
        Waiting::Device(_) => "/device",
    };
    reply::see_other(&with_query(&show::path(&request.tenant, name), &[("txn", txn)]))
}

/// How a browser came to us, which decides how it may be sent to another site.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// By GET: a redirect will do.
    ByLink,
    /// With a form of ours.
    ByForm,
}

/// Goes on with what waits.
pub(super) async fn resume(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    waiting: Waiting,
    came: Came,
) -> Result<Response, Refused> {
    let pending = match waiting {
        Waiting::Authorization(pending) => pending,
        Waiting::Device(pending) => return Ok(device_page(edge, request, visitor, pending)),
    };
    let call = call(edge, request);
    let client = authorize::client(&call, &pending).await?;
    let answer = authorize::resume(&call, *pending, visitor.session.as_ref()).await?;
    Ok(match came {
        Came::ByLink => by_redirect(edge, request, visitor, answer),
        Came::ByForm => by_page(edge, request, visitor, &name_of(&client), answer),
    })
}

/// Sends the browser to the page that comes next for a device.
pub(super) fn device_page(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    pending: PendingDevice,
) -> Response {
    let name = match device::next(&pending, visitor.session.as_ref()) {
        device::Step::Enter => return entry(request, &pending),
        device::Step::Card => "/device/card",
        device::Step::Login => "/login",
        device::Step::Decide => "/device/decision",
    };
    to(edge, request, visitor, name, &Waiting::Device(pending))
}

/// The page to enter a code, with what was typed before; it is still to be sent by hand.
fn entry(request: &Request, pending: &PendingDevice) -> Response {
    let path = show::path(&request.tenant, "/device");
    match &pending.stage {
        DeviceStage::Entering { typed: Some(code) } => {
            reply::see_other(&with_query(&path, &[("user_code", &code.to_string())]))
        }
        _ => reply::see_other(&path),
    }
}

/// Sends the browser to the page `name` with what waits.
pub(super) fn to(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    name: &str,
    waiting: &Waiting,
) -> Response {
    let tenant = &request.tenant;
    let (browser, cookie) = visitor.bound(edge, tenant);
    let services = &edge.app.services;
    let txn = waiting.seal(&services.ring, &tenant.uid, &browser, &*services.entropy);
    let url = with_query(&show::path(tenant, name), &[("txn", &txn)]);
    with_cookie(reply::see_other(&url), cookie.as_deref())
}

/// The application that waits, by name; none when no code was found yet.
pub(super) async fn client_of(
    edge: &Edge,
    request: &Request,
    waiting: &Waiting,
) -> Result<Option<std::sync::Arc<crate::model::Client>>, Refused> {
    waiting::client(&call(edge, request), waiting).await
}
