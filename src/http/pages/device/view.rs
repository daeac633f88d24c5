use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use minijinja::context;
use minijinja::value::{Serde, Value};

use crate::base::Timestamp;
use crate::http::Edge;
use crate::http::extract::Request;
use crate::http::pages::show::{Frame, name_of, plain};
use crate::http::pages::visitor::Visitor;
use crate::http::pages::waiting::client_of;
use crate::http::pages::words::InWords;
use crate::model::device::DeviceRecord;
use crate::model::{Client, User};
use crate::oauth::authorize::{PageCause, Refused};
use crate::session::{DeviceStage, KnownDevice, PendingDevice, Waiting};

/// As much of a user agent is shown.
const AGENT_LENGTH: usize = 120;

/// What a device asks for, and who it says it is.
pub(super) struct Asked<'a> {
    device: &'a KnownDevice,
    record: &'a DeviceRecord,
    client: Arc<Client>,
}

impl<'a> Asked<'a> {
    pub(super) async fn of(
        edge: &Edge,
        request: &Request,
        device: &'a KnownDevice,
        record: &'a DeviceRecord,
    ) -> Result<Self, Refused> {
        let stage = DeviceStage::Card(device.clone());
        let waits = Waiting::Device(PendingDevice::begin(stage, request.now));
        let client = client_of(edge, request, &waits).await?;
        let client = client.ok_or(Refused::Page(PageCause::UnknownClient))?;
        Ok(Self { device, record, client })
    }

    /// Before login: who asks, and for what. Nothing that a stranger with the code alone should
    /// learn about the device.
    pub(super) fn card(
        &self,
        edge: &Edge,
        request: &Request,
        visitor: &Visitor,
        txn: &str,
    ) -> Response {
        let frame = Frame::of(edge, request);
        let csrf = visitor.anonymous_csrf(&request.tenant);
        let page = context! {
            action => frame.path("/device/card"),
            csrf => csrf.map(|csrf| csrf.issue(&edge.app.services.ring)),
            txn,
            ..self.in_words(&frame, request)
        };
        frame.show(StatusCode::OK, "device_card.html", page)
    }

    /// After login: everything that is known.
    pub(super) fn decision(
        &self,
        edge: &Edge,
        request: &Request,
        visitor: &Visitor,
        (txn, user): (&str, &User),
    ) -> Response {
        let frame = Frame::of(edge, request);
        let csrf = visitor.csrf(&request.tenant);
        let record = self.record;
        let place = record.requested_ip.as_deref().and_then(|ip| ip.parse().ok()).map(roughly);
        let agent = record.requested_user_agent.as_deref();
        let agent = agent.map(|agent| plain(agent, AGENT_LENGTH)).filter(|text| !text.is_empty());
        let page = context! {
            user => context! { name => user.display_name(), email => user.email.as_str() },
            requested => context! {
                ago => ago(&frame, record.created_at, request.now),
                at => record.created_at.to_chrono().format("%-d %b %Y, %H:%M UTC").to_string(),
                // A server's own address says nothing about where its user is.
                place => place.filter(|_| !record.terms.confidential),
                server => record.terms.confidential,
                agent => agent.filter(|_| !record.terms.confidential),
            },
            action => frame.path("/device/decision"),
            csrf => csrf.map(|csrf| csrf.issue(&edge.app.services.ring)),
            txn,
            ..self.in_words(&frame, request)
        };
        frame.show(StatusCode::OK, "device_decision.html", page)
    }

    /// What both pages say.
    fn in_words(&self, frame: &Frame<'_>, request: &Request) -> Value {
        let record = self.record;
        let asked = InWords::of(frame, request, &record.scope, &record.resources);
        context! {
            client => context! {
                name => name_of(&self.client),
                policy_uri => self.client.policy_uri.as_deref(),
                tos_uri => self.client.tos_uri.as_deref(),
                // It named itself and proved nothing (RFC 8628 §5.6).
                unverified => !record.terms.confidential,
            },
            code => self.device.code.to_string(),
            scopes => Value::from(Serde(&asked.scopes)),
            resources => asked.resources,
        }
    }
}

/// The user allowed it.
pub(super) fn allowed(edge: &Edge, request: &Request, client: &str) -> Response {
    let page = context! { state => "allowed", client };
    Frame::of(edge, request).show(StatusCode::OK, "device_done.html", page)
}

/// Somebody denied it.
pub(super) fn denied(edge: &Edge, request: &Request) -> Response {
    let page = context! { state => "denied", client => () };
    Frame::of(edge, request).show(StatusCode::OK, "device_done.html", page)
}

/// How long ago, in words.
fn ago(frame: &Frame<'_>, then: Timestamp, now: Timestamp) -> String {
    match now.since(then).as_secs() / 60 {
        0 => frame.text("device", "ago_now").to_owned(),
        1 => frame.text("device", "ago_minute").to_owned(),
        many => frame.text("device", "ago_minutes").replace("{count}", &many.to_string()),
    }
}

/// Roughly where an address is: its network, a /24 or a /48.
fn roughly(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(ip) => {
            format!("{}/48", Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::roughly;

    #[test]
    fn a_place_is_no_more_exact_than_a_network() {
        let of = |ip: &str| roughly(ip.parse().unwrap());
        assert_eq!(of("203.0.113.77"), "203.0.113.0/24");
        assert_eq!(of("::ffff:203.0.113.77"), "203.0.113.0/24");
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1::/48");
    }
}
