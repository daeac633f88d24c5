//! The key ring (`server.secret_keys`): one secret per id, from which every purpose derives its own
//! key, so that no two uses share one.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use thiserror::Error;

use crate::base::{Digest, Entropy, Secret};
use crate::config::settings::RingKey;
use crate::model::TenantUid;
use crate::model::limit::LimitKey;

/// What a derived key is for: the HKDF label (RFC 5869 `info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// MACs of refresh tokens.
    Refresh,
    /// Digests of short user codes (RFC 8628).
    UserCode,
    /// Tokens in forms.
    Csrf,
    /// What is sealed: private keys, pending authorizations.
    Seal,
    /// Where a refresh token was used from.
    Fingerprint,
    /// Names of counters.
    Limit,
}

impl Purpose {
    const ALL: [Self; 6] =
        [Self::Refresh, Self::UserCode, Self::Csrf, Self::Seal, Self::Fingerprint, Self::Limit];

    /// The label. It never changes.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::UserCode => "user_code",
            Self::Csrf => "csrf",
            Self::Seal => "seal",
            Self::Fingerprint => "fingerprint",
            Self::Limit => "limit",
        }
    }
}

/// Why something sealed cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Sealed under a key that this node lacks: 503, another node may know it.
    #[error("sealed under ring key {0}, which this node does not have")]
    UnknownKey(u8),
    /// Not ours, damaged, or of another place.
    #[error("not something that was sealed here")]
    Forged,
}

/// The key ring, newest key first.
pub struct Ring {
    keys: Vec<Key>,
}

struct Key {
    id: u8,
    secret: Secret<Vec<u8>>,
    check: [u8; 32],
    by_purpose: Vec<hmac::Key>,
}

impl Ring {
    /// A ring of `keys`, newest first, of which there must be at least one.
    pub fn new(keys: Vec<RingKey>) -> Self {
        debug_assert!(!keys.is_empty(), "the configuration sees to it that there is a key");
        Self { keys: keys.into_iter().map(Key::new).collect() }
    }

    /// The id under which new things are made; 0, which no key has, when the ring is empty.
    pub fn newest(&self) -> u8 {
        self.keys.first().map_or(0, |key| key.id)
    }

    /// All ids, newest first.
    pub fn ids(&self) -> Vec<u8> {
        self.keys.iter().map(|key| key.id).collect()
    }

    /// Whether the ring has this id.
    pub fn knows(&self, id: u8) -> bool {
        self.key(id).is_some()
    }

    /// A value that tells whether two nodes mean the same secret by `id`, and nothing about it.
    pub fn check_value(&self, id: u8) -> Option<[u8; 32]> {
        Some(self.key(id)?.check)
    }

    /// HMAC-SHA-256 of `parts`, each with its length, under the key of `purpose`.
    pub fn mac(&self, purpose: Purpose, id: u8, parts: &[&[u8]]) -> Option<[u8; 32]> {
        Some(mac(self.key(id)?.of(purpose), parts))
    }

    /// A key of its own for one thing: HKDF with `salt` and the label of `purpose`, then `parts`,
    /// each with its length.
    pub fn derive(
        &self,
        purpose: Purpose,
        id: u8,
        salt: &[u8],
        parts: &[&[u8]],
    ) -> Option<Secret<[u8; 32]>> {
        Some(derive(self.key(id)?.secret.reveal(), salt, purpose.label(), parts))
    }

    /// Seals `plain` for the place that `aad` names: id ‖ nonce ‖ AES-256-GCM. The key is derived
    /// from `aad` as well, so that each place has a nonce space of its own.
    pub fn seal(&self, aad: &[&[u8]], plain: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        let Some(key) = self.keys.first() else { return Vec::new() };
        let nonce: [u8; NONCE_LEN] = entropy.bytes();
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(key.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = key.cipher(aad).and_then(|cipher| {
            let text = &mut sealed[1 + NONCE_LEN..];
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_separate_tag(nonce, Aad::from(prefixed(aad)), text).ok()
        });
        // Fails only beyond 64 GiB. Nothing readable may leave then: what comes out opens nowhere.
        let Some(tag) = tag else { return vec![key.id] };
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`seal`](Self::seal) made for the same place.
    pub fn open(&self, aad: &[&[u8]], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (id, rest) = sealed.split_first().ok_or(OpenError::Forged)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(OpenError::Forged)?;
        let key = self.key(*id).ok_or(OpenError::UnknownKey(*id))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Forged)?;
        let cipher = key.cipher(aad).ok_or(OpenError::Forged)?;
        let mut text = text.to_vec();
        let plain = cipher
            .open_in_place(nonce, Aad::from(prefixed(aad)), &mut text)
            .map_err(|_| OpenError::Forged)?;
        Ok(plain.to_vec())
    }

    fn key(&self, id: u8) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl Key {
    fn new(key: RingKey) -> Self {
        let secret = key.secret.reveal();
        let by_purpose = Purpose::ALL
            .iter()
            .map(|purpose| {
                let derived = derive(secret, &[], purpose.label(), &[]);
                hmac::Key::new(hmac::HMAC_SHA256, derived.reveal())
            })
            .collect();
        let check = *derive(secret, &[], "check", &[]).reveal();
        Self { id: key.id, check, by_purpose, secret: key.secret }
    }

    fn of(&self, purpose: Purpose) -> &hmac::Key {
        &self.by_purpose[purpose as usize]
    }

    fn cipher(&self, aad: &[&[u8]]) -> Option<LessSafeKey> {
        let key = Secret::new(mac(self.of(Purpose::Seal), aad));
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.reveal()).ok()?))
    }
}

/// The name of a shared counter: `value` (an account, an address) counted for `purpose`. Keyed, so
/// that the store's counters tell nobody whom they count.
pub fn limit_key(ring: &Ring, tenant: &TenantUid, purpose: &str, value: &str) -> Digest<LimitKey> {
    let parts = [tenant.as_str().as_bytes(), purpose.as_bytes(), value.as_bytes()];
    let mac = ring.mac(Purpose::Limit, ring.newest(), &parts);
    Digest::from_bytes(mac.unwrap_or_default())
}

fn mac(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&length(part));
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

fn derive(secret: &[u8], salt: &[u8], label: &str, parts: &[&[u8]]) -> Secret<[u8; 32]> {
    let mut info = prefixed(&[label.as_bytes()]);
    info.extend(prefixed(parts));
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let mut out = [0; 32];
    // RFC 5869 §2.3 refuses only outputs beyond 255 blocks; this is one.
    let filled = prk.expand(&[&info], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut out));
    debug_assert!(filled.is_ok(), "one block can always be expanded");
    Secret::new(out)
}

/// Each part with its length before it, so that no two lists of parts read the same.
fn prefixed(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        all.extend_from_slice(&length(part));
        all.extend_from_slice(part);
    }
    all
}

fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemEntropy;

    fn ring(keys: &[(u8, u8)]) -> Ring {
        let key = |&(id, byte): &(u8, u8)| RingKey { id, secret: Secret::new(vec![byte; 32]) };
        Ring::new(keys.iter().map(key).collect())
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let ring = ring(&[(2, 7), (1, 9)]);
        let sealed = ring.seal(&[b"acme", b"k1"], b"private", &SystemEntropy);
        assert_eq!(sealed[0], 2);
        assert_eq!(ring.open(&[b"acme", b"k1"], &sealed).unwrap(), b"private");
        for aad in ["acme k2", "acmek1", "acmek 1", "k1 acme", "acme k1 "] {
            let aad: Vec<&[u8]> = aad.split(' ').map(str::as_bytes).collect();
            assert_eq!(ring.open(&aad, &sealed), Err(OpenError::Forged));
        }
    }

    #[test]
    fn every_byte_that_is_sealed_counts() {
        let ring = ring(&[(1, 9)]);
        let sealed = ring.seal(&[b"a"], b"x", &SystemEntropy);
        for at in 1..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(ring.open(&[b"a"], &other), Err(OpenError::Forged), "byte {at}");
        }
        for short in 0..sealed.len() {
            assert!(ring.open(&[b"a"], &sealed[..short]).is_err(), "{short} bytes");
        }
    }

    #[test]
    fn an_older_key_still_opens_and_a_missing_one_is_named() {
        let sealed = ring(&[(1, 9)]).seal(&[], b"x", &SystemEntropy);
        assert_eq!(ring(&[(2, 7), (1, 9)]).open(&[], &sealed).unwrap(), b"x");
        assert_eq!(ring(&[(2, 7)]).open(&[], &sealed), Err(OpenError::UnknownKey(1)));
        assert_eq!(ring(&[(1, 8)]).open(&[], &sealed), Err(OpenError::Forged));
    }

    #[test]
    fn purposes_ids_and_the_cut_of_parts_give_different_macs() {
        let ring = ring(&[(2, 7), (1, 9)]);
        let one = ring.mac(Purpose::Csrf, 1, &[b"ab", b"c"]).unwrap();
        assert_eq!(ring.mac(Purpose::Csrf, 1, &[b"ab", b"c"]), Some(one));
        assert_ne!(ring.mac(Purpose::Csrf, 1, &[b"a", b"bc"]), Some(one));
        assert_ne!(ring.mac(Purpose::Limit, 1, &[b"ab", b"c"]), Some(one));
        assert_ne!(ring.mac(Purpose::Csrf, 2, &[b"ab", b"c"]), Some(one));
        assert_eq!(ring.mac(Purpose::Csrf, 3, &[b"ab", b"c"]), None);
        assert_ne!(ring.check_value(1), ring.check_value(2));
    }
}
