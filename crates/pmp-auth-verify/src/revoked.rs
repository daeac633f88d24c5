//! What is revoked, as the feed told it, and which tokens that kills.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The first 16 bytes of SHA-256: how the feed names a key.
pub(crate) type Half = [u8; 16];

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Jti,
    Head,
    Grant,
    Session,
    Subject,
    Client,
    Tenant,
    ApiKey,
    Kid,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "jti" => Self::Jti,
            "head" => Self::Head,
            "grant" => Self::Grant,
            "session" => Self::Session,
            "subject" => Self::Subject,
            "client" => Self::Client,
            "tenant" => Self::Tenant,
            "api_key" => Self::ApiKey,
            "kid" => Self::Kid,
            _ => return None,
        })
    }
}

/// An entry on the wire.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Wire {
    k: String,
    h: Option<String>,
    nbf: Option<i64>,
    exp: i64,
    aud: Option<Vec<String>>,
}

type Key = (Kind, Half);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    nbf: Option<i64>,
    aud: Option<Vec<String>>,
    exp: i64,
}

/// The keys of a token, digested once.
pub(crate) fn keys_of(claims: &Map<String, Value>, kid: Option<&str>) -> Vec<Key> {
    let text = |name: &str| match claims.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let (gid, generation) = (text("gid"), text("gen"));
    let head = gid.as_ref().zip(generation).map(|(gid, generation)| format!("{gid}.{generation}"));
    let keys = [
        (Kind::Jti, text("jti")),
        (Kind::Head, head),
        (Kind::Grant, gid.clone()),
        (Kind::Session, text("sid")),
        (Kind::Subject, text("sub")),
        (Kind::Client, text("client_id")),
        (Kind::ApiKey, gid),
        (Kind::Kid, kid.map(str::to_owned)),
    ];
    let named = keys.into_iter().filter_map(|(kind, key)| Some((kind, half(key?.as_bytes()))));
    named.chain([(Kind::Tenant, Half::default())]).collect()
}

pub(crate) fn half(bytes: &[u8]) -> Half {
    let mut half = Half::default();
    half.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..16]);
    half
}

/// A page that is none.
#[derive(Debug)]
pub(crate) struct Malformed;

#[derive(Debug, Default)]
pub(crate) struct RevokedSet {
    entries: HashMap<Key, Vec<Entry>>,
    size: usize,
    version: u64,
}

impl RevokedSet {
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Grows with every entry: an answer for the same version stands.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Adds a page of entries, all of it or nothing; the same one may come twice. Gives how many are
    /// of kinds of a later server.
    pub(crate) fn add(&mut self, page: Vec<Wire>) -> Result<usize, Malformed> {
        let mut good = Vec::with_capacity(page.len());
        let mut unknown = 0;
        for wire in page {
            let Some(kind) = Kind::named(&wire.k) else {
                unknown += 1;
                continue;
            };
            let hash = match (kind, &wire.h) {
                (Kind::Tenant, None) => Half::default(),
                (Kind::Tenant, Some(_)) | (_, None) => return Err(Malformed),
                (_, Some(letters)) => decode(letters).ok_or(Malformed)?,
            };
            good.push(((kind, hash), Entry { nbf: wire.nbf, aud: wire.aud, exp: wire.exp }));
        }
        if !good.is_empty() {
            self.version += 1;
        }
        for (key, entry) in good {
            let held = self.entries.entry(key).or_default();
            let same = |one: &&mut Entry| one.nbf == entry.nbf && one.aud == entry.aud;
            if let Some(same) = held.iter_mut().find(same) {
                same.exp = same.exp.max(entry.exp);
            } else {
                held.push(entry);
                self.size += 1;
            }
        }
        Ok(unknown)
    }

    /// Forgets what ended before `now` (seconds): no token that it could match is alive.
    pub(crate) fn forget(&mut self, now: i64) {
        let mut left = 0;
        self.entries.retain(|_, held| {
            held.retain(|entry| entry.exp > now);
            left += held.len();
            !held.is_empty()
        });
        self.size = left;
    }

    /// Whether any entry matches a token with these keys, `iat` and audiences.
    pub(crate) fn matches(&self, keys: &[Key], iat: f64, audience: &[String]) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "seconds, far below 2^52")]
        let kills = |entry: &Entry| {
            entry.nbf.is_none_or(|nbf| iat <= nbf as f64)
                && entry.aud.as_ref().is_none_or(|aud| aud.iter().any(|one| audience.contains(one)))
        };
        keys.iter().any(|key| self.entries.get(key).is_some_and(|held| held.iter().any(kills)))
    }
}

fn decode(letters: &str) -> Option<Half> {
    URL_SAFE_NO_PAD.decode(letters).ok()?.try_into().ok()
}
