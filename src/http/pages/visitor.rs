use axum::http::header::{COOKIE, HeaderMap, HeaderName, ORIGIN};

use crate::http::Edge;
use crate::http::extract::Request;
use crate::keys::Ring;
use crate::model::Session;
use crate::session::{self, BrowserBinding, CookieNames, Csrf, KnownUsers, find_cookie};
use crate::storage::Result;
use crate::tenant::Tenant;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who stands before us: a browser that we may have seen before, and who is signed in at it.
pub(super) struct Visitor {
    pub(super) names: CookieNames,
    pub(super) browser: Option<BrowserBinding>,
    pub(super) session: Option<Session>,
}

impl Visitor {
    /// Reads the cookies of a request; what is not of our making is as good as absent.
    pub(super) async fn of(edge: &Edge, request: &Request, headers: &HeaderMap) -> Result<Self> {
        let tenant = &request.tenant;
        let names = CookieNames::of(tenant);
        let ring = &edge.app.services.ring;
        let browser = find_cookie(cookie_lines(headers), &names.browser())
            .and_then(|value| BrowserBinding::read(ring, &tenant.uid, value));
        let cookie = find_cookie(cookie_lines(headers), &names.session());
        let session = session::current(tenant, cookie, request.now).await?;
        Ok(Self { names, browser, session })
    }

    /// Who has signed in at this browser before.
    pub(super) fn known(&self, edge: &Edge, request: &Request, headers: &HeaderMap) -> KnownUsers {
        let cookie = find_cookie(cookie_lines(headers), &self.names.known()).unwrap_or_default();
        KnownUsers::read(&edge.app.services.ring, &request.tenant.uid, cookie, request.now)
    }

    /// The binding of this browser, and the cookie to set if it is a new one.
    pub(super) fn bound(&self, edge: &Edge, tenant: &Tenant) -> (BrowserBinding, Option<String>) {
        if let Some(browser) = &self.browser {
            return (browser.clone(), None);
        }
        let services = &edge.app.services;
        let new = BrowserBinding::generate(&services.ring, &tenant.uid, &*services.entropy);
        let cookie = self.names.set(&self.names.browser(), new.as_str(), None);
        (new, Some(cookie))
    }

    /// The maker of tokens for forms of whoever is signed in, or of nobody.
    pub(super) fn csrf<'a>(&'a self, tenant: &'a Tenant) -> Option<Csrf<'a>> {
        let browser = self.browser.as_ref()?;
        Some(match &self.session {
            Some(session) => Csrf::signed_in(&tenant.uid, browser, session.id),
            None => Csrf::anonymous(&tenant.uid, browser),
        })
    }

    /// The maker of tokens for the login form, which may be shown with or without a session.
    pub(super) fn anonymous_csrf<'a>(&'a self, tenant: &'a Tenant) -> Option<Csrf<'a>> {
        Some(Csrf::anonymous(&tenant.uid, self.browser.as_ref()?))
    }
}

fn cookie_lines(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok())
}

/// Whether a form came from a page of ours: the token of the form says so, and the browser does not
/// contradict it (ASVS 3.5.1 to 3.5.3).
pub(super) fn is_ours(
    csrf: Option<Csrf<'_>>,
    token: Option<&str>,
    ring: &Ring,
    tenant: &Tenant,
    headers: &HeaderMap,
) -> bool {
    is_same_origin(tenant.issuer(), headers)
        && csrf.zip(token).is_some_and(|(csrf, token)| csrf.accepts(ring, token))
}

/// What the browser says about where a form came from. `Sec-Fetch-Site` is decisive where it is
/// sent. `Origin: null` says nothing: pages that send no referrer, as ours, send it too.
pub(super) fn is_same_origin(own: &str, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    match headers.get(ORIGIN) {
        Some(origin) if origin != "null" => {
            let own = url::Url::parse(own).map(|url| url.origin().ascii_serialization());
            own.is_ok_and(|own| origin == own.as_str())
        }
        _ => true,
    }
}
