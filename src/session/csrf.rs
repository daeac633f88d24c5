use crate::base::base64url;
use crate::keys::{Purpose, Ring};
use crate::model::{SessionId, TenantUid};

use super::BrowserBinding;

/// Makes and checks the tokens that our forms carry: a MAC over tenant, browser and session, so
/// that a form can only come from a page that we showed to this browser (RFC 9700 §4.7).
#[derive(Debug, Clone, Copy)]
pub struct Csrf<'a> {
    tenant: &'a TenantUid,
    browser: &'a BrowserBinding,
    session: Option<SessionId>,
}

impl<'a> Csrf<'a> {
    /// For forms before sign-in: bound to the browser.
    pub fn anonymous(tenant: &'a TenantUid, browser: &'a BrowserBinding) -> Self {
        Self { tenant, browser, session: None }
    }

    /// For forms of someone signed in: bound to the browser and the session.
    pub fn signed_in(
        tenant: &'a TenantUid,
        browser: &'a BrowserBinding,
        session: SessionId,
    ) -> Self {
        Self { tenant, browser, session: Some(session) }
    }

    /// The token for the form.
    pub fn issue(&self, ring: &Ring) -> String {
        let kid = ring.newest();
        let mut token = vec![kid];
        token.extend_from_slice(&self.mac(ring, kid).unwrap_or_default());
        base64url::encode(token)
    }

    /// Whether `token` was issued for the same tenant, browser and session.
    pub fn accepts(&self, ring: &Ring, token: &str) -> bool {
        let Ok(token) = base64url::decode(token) else { return false };
        let Some((kid, presented)) = token.split_first() else { return false };
        let Some(expected) = self.mac(ring, *kid) else { return false };
        subtle::ConstantTimeEq::ct_eq(presented, &expected[..]).into()
    }

    fn mac(&self, ring: &Ring, kid: u8) -> Option<[u8; 32]> {
        let session = self.session.map(|id| id.0.into_bytes());
        ring.mac(
            Purpose::Csrf,
            kid,
            &[
                b"form",
                self.tenant.as_str().as_bytes(),
                self.browser.as_str().as_bytes(),
                session.as_ref().map_or(&[][..], |id| &id[..]),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::browser::tests::ring;
    use super::*;
    use crate::base::SystemEntropy;
    use uuid::Uuid;

    #[test]
    fn a_token_is_good_for_its_own_tenant_browser_and_session_alone() {
        let (ring, acme, other) = (ring(), TenantUid::stored("acme"), TenantUid::stored("other"));
        let browser = BrowserBinding::generate(&ring, &acme, &SystemEntropy);
        let stranger = BrowserBinding::generate(&ring, &acme, &SystemEntropy);
        let (one, two) = (SessionId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
        let mine = Csrf::signed_in(&acme, &browser, one);
        let token = mine.issue(&ring);
        assert!(mine.accepts(&ring, &token));
        assert!(!Csrf::signed_in(&acme, &browser, two).accepts(&ring, &token));
        assert!(!Csrf::signed_in(&acme, &stranger, one).accepts(&ring, &token));
        assert!(!Csrf::signed_in(&other, &browser, one).accepts(&ring, &token));
        assert!(!Csrf::anonymous(&acme, &browser).accepts(&ring, &token));
        for bad in ["", "AQ", "not base64!", &token[1..]] {
            assert!(!mine.accepts(&ring, bad), "{bad:?}");
        }
    }
}
