//! Signing keys of a tenant.

use serde_json::Value;

use super::client::SigningAlg;
use crate::base::Timestamp;

/// Where a signing key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Published, not yet signing: verifiers get to know it.
    Pending,
    /// Signing.
    Active,
    /// No longer signing, still published until the last token it signed has ended.
    Retiring,
    /// Compromised: nothing it signed is believed.
    Compromised,
}

impl KeyState {
    /// As stored in `encryption_keys.status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retiring => "rotated",
            Self::Compromised => "compromised",
        }
    }

    /// From storage.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Active, Self::Retiring, Self::Compromised]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A signing key as storage keeps it. The private half is sealed under the key ring.
#[derive(Debug, Clone, PartialEq)]
pub struct SigningKeyRecord {
    /// `kid`: unique across tenants.
    pub kid: String,
    /// What it signs with.
    pub alg: SigningAlg,
    /// The private key, PKCS#8, sealed by `keys/`; storage cannot read it.
    pub sealed: Vec<u8>,
    /// The ring key that sealed it.
    pub ring_kid: u8,
    /// The public half, a JWK.
    pub public_jwk: Value,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it begins (or began) to sign.
    pub activates_at: Timestamp,
    /// When it leaves the key set, once retiring.
    pub expires_at: Option<Timestamp>,
}
