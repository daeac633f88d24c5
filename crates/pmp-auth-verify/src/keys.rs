//! Keys of an issuer (RFC 7517): what each may sign. Never `none`, never a shared secret.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// A key set as it is served; members that we do not know are left alone.
#[derive(Debug, Deserialize)]
pub(crate) struct JwkSet {
    keys: Vec<Value>,
}

/// Public members only (RFC 7518 §6).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// A key that verifies.
pub(crate) struct Key {
    jwk: Jwk,
    algorithms: Vec<&'static str>,
    decoding: DecodingKey,
}

pub(crate) type Keys = HashMap<String, Arc<Key>>;

impl Key {
    pub(crate) fn kid(&self) -> &str {
        &self.jwk.kid
    }

    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// The algorithm of that name, if this key is for it.
    pub(crate) fn algorithm(&self, name: &str) -> Option<Algorithm> {
        self.algorithms.contains(&name).then(|| algorithm(name)).flatten()
    }

    fn of(jwk: Jwk, allowed: Option<&[String]>) -> Option<Self> {
        let mut algorithms = jwk.possible().to_vec();
        algorithms.retain(|name| {
            jwk.alg.as_deref().is_none_or(|own| own == *name)
                && allowed.is_none_or(|allowed| allowed.iter().any(|one| one == name))
        });
        let decoding = jwk.decoding()?;
        (!algorithms.is_empty()).then_some(Self { jwk, algorithms, decoding })
    }
}

impl Jwk {
    fn signs(&self) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }

    fn possible(&self) -> &'static [&'static str] {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => &["ES256"],
            ("EC", Some("P-384")) => &["ES384"],
            ("OKP", Some("Ed25519")) => &["EdDSA", "Ed25519"],
            ("RSA", _) => &["RS256", "PS256", "RS384", "PS384", "RS512", "PS512"],
            _ => &[],
        }
    }

    fn decoding(&self) -> Option<DecodingKey> {
        match self.kty.as_str() {
            "EC" => DecodingKey::from_ec_components(self.x.as_ref()?, self.y.as_ref()?),
            "OKP" => DecodingKey::from_ed_components(self.x.as_ref()?),
            "RSA" => DecodingKey::from_rsa_components(self.n.as_ref()?, self.e.as_ref()?),
            _ => return None,
        }
        .ok()
    }
}

/// An asymmetric algorithm by its name (RFC 7518 §3.1, RFC 9864); none for any other.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "EdDSA" | "Ed25519" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// The keys of `set` that can verify. Unchanged ones stay the same: tokens that they verified stay
/// verified.
pub(crate) fn import(set: JwkSet, held: Option<&Keys>, allowed: Option<&[String]>) -> Keys {
    let mut keys = Keys::new();
    for value in set.keys {
        let Ok(jwk) = serde_json::from_value::<Jwk>(value) else { continue };
        if !jwk.signs() {
            continue;
        }
        let same = held.and_then(|held| held.get(&jwk.kid)).filter(|key| key.jwk == jwk);
        let key = same.cloned().or_else(|| Key::of(jwk, allowed).map(Arc::new));
        if let Some(key) = key {
            keys.insert(key.kid().to_owned(), key);
        }
    }
    keys
}
