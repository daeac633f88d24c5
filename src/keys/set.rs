//! What a tenant's signing keys are at a point in time: their states follow from their times, so no
//! node has to turn one into the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonwebtoken::jwk::Jwk;
use serde_json::{Map, Value};
use tracing::error;

use super::{Signer, Verifier};
use crate::base::Timestamp;
use crate::model::client::SigningAlg;
use crate::model::key::{KeyState, SigningKeyRecord};

/// A signing key, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// `kid`.
    pub kid: String,
    /// Its algorithm.
    pub alg: SigningAlg,
    /// Where it is in its life now.
    pub state: KeyState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it begins (or began) to sign.
    pub activates_at: Timestamp,
    /// When it leaves the key set.
    pub expires_at: Option<Timestamp>,
}

/// The keys of a tenant as they were read from storage.
pub(super) struct KeySet {
    keys: BTreeMap<String, Key>,
    /// The published set, and until when it is right.
    published: Mutex<Option<(Timestamp, Arc<str>)>>,
}

/// A key with what was made of it.
pub(super) struct Key {
    pub(super) record: SigningKeyRecord,
    pub(super) verifier: Arc<Verifier>,
    /// Unsealed when it first signs.
    pub(super) signer: OnceLock<Arc<Signer>>,
}

/// What a key set may show of a key: nothing private, whatever is stored (RFC 7517 §9.3).
const PUBLIC_MEMBERS: [&str; 9] = ["kty", "use", "alg", "kid", "crv", "x", "y", "n", "e"];

impl KeySet {
    /// The set of `records`; what `old` has already unsealed is taken over.
    pub(super) fn new(records: Vec<SigningKeyRecord>, old: Option<&Self>) -> Self {
        let keys = records.into_iter().filter_map(|record| {
            let key = Key::new(record)?;
            let known = old.and_then(|old| old.keys.get(&key.record.kid));
            if let Some(signer) = known.and_then(|known| known.signer.get()) {
                let _ = key.signer.set(Arc::clone(signer));
            }
            Some((key.record.kid.clone(), key))
        });
        Self { keys: keys.collect(), published: Mutex::default() }
    }

    /// The key that signs with `alg` at `now`: the one that began last. When none has begun yet
    /// (the clock of the node that made it is ahead, or its predecessor was compromised), the one
    /// that is to begin first.
    pub(super) fn active(&self, alg: SigningAlg, now: Timestamp) -> Option<&Key> {
        let usable = || self.keys.values().filter(|key| key.record.alg == alg && key.counts(now));
        // Of two that begin in the same millisecond, the one that was not replaced.
        let begins = |key: &&Key| {
            let record = &key.record;
            (record.activates_at, record.created_at, record.state != KeyState::Retiring)
        };
        let begun = usable().filter(|key| key.record.activates_at <= now).max_by_key(begins);
        begun.or_else(|| usable().min_by_key(begins))
    }

    /// The key of this `kid`, if what it signed is still believed at `now`.
    pub(super) fn verifying(&self, kid: &str, now: Timestamp) -> Option<&Key> {
        self.keys.get(kid).filter(|key| key.counts(now))
    }

    /// The key of this `kid`, in whatever state.
    pub(super) fn get(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    /// What operators see, newest first. Expired keys are left out.
    pub(super) fn list(&self, now: Timestamp) -> Vec<KeyInfo> {
        let shown = |key: &&Key| key.counts(now) || key.record.state == KeyState::Compromised;
        let mut all: Vec<_> = self
            .keys
            .values()
            .filter(shown)
            .map(|key| KeyInfo {
                kid: key.record.kid.clone(),
                alg: key.record.alg,
                state: self.state(key, now),
                created_at: key.record.created_at,
                activates_at: key.record.activates_at,
                expires_at: key.record.expires_at,
            })
            .collect();
        all.sort_by(|a, b| (b.activates_at, &b.kid).cmp(&(a.activates_at, &a.kid)));
        all
    }

    /// The JWK set as it is published at `now`: all that verify now, or will (RFC 7517 §5).
    pub(super) fn jwks(&self, now: Timestamp) -> Arc<str> {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, text)) = &*published
            && now < *until
        {
            return Arc::clone(text);
        }
        let live: Vec<_> = self.keys.values().filter(|key| key.counts(now)).collect();
        let ends = live.iter().filter_map(|key| key.record.expires_at).min();
        let keys: Vec<Value> = live.into_iter().map(Key::public).collect();
        let text: Arc<str> = serde_json::json!({ "keys": keys }).to_string().into();
        *published = Some((ends.unwrap_or(Timestamp::FAR_FUTURE), Arc::clone(&text)));
        text
    }

    fn state(&self, key: &Key, now: Timestamp) -> KeyState {
        let active = self.active(key.record.alg, now).map(|active| &active.record.kid);
        if key.record.state == KeyState::Compromised {
            KeyState::Compromised
        } else if active == Some(&key.record.kid) {
            KeyState::Active
        } else if key.record.activates_at > now {
            KeyState::Pending
        } else {
            KeyState::Retiring
        }
    }
}

impl Key {
    fn new(record: SigningKeyRecord) -> Option<Self> {
        let jwk = serde_json::from_value::<Jwk>(record.public_jwk.clone()).ok();
        let verifier = jwk.and_then(|jwk| Verifier::new(&record.kid, record.alg, &jwk).ok());
        if verifier.is_none() {
            error!(kid = %record.kid, "the public half of a signing key cannot be read; skipped");
        }
        Some(Self { verifier: Arc::new(verifier?), signer: OnceLock::new(), record })
    }

    /// Whether the key is part of the set at `now`.
    fn counts(&self, now: Timestamp) -> bool {
        self.record.state != KeyState::Compromised
            && self.record.expires_at.is_none_or(|end| now < end)
    }

    fn public(&self) -> Value {
        let members = self.record.public_jwk.as_object().into_iter().flatten();
        members
            .filter(|(name, _)| PUBLIC_MEMBERS.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<_, _>>()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::pair::{self, Pair};
    use std::time::Duration;

    const T: fn(i64) -> Timestamp = Timestamp::from_seconds;

    fn record(state: KeyState, activates: i64, expires: Option<i64>) -> SigningKeyRecord {
        let private = pair::generate(SigningAlg::EdDSA, 0).unwrap();
        let jwk = Pair::read(SigningAlg::EdDSA, private.reveal()).unwrap().public_jwk().unwrap();
        SigningKeyRecord {
            kid: jwk.common.key_id.clone().unwrap(),
            alg: SigningAlg::EdDSA,
            sealed: vec![],
            ring_kid: 1,
            public_jwk: serde_json::to_value(jwk).unwrap(),
            state,
            created_at: T(activates),
            activates_at: T(activates),
            expires_at: expires.map(T),
        }
    }

    fn states(set: &KeySet, now: i64) -> Vec<KeyState> {
        set.list(T(now)).into_iter().map(|key| key.state).collect()
    }

    #[test]
    fn a_pending_key_takes_over_when_its_time_has_come_and_the_old_one_leaves() {
        let old = record(KeyState::Retiring, 100, Some(300));
        let new = record(KeyState::Pending, 200, None);
        let set = KeySet::new(vec![new.clone(), old.clone()], None);
        let active = |now| set.active(SigningAlg::EdDSA, T(now)).unwrap().record.kid.clone();
        assert_eq!(states(&set, 199), [KeyState::Pending, KeyState::Active]);
        assert_eq!(active(199), old.kid);
        assert_eq!(states(&set, 200), [KeyState::Active, KeyState::Retiring]);
        assert_eq!(active(200), new.kid);
        assert!(set.verifying(&old.kid, T(299)).is_some(), "what it signed is good until its end");
        assert!(set.verifying(&old.kid, T(300)).is_none());
        assert!(set.jwks(T(299)).contains(&old.kid));
        assert!(!set.jwks(T(300)).contains(&old.kid));
        assert_eq!(states(&set, 300), [KeyState::Active]);
    }

    #[test]
    fn a_compromised_key_neither_signs_nor_verifies_nor_is_published() {
        let bad = record(KeyState::Compromised, 100, None);
        let set = KeySet::new(vec![bad.clone()], None);
        assert!(set.active(SigningAlg::EdDSA, T(150)).is_none());
        assert!(set.verifying(&bad.kid, T(150)).is_none());
        assert_eq!(&*set.jwks(T(150)), r#"{"keys":[]}"#);
        assert_eq!(states(&set, 150), [KeyState::Compromised]);
    }

    #[test]
    fn a_first_key_of_a_node_whose_clock_is_ahead_signs_at_once() {
        let set = KeySet::new(vec![record(KeyState::Active, 101, None)], None);
        assert!(set.active(SigningAlg::EdDSA, T(100)).is_some());
        assert!(set.active(SigningAlg::ES256, T(100)).is_none());
    }

    #[test]
    fn only_public_members_are_published() {
        let mut leaky = record(KeyState::Active, 100, None);
        leaky.public_jwk["d"] = "private".into();
        let now = T(100).plus(Duration::from_secs(1));
        let jwks: Value = serde_json::from_str(&KeySet::new(vec![leaky], None).jwks(now)).unwrap();
        let key = jwks["keys"][0].as_object().unwrap();
        let mut names: Vec<_> = key.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x"]);
        assert_eq!(key["use"], "sig");
    }
}
