use serde::{Serialize, Serializer};

use crate::base::{Digest, Timestamp, base64url};
use crate::model::{Revocation, RevocationKey};

/// The first half of a SHA-256.
pub(super) type Half = [u8; 16];

/// An entry of the log as readers see it: which tokens it kills, and nothing about whose they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Names the entry: the same on every node, whenever it is read.
    #[serde(skip)]
    pub(super) id: Half,
    /// The kind of key.
    #[serde(rename = "k")]
    pub(super) kind: &'static str,
    /// The key's digest; a tenant has no key.
    #[serde(rename = "h", serialize_with = "letters", skip_serializing_if = "Option::is_none")]
    pub(super) hash: Option<Half>,
    /// Tokens with `iat` up to and including this are dead, in seconds; without it all that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<i64>,
    /// When it may be forgotten, in seconds.
    pub(super) exp: i64,
    /// The audiences whose tokens it can kill; any without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aud: Option<Vec<String>>,
    /// When it was revoked.
    #[serde(skip)]
    pub(super) at: Timestamp,
}

impl Entry {
    /// What readers are shown of `revocation`.
    pub(super) fn of(revocation: &Revocation) -> Self {
        let Revocation { key, audience, not_before, expires_at, at } = revocation;
        let hash = (*key != RevocationKey::Tenant).then(|| half(key.key().as_bytes()));
        // A not-before is compared with whole seconds: what is below one changes nothing.
        let nbf = not_before.map(Timestamp::seconds);
        let exp = expires_at.millis().saturating_add(999).div_euclid(1000);
        let mut entry =
            Self { id: [0; 16], kind: key.kind(), hash, nbf, exp, aud: audience.clone(), at: *at };
        entry.id = entry.name();
        entry
    }

    /// What it says, however long it is kept.
    fn name(&self) -> Half {
        let mut text = format!("{}\n{:?}\n", self.kind, self.nbf).into_bytes();
        text.extend_from_slice(&self.hash.unwrap_or_default());
        for audience in self.aud.iter().flatten() {
            text.push(b'\n');
            text.extend_from_slice(audience.as_bytes());
        }
        half(&text)
    }

    /// Its name as text: 22 letters.
    pub fn id(&self) -> String {
        base64url::encode(self.id)
    }

    /// The kind of key.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The key's digest as text; none for the tenant.
    pub fn key(&self) -> Option<String> {
        self.hash.map(base64url::encode)
    }

    /// When it was revoked.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

fn half(bytes: &[u8]) -> Half {
    let digest = Digest::<Entry>::of(bytes);
    let mut half = Half::default();
    half.copy_from_slice(&digest.as_bytes()[..16]);
    half
}

#[expect(clippy::ref_option, reason = "serde hands out a reference to the field")]
fn letters<S: Serializer>(half: &Option<Half>, out: S) -> Result<S::Ok, S::Error> {
    match half {
        Some(half) => out.serialize_str(&base64url::encode(half)),
        None => out.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn revoked(key: RevocationKey) -> Revocation {
        let at = Timestamp::from_millis(1_763_673_000_123);
        let expires_at = at.plus(Duration::from_hours(1));
        Revocation { key, audience: None, not_before: None, expires_at, at }
    }

    fn json(revocation: &Revocation) -> serde_json::Value {
        serde_json::to_value(Entry::of(revocation)).unwrap()
    }

    #[test]
    fn an_entry_shows_digests_and_whole_seconds() {
        let jti = revoked(RevocationKey::Jti("abc".into()));
        // SHA-256 of "abc" begins ba7816bf8f01cfea414140de5dae2223 (FIPS 180-4).
        assert_eq!(
            json(&jti),
            json!({"k": "jti", "h": "ungWv48Bz-pBQUDeXa4iIw", "exp": 1_763_676_601})
        );
        let tenant = Revocation {
            not_before: Some(Timestamp::from_millis(1_763_673_010_999)),
            audience: Some(vec!["https://api.example".into()]),
            ..revoked(RevocationKey::Tenant)
        };
        assert_eq!(
            json(&tenant),
            json!({"k": "tenant", "nbf": 1_763_673_010, "exp": 1_763_676_601,
                   "aud": ["https://api.example"]})
        );
    }

    #[test]
    fn an_entry_has_one_name_however_long_it_is_kept() {
        let entry = revoked(RevocationKey::Client("app".into()));
        let longer = Revocation {
            expires_at: entry.expires_at.plus(Duration::from_hours(1)),
            ..entry.clone()
        };
        assert_eq!(Entry::of(&entry).id(), Entry::of(&longer).id());
        let mut names = vec![Entry::of(&entry).id()];
        for other in [
            Revocation { not_before: Some(entry.at), ..entry.clone() },
            Revocation { audience: Some(vec!["a".into()]), ..entry.clone() },
            Revocation { audience: Some(vec!["a".into(), "b".into()]), ..entry.clone() },
            revoked(RevocationKey::Subject("app".into())),
            revoked(RevocationKey::Client("other".into())),
        ] {
            names.push(Entry::of(&other).id());
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 6);
    }
}
