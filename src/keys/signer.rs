//! Signing and verifying: compact JWS (RFC 7515 §7.1) over keys that were parsed once.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Serialize;

use super::pair::{BadKey, Pair};
use crate::base::{Secret, base64url};
use crate::model::client::SigningAlg;
use crate::storage::StoreError;

/// The `typ` of access tokens (RFC 9068 §2.1).
pub const ACCESS_TOKEN: &str = "at+jwt";
/// The `typ` of ID tokens.
pub const ID_TOKEN: &str = "JWT";

/// A private key that signs.
pub struct Signer {
    kid: String,
    alg: SigningAlg,
    pair: Pair,
    access_header: String,
    id_header: String,
}

impl Signer {
    pub(super) fn new(kid: &str, alg: SigningAlg, pkcs8: &[u8]) -> Result<Self, BadKey> {
        let pair = Pair::read(alg, pkcs8)?;
        // A key that was damaged at rest can parse and still not sign.
        pair.sign(b"")?;
        Ok(Self {
            access_header: header(alg, ACCESS_TOKEN, kid),
            id_header: header(alg, ID_TOKEN, kid),
            kid: kid.to_owned(),
            alg,
            pair,
        })
    }

    /// The key's `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it signs with.
    pub fn alg(&self) -> SigningAlg {
        self.alg
    }

    /// Signs `claims` under a header of `alg`, `typ` and `kid`.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<Secret<String>, StoreError> {
        let mut token = match typ {
            ACCESS_TOKEN => self.access_header.clone(),
            ID_TOKEN => self.id_header.clone(),
            other => header(self.alg, other, &self.kid),
        };
        let payload = serde_json::to_vec(claims).map_err(StoreError::unavailable)?;
        token.reserve((payload.len() * 4).div_ceil(3) + 700);
        token.push('.');
        token.push_str(&base64url::encode(&payload));
        let signature = self.pair.sign(token.as_bytes()).map_err(StoreError::unavailable)?;
        token.push('.');
        token.push_str(&base64url::encode(signature));
        Ok(Secret::new(token))
    }
}

#[cfg(test)]
impl Signer {
    /// Signs any header and payload, spelt out: what an attacker with the key could.
    pub(crate) fn sign_text(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", base64url::encode(header), base64url::encode(payload));
        let signature = self.pair.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", base64url::encode(signature))
    }
}

fn header(alg: SigningAlg, typ: &str, kid: &str) -> String {
    let header = serde_json::json!({ "alg": alg.as_str(), "typ": typ, "kid": kid });
    base64url::encode(header.to_string())
}

/// A public key that verifies, with exactly one algorithm (RFC 8725 §3.1).
pub struct Verifier {
    kid: String,
    alg: SigningAlg,
    key: DecodingKey,
}

impl Verifier {
    pub(super) fn new(kid: &str, alg: SigningAlg, jwk: &Jwk) -> Result<Self, BadKey> {
        let key = DecodingKey::from_jwk(jwk).map_err(|_| BadKey)?;
        Ok(Self { kid: kid.to_owned(), alg, key })
    }

    /// The key's `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The one algorithm that it verifies.
    pub fn alg(&self) -> SigningAlg {
        self.alg
    }

    /// Whether `signature` (base64url) is this key's over `message`.
    pub fn verify(&self, message: &str, signature: &str) -> bool {
        // One spelling only: base64 with stray bits would be a second token with the same meaning.
        let Ok(bytes) = base64url::decode(signature) else { return false };
        let alg = match self.alg {
            SigningAlg::ES256 | SigningAlg::EdDSA if bytes.len() != 64 => return false,
            SigningAlg::ES256 => Algorithm::ES256,
            SigningAlg::RS256 => Algorithm::RS256,
            SigningAlg::PS256 => Algorithm::PS256,
            SigningAlg::EdDSA => Algorithm::EdDSA,
        };
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, alg) == Ok(true)
    }
}
