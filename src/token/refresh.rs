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
