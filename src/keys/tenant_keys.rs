//! skeleton
use std::sync::Arc;
use std::time::Duration;

use super::set::KeyInfo;
use super::{Ring, Signer, Verifier};
use crate::base::{Entropy, Timestamp};
use crate::config::settings::Signing;
use crate::model::client::SigningAlg;
use crate::model::{Audit, TenantUid};
use crate::storage::{Result, RotateKey, TenantHandle};

/// The signing keys of one tenant: made at first use, cached.
pub struct TenantKeys {
    tenant: TenantUid,
    store: TenantHandle,
    ring: Arc<Ring>,
    entropy: Arc<dyn Entropy>,
    signing: Signing,
}

impl TenantKeys {
    /// The key that signs with `alg` at `now`; made if there is none.
    pub async fn signer(&self, alg: SigningAlg, now: Timestamp) -> Result<Arc<Signer>> {
        todo!()
    }
    /// The key of this `kid`; none when unknown, retired past its end, or compromised.
    pub async fn verifier(&self, kid: &str, now: Timestamp) -> Result<Option<Arc<Verifier>>> {
        todo!()
    }
    /// The key set (RFC 7517 §5) as JSON text: public members only.
    pub async fn jwks(&self, now: Timestamp) -> Result<Arc<str>> {
        todo!()
    }
    /// Makes a new key of `alg` that signs from `now + lead` on.
    pub async fn rotate(
        &self,
        alg: SigningAlg,
        lead: Duration,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateKey> {
        todo!()
    }
    /// The keys, newest first.
    pub async fn list(&self, now: Timestamp) -> Result<Vec<KeyInfo>> {
        todo!()
    }
    /// Declares a key compromised.
    pub async fn compromise(&self, kid: &str, now: Timestamp, audit: &Audit) -> Result<bool> {
        todo!()
    }
}
