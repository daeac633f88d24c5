use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use minijinja::context;

use crate::http::Edge;
use crate::http::extract::{Form, Query, Request};
use crate::http::pages::authorize::call;
use crate::http::pages::refused;
use crate::http::pages::show::{Frame, with_cookie};
use crate::http::pages::visitor::{Visitor, is_ours};
use crate::http::pages::waiting::{self, Came};
use crate::model::UserId;
use crate::model::device::UserCode;
use crate::oauth::authorize::Refused;
use crate::oauth::device::decision::{Lookup, find, viewed};
use crate::oauth::device::guesses::{self, Budget, Guesser, Reached};
use crate::session::{Csrf, DeviceStage, PendingDevice};

/// `GET {issuer}/device` (RFC 8628 §3.3): the field for the code, filled in with `user_code`
/// (§3.3.1), or the way on with what waits under `txn`.
pub(in crate::http) async fn get(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    Query(params): Query,
) -> Response {
    let shown = async {
        let visitor = Visitor::of(&edge, &request, &headers).await?;
        if let Some(txn) = params.get("txn") {
            return match waiting::open(&edge, &request, &headers, &visitor, txn).await? {
                Ok(waits) => waiting::resume(&edge, &request, &visitor, waits, Came::ByLink).await,
                Err(response) => Ok(response),
            };
        }
        let page = EntryPage::filled_in(params.get("user_code"));
        Ok(page.show(&edge, &request, &visitor))
    };
    let shown: Result<Response, Refused> = shown.await;
    shown.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

/// `POST {issuer}/device`: a code was typed.
pub(in crate::http) async fn post(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    Form(params): Form,
) -> Response {
    let typed = params.get("user_code").unwrap_or_default();
    let done = enter(&edge, &request, &headers, params.get("csrf"), typed).await;
    done.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

async fn enter(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    token: Option<&str>,
    typed: &str,
) -> Result<Response, Refused> {
    let visitor = Visitor::of(edge, request, headers).await?;
    let (tenant, services) = (&request.tenant, &edge.app.services);
    let Some(browser) = &visitor.browser else {
        let response = match token {
            Some(_) => refused::no_cookie(edge, request, headers),
            None => refused::forged(edge, request, headers, None),
        };
        return Ok(refused::with_status(response, StatusCode::FORBIDDEN));
    };
    if !is_ours(visitor.anonymous_csrf(tenant), token, &services.ring, tenant, headers) {
        return Ok(refused::forged(edge, request, headers, None));
    }
    let code = UserCode::parse(typed);
    let session = visitor.session.as_ref();
    let user = session.map(|session| session.user);
    let guesser = Guesser { browser: Some(browser.as_str()), user, peer: request.peer };
    let counted = match guesses::count(services, Some(&tenant.uid), &guesser, request.now).await? {
        Budget::Counted(counted) => counted,
        Budget::TooOften(often) => return Err(Refused::TooOften(often)),
        Budget::SignInFirst => {
            let pending = PendingDevice::begin(DeviceStage::Entering { typed: code }, request.now);
            return Ok(waiting::device_page(edge, request, &visitor, pending));
        }
    };
    let call = call(edge, request);
    match find(&call, code.as_ref()).await? {
        Lookup::Pending(device, record) => {
            counted.right().await?;
            viewed(&call, &record, session);
            edge.app.metrics.device("viewed");
            let pending = PendingDevice::begin(DeviceStage::Card(device), request.now);
            Ok(waiting::device_page(edge, request, &visitor, pending))
        }
        Lookup::Denied => {
            counted.right().await?;
            Ok(super::view::denied(edge, request))
        }
        Lookup::Dead(why) => {
            let reached = counted.wrong().await?;
            guesses::record(&call, user, why, reached);
            guessed(edge, reached);
            Ok(EntryPage::dead(typed).show(edge, request, &visitor))
        }
    }
}

/// Counts a wrong code in the metrics.
pub(super) fn guessed(edge: &Edge, reached: Reached) {
    edge.app.metrics.device("guessed");
    if reached != Reached::Nothing {
        edge.app.metrics.device("guessing");
    }
}

/// The page with the field for the code. It is also the one page for a code that does not work,
/// whatever is wrong with it.
#[derive(Default)]
pub(super) struct EntryPage {
    typed: String,
    filled_in: bool,
    dead: bool,
}

impl EntryPage {
    /// With a code that came along in the address; it is still to be sent by hand.
    pub(super) fn filled_in(user_code: Option<&str>) -> Self {
        let typed = user_code
            .map(|text| UserCode::parse(text).map_or_else(String::new, |code| code.to_string()));
        let typed = typed.unwrap_or_default();
        Self { filled_in: !typed.is_empty(), typed, dead: false }
    }

    /// After a code that does not work.
    pub(super) fn dead(typed: &str) -> Self {
        let code = UserCode::parse(typed).map(|code| code.to_string());
        let typed = code.unwrap_or_else(|| typed.chars().take(32).collect());
        Self { typed, filled_in: false, dead: true }
    }

    pub(super) fn show(&self, edge: &Edge, request: &Request, visitor: &Visitor) -> Response {
        let tenant = &request.tenant;
        let (browser, cookie) = visitor.bound(edge, tenant);
        let csrf = Csrf::anonymous(&tenant.uid, &browser).issue(&edge.app.services.ring);
        let frame = Frame::of(edge, request);
        let page = self.context(&frame.path("/device"), Some(&csrf));
        with_cookie(frame.show(self.status(), "device.html", page), cookie.as_deref())
    }

    pub(super) fn status(&self) -> StatusCode {
        if self.dead { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }
    }

    /// What the template is given.
    pub(super) fn context(&self, action: &str, csrf: Option<&str>) -> minijinja::Value {
        context! {
            typed => self.typed.as_str(),
            filled_in => self.filled_in,
            dead => self.dead,
            action,
            csrf,
        }
    }
}

/// Who asks, at an address that no tenant has.
pub(super) fn stranger(peer: std::net::IpAddr) -> Guesser<'static> {
    Guesser { browser: None, user: None::<UserId>, peer }
}
