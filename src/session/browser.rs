use crate::base::{Entropy, base64url};
use crate::keys::{Purpose, Ring};
use crate::model::TenantUid;

const NONCE: usize = 16;
const MAC: usize = 32;

/// The anonymous identity of a browser at one tenant, from its first page on. It opens nothing; it
/// binds forms and pending authorizations to the browser that they were made for. The value carries
/// a MAC, so that nobody can plant one that we did not hand out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserBinding(String);

impl BrowserBinding {
    /// Draws a new one.
    pub fn generate(ring: &Ring, tenant: &TenantUid, entropy: &dyn Entropy) -> Self {
        let nonce: [u8; NONCE] = entropy.bytes();
        let kid = ring.newest();
        let mut value = Vec::with_capacity(1 + NONCE + MAC);
        value.push(kid);
        value.extend_from_slice(&nonce);
        value.extend_from_slice(&mac(ring, kid, tenant, &nonce).unwrap_or_default());
        Self(base64url::encode(value))
    }

    /// Takes the value of a cookie; none when it is not one of ours for this tenant.
    pub fn read(ring: &Ring, tenant: &TenantUid, cookie: &str) -> Option<Self> {
        let value = base64url::decode(cookie).ok().filter(|v| v.len() == 1 + NONCE + MAC)?;
        let (head, presented) = value.split_at(1 + NONCE);
        let expected = mac(ring, head[0], tenant, &head[1..])?;
        let same: bool = subtle::ConstantTimeEq::ct_eq(presented, &expected[..]).into();
        same.then(|| Self(cookie.to_owned()))
    }

    /// The cookie's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn mac(ring: &Ring, kid: u8, tenant: &TenantUid, nonce: &[u8]) -> Option<[u8; MAC]> {
    ring.mac(Purpose::Csrf, kid, &[b"browser", tenant.as_str().as_bytes(), nonce])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::{Secret, SystemEntropy};
    use crate::config::settings::RingKey;

    pub(in crate::session) fn ring() -> Ring {
        Ring::new(vec![RingKey { id: 1, secret: Secret::new(vec![7; 32]) }])
    }

    #[test]
    fn a_binding_is_read_back_by_its_tenant_only_and_cannot_be_made_up() {
        let (ring, acme) = (ring(), TenantUid::stored("acme"));
        let binding = BrowserBinding::generate(&ring, &acme, &SystemEntropy);
        assert_eq!(BrowserBinding::read(&ring, &acme, binding.as_str()), Some(binding.clone()));
        let other = TenantUid::stored("other");
        assert_eq!(BrowserBinding::read(&ring, &other, binding.as_str()), None);
        let made_up = base64url::encode([1; 1 + NONCE + MAC]);
        for value in [made_up.as_str(), "", "x", "\u{0}", &binding.as_str()[1..]] {
            assert_eq!(BrowserBinding::read(&ring, &acme, value), None, "{value:?}");
        }
    }
}
