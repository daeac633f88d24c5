use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::BrowserBinding;
use crate::base::{Entropy, Timestamp, base64url};
use crate::keys::{OpenError, Ring};
use crate::model::{ClientId, Scope, SessionId, TenantUid};

/// An authorization request that was validated and waits for its user. It travels in the address
/// of our own pages, sealed for one tenant and one browser: nobody can read, change or take it
/// elsewhere, and the code that comes out of it is bound to what was asked when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingAuthorization {
    /// Who asks.
    pub client: ClientId,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// Whether the request named it (RFC 6749 §4.1.3).
    pub redirect_uri_sent: bool,
    /// `state`, to be given back as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What is asked for.
    pub scope: Scope,
    /// For which resources (RFC 8707); none means the tenant's default audience.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// The S256 challenge (RFC 7636 §4.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_challenge: Option<String>,
    /// `nonce`, for the ID token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// `claims` (OpenID Connect Core §5.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Value>,
    /// `login_hint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_hint: Option<String>,
    /// The `sub` that must be the one who signs in: from `id_token_hint`, or asked for in `claims`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// A session that signed in before this must not be used: the time of the request when that or
    /// the user wants a new sign-in, and so long before it as `max_age` allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_in_after: Option<Timestamp>,
    /// Nor must this one, whenever it signed in: it was there when a new sign-in was wanted, perhaps
    /// for a millisecond less than can be told, or it is not of whom the request means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_session: Option<SessionId>,
    /// Whether that is because someone else may want to sign in: `prompt=select_account`, or the
    /// user said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub another_account: bool,
    /// `prompt=consent`: ask even if it was allowed before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ask_consent: bool,
    /// When the request came.
    pub began_at: Timestamp,
}

/// A logout request that waits for its user to confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoutRequest {
    /// The application that asks, as far as it is known.
    pub client: Option<ClientId>,
    /// Where the browser goes afterwards: registered for that application.
    pub redirect_uri: Option<String>,
    /// `state`, to be given back.
    pub state: Option<String>,
    /// Whether an ID token of ours came along: then it is known that the application asks.
    pub hinted: bool,
    /// When the request came.
    pub began_at: Timestamp,
}

/// Something that waits for a user, sealed for one browser.
pub trait Interaction: Serialize + DeserializeOwned {
    /// Tells the kinds apart; part of what the seal is bound to.
    const KIND: &'static str;

    /// It is given up after this.
    const LIFETIME: Duration = Duration::from_mins(30);

    /// When it began.
    fn began_at(&self) -> Timestamp;

    /// Seals it for `browser`: the text of `txn`.
    fn seal(
        &self,
        ring: &Ring,
        tenant: &TenantUid,
        browser: &BrowserBinding,
        entropy: &dyn Entropy,
    ) -> String {
        // The types above always serialise.
        let plain = serde_json::to_vec(self).unwrap_or_default();
        let sealed = ring.seal(&place(Self::KIND, tenant, browser), &plain, entropy);
        base64url::encode(sealed)
    }

    /// Opens `txn` for `browser` at `now`.
    fn open(
        ring: &Ring,
        tenant: &TenantUid,
        browser: &BrowserBinding,
        txn: &str,
        now: Timestamp,
    ) -> OpenInteraction<Self> {
        let Ok(sealed) = base64url::decode(txn) else { return OpenInteraction::NotYours };
        let plain = match ring.open(&place(Self::KIND, tenant, browser), &sealed) {
            Ok(plain) => plain,
            // The first byte is not authenticated: a key that we lack is as good as a forgery to
            // someone who can simply start again.
            Err(OpenError::Forged | OpenError::UnknownKey(_)) => return OpenInteraction::NotYours,
        };
        match serde_json::from_slice::<Self>(&plain) {
            Ok(open) if now.since(open.began_at()) < Self::LIFETIME => OpenInteraction::Open(open),
            Ok(open) => OpenInteraction::Expired(open),
            Err(_) => OpenInteraction::NotYours,
        }
    }
}

/// The outcome of [`Interaction::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum OpenInteraction<T> {
    /// Here it is.
    Open(T),
    /// It waited too long; the user may start again at the application.
    Expired(T),
    /// Sealed for another browser or tenant, or not by us.
    NotYours,
}

impl Interaction for LogoutRequest {
    const KIND: &'static str = "logout";

    fn began_at(&self) -> Timestamp {
        self.began_at
    }
}

fn place<'a>(
    kind: &'static str,
    tenant: &'a TenantUid,
    browser: &'a BrowserBinding,
) -> [&'a [u8]; 3] {
    [kind.as_bytes(), tenant.as_str().as_bytes(), browser.as_str().as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::super::Waiting;
    use super::super::browser::tests::ring;
    use super::*;
    use crate::base::SystemEntropy;

    fn pending() -> Waiting {
        Waiting::Authorization(Box::new(PendingAuthorization {
            client: ClientId::new("app"),
            redirect_uri: "https://app.example/cb".into(),
            redirect_uri_sent: true,
            state: Some("s\u{1f980}".into()),
            scope: Scope::parse("openid email").unwrap(),
            resources: Vec::new(),
            code_challenge: Some("c".repeat(43)),
            nonce: None,
            claims: None,
            login_hint: None,
            subject: None,
            signed_in_after: None,
            not_session: None,
            another_account: false,
            ask_consent: false,
            began_at: Timestamp::from_seconds(100),
        }))
    }

    #[test]
    fn only_the_browser_it_was_sealed_for_opens_it_and_only_for_half_an_hour() {
        let (ring, acme, other) = (ring(), TenantUid::stored("acme"), TenantUid::stored("other"));
        let browser = BrowserBinding::generate(&ring, &acme, &SystemEntropy);
        let second = BrowserBinding::generate(&ring, &acme, &SystemEntropy);
        let txn = pending().seal(&ring, &acme, &browser, &SystemEntropy);
        let open = |tenant, browser, at| {
            Waiting::open(&ring, tenant, browser, &txn, Timestamp::from_seconds(at))
        };
        assert_eq!(open(&acme, &browser, 100), OpenInteraction::Open(pending()));
        assert_eq!(open(&acme, &browser, 1_899), OpenInteraction::Open(pending()));
        assert_eq!(open(&acme, &browser, 1_900), OpenInteraction::Expired(pending()));
        assert_eq!(open(&acme, &second, 100), OpenInteraction::NotYours);
        assert_eq!(open(&other, &browser, 100), OpenInteraction::NotYours);
    }

    #[test]
    fn one_kind_does_not_open_as_the_other() {
        let (ring, acme) = (ring(), TenantUid::stored("acme"));
        let browser = BrowserBinding::generate(&ring, &acme, &SystemEntropy);
        let txn = pending().seal(&ring, &acme, &browser, &SystemEntropy);
        let now = Timestamp::from_seconds(100);
        let opened = LogoutRequest::open(&ring, &acme, &browser, &txn, now);
        assert_eq!(opened, OpenInteraction::NotYours);
    }
}
