//! What a tenant's signing keys are at a point in time: their states follow from their times.

use crate::base::Timestamp;
use crate::model::client::SigningAlg;
use crate::model::key::KeyState;

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
