//! The spelling of refresh tokens: `pmp_rt_` + base 62 of
//! version 1 | kid 1 | grant 16 | generation 4 | nonce 8 | MAC 32, and the checksum.
//!
//! The MAC covers every byte before it, under a key that needs both the ring and the grant's row:
//! neither the database alone nor the ring alone can make one.

use std::net::IpAddr;

use aws_lc_rs::hmac;
use uuid::Uuid;

use crate::base::{CredentialKind, Secret};
use crate::keys::{Purpose, Ring};
use crate::model::refresh::{PresentedRefresh, RefreshHead};
use crate::model::{ClientId, GrantId, TenantUid};

const VERSION: u8 = 1;
const SIGNED: usize = 1 + 1 + 16 + 4 + 8;
const LENGTH: usize = SIGNED + 32;

/// What checking a MAC found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum MacCheck {
    /// We made this token for this client.
    Good,
    /// We did not.
    Bad,
    /// Made under a ring key that this node lacks: 503.
    UnknownKey(u8),
}

/// Spells the live token of `head`; none when the ring lacks its key (503).
pub fn spell(
    ring: &Ring,
    tenant: &TenantUid,
    client: &ClientId,
    grant: GrantId,
    head: &RefreshHead,
) -> Option<Secret<String>> {
    let mut bytes = Secret::new(signed(head.kid, grant, head.head, head.head_nonce).to_vec());
    let mac = mac(ring, tenant, client, grant, &head.salt, head.kid, bytes.reveal())?;
    bytes = Secret::new([bytes.reveal().as_slice(), mac.as_ref()].concat());
    Some(CredentialKind::RefreshToken.spell(bytes.reveal()))
}

/// Reads the spelling; none when it is no refresh token of ours. The MAC is not yet checked.
pub fn parse(text: &str) -> Option<PresentedRefresh> {
    let bytes = CredentialKind::RefreshToken.parse(text, LENGTH).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (kid, rest) = rest.split_first()?;
    let (grant, rest) = rest.split_first_chunk::<16>()?;
    let (generation, rest) = rest.split_first_chunk::<4>()?;
    let (nonce, mac) = rest.split_first_chunk::<8>()?;
    (*version == VERSION).then_some(PresentedRefresh {
        kid: *kid,
        grant: GrantId(Uuid::from_bytes(*grant)),
        generation: u32::from_be_bytes(*generation),
        nonce: *nonce,
        mac: mac.try_into().ok()?,
    })
}

/// Whether a token whose spelling is good was made here for `client`; `salt` is of the grant's row.
pub fn verify(
    ring: &Ring,
    tenant: &TenantUid,
    client: &ClientId,
    salt: &[u8; 16],
    presented: &PresentedRefresh,
) -> MacCheck {
    let PresentedRefresh { kid, grant, generation, nonce, mac: given } = presented;
    let bytes = signed(*kid, *grant, *generation, *nonce);
    match mac(ring, tenant, client, *grant, salt, *kid, &bytes) {
        None => MacCheck::UnknownKey(*kid),
        Some(mac) => {
            let good: bool = subtle::ConstantTimeEq::ct_eq(mac.as_ref(), given.as_slice()).into();
            if good { MacCheck::Good } else { MacCheck::Bad }
        }
    }
}

/// A keyed digest of where a token was used from: 8 bytes of the user agent, 8 of the network
/// (/24, /48). Two uses differ when both halves do.
pub fn fingerprint(
    ring: &Ring,
    tenant: &TenantUid,
    user_agent: Option<&str>,
    peer: IpAddr,
) -> Option<[u8; 16]> {
    let network = match peer.to_canonical() {
        IpAddr::V4(ip) => ip.octets()[..3].to_vec(),
        IpAddr::V6(ip) => ip.octets()[..6].to_vec(),
    };
    let half = |what: &[u8], value: &[u8]| {
        ring.mac(Purpose::Fingerprint, ring.newest(), &[tenant.as_str().as_bytes(), what, value])
    };
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&half(b"agent", user_agent.unwrap_or("").as_bytes())?[..8]);
    digest[8..].copy_from_slice(&half(b"network", &network)?[..8]);
    Some(digest)
}

fn signed(kid: u8, grant: GrantId, generation: u32, nonce: [u8; 8]) -> [u8; SIGNED] {
    let mut bytes = [0; SIGNED];
    bytes[0] = VERSION;
    bytes[1] = kid;
    bytes[2..18].copy_from_slice(grant.0.as_bytes());
    bytes[18..22].copy_from_slice(&generation.to_be_bytes());
    bytes[22..].copy_from_slice(&nonce);
    bytes
}

fn mac(
    ring: &Ring,
    tenant: &TenantUid,
    client: &ClientId,
    grant: GrantId,
    salt: &[u8; 16],
    kid: u8,
    signed: &[u8],
) -> Option<hmac::Tag> {
    let parts = [tenant.as_str().as_bytes(), grant.0.as_bytes(), client.as_str().as_bytes()];
    let key = ring.derive(Purpose::Refresh, kid, salt, &parts)?;
    Some(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.reveal()), signed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::config::settings::RingKey;

    fn ring(id: u8) -> Ring {
        Ring::new(vec![RingKey { id, secret: Secret::new((1..=32).collect()) }])
    }

    fn acme() -> (TenantUid, ClientId, GrantId) {
        let grant = "0d39f6ab-7e9b-4f10-8a4f-4f2c7a3f8a53".parse().unwrap();
        (TenantUid::stored("acme"), ClientId::new("app"), grant)
    }

    fn head() -> RefreshHead {
        RefreshHead {
            salt: std::array::from_fn(|i| 0xa0 + u8::try_from(i).unwrap()),
            kid: 3,
            head: 7,
            head_nonce: [0, 1, 2, 3, 4, 5, 6, 7],
            pred: None,
            rotated_at: Timestamp::EPOCH,
            replaced_at: None,
            replacements: 0,
            head_seen: false,
            repeats: 0,
            fingerprint: None,
            differs: false,
            streak: 0,
            epoch: String::new(),
        }
    }

    /// Computed apart from this program, from the description of the format.
    const VECTOR: &str = "pmp_rt_00qyLZ930kYCSeW2swVE7l3XvWboi4ZBQSasDGgToe6uDHGr1xDaKmvjdXJTWgP7N\
                          bIuuiCZP5z3pwHKTldE21zXfi";

    #[test]
    fn the_same_row_gives_the_same_token_and_it_is_this_one() {
        let (tenant, client, grant) = acme();
        let token = spell(&ring(3), &tenant, &client, grant, &head()).unwrap();
        assert_eq!(token.reveal(), VECTOR);
        let presented = parse(VECTOR).unwrap();
        assert_eq!((presented.kid, presented.grant, presented.generation), (3, grant, 7));
        assert_eq!(presented.nonce, head().head_nonce);
        assert_eq!(verify(&ring(3), &tenant, &client, &head().salt, &presented), MacCheck::Good);
    }

    #[test]
    fn every_byte_of_a_token_counts() {
        let (tenant, client, _) = acme();
        let bytes = CredentialKind::RefreshToken.parse(VECTOR, LENGTH).unwrap();
        for at in 0..LENGTH {
            let mut other = bytes.clone();
            other[at] ^= 1;
            // With a checksum that fits, so that only the MAC can tell.
            let text = CredentialKind::RefreshToken.spell(&other);
            let good = parse(text.reveal()).is_some_and(|presented| {
                verify(&ring(3), &tenant, &client, &head().salt, &presented) == MacCheck::Good
            });
            assert!(!good, "byte {at}");
        }
    }

    #[test]
    fn a_token_belongs_to_one_tenant_client_row_and_ring() {
        let (tenant, client, _) = acme();
        let presented = parse(VECTOR).unwrap();
        let salt = head().salt;
        let check = |ring: &Ring, tenant: &TenantUid, client: &ClientId, salt: &[u8; 16]| {
            verify(ring, tenant, client, salt, &presented)
        };
        let other = TenantUid::stored("globex");
        assert_eq!(check(&ring(3), &other, &client, &salt), MacCheck::Bad);
        assert_eq!(check(&ring(3), &tenant, &ClientId::new("ap"), &salt), MacCheck::Bad);
        assert_eq!(check(&ring(3), &tenant, &client, &[0; 16]), MacCheck::Bad);
        assert_eq!(check(&ring(4), &tenant, &client, &salt), MacCheck::UnknownKey(3));
        let same_id = Ring::new(vec![RingKey { id: 3, secret: Secret::new(vec![9; 32]) }]);
        assert_eq!(check(&same_id, &tenant, &client, &salt), MacCheck::Bad);
    }

    #[test]
    fn only_our_spelling_of_version_1_parses() {
        for bad in ["", "pmp_rt_", "pmp_at_x", &VECTOR[..96], &format!("{VECTOR}0")] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let mut bytes = CredentialKind::RefreshToken.parse(VECTOR, LENGTH).unwrap();
        bytes[0] = 2;
        assert_eq!(parse(CredentialKind::RefreshToken.spell(&bytes).reveal()), None);
    }

    #[test]
    fn a_fingerprint_has_a_half_for_the_agent_and_a_half_for_the_network() {
        let (tenant, ..) = acme();
        let of = |agent: &str, ip: &str| {
            fingerprint(&ring(3), &tenant, Some(agent), ip.parse().unwrap()).unwrap()
        };
        let here = of("curl/8", "192.0.2.7");
        assert_eq!(of("curl/8", "192.0.2.200"), here, "the same /24");
        assert_eq!(of("curl/8", "::ffff:192.0.2.9"), here, "written as IPv6");
        let moved = of("curl/8", "192.0.3.7");
        assert_eq!(moved[..8], here[..8]);
        assert_ne!(moved[8..], here[8..]);
        let updated = of("curl/9", "192.0.2.7");
        assert_ne!(updated[..8], here[..8]);
        assert_eq!(updated[8..], here[8..]);
        assert_eq!(of("a", "2001:db8:1:ffff::1"), of("a", "2001:db8:1::2"), "the same /48");
    }
}
