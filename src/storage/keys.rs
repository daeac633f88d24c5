use async_trait::async_trait;

use super::{Change, Result};
use crate::base::Timestamp;
use crate::model::Audit;
use crate::model::client::SigningAlg;
use crate::model::key::SigningKeyRecord;

/// The signing keys of a tenant.
#[async_trait]
pub trait SigningKeys: Send + Sync {
    /// Every key of the tenant that is not yet deleted, newest first.
    async fn list_keys(&self) -> Result<Vec<SigningKeyRecord>>;

    /// Stores the first key of its algorithm, as active. Any number of nodes may try at once: one
    /// wins, the others read what it wrote. Audits `key.created`.
    async fn add_first_key(&self, key: &SigningKeyRecord, audit: &Audit) -> Result<AddKey>;

    /// Adds `key` (pending until its `activates_at`, or active at once) and turns the active key of
    /// the same algorithm to retiring, to leave the key set at `retire_at`. Audits `key.rotated`.
    /// A pending key becomes active, and its predecessor retiring, when its time has come: keys are
    /// judged by their times on reading, so no node has to do it.
    async fn rotate_key(
        &self,
        key: &SigningKeyRecord,
        retire_at: Timestamp,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateKey>;

    /// Declares a key compromised: it signs nothing more, and a `kid` entry that expires at
    /// `change.not_after` kills every token it signed. Audits `key.compromised`.
    async fn compromise_key(&self, kid: &str, change: &Change<'_>) -> Result<bool>;
}

/// The outcome of [`SigningKeys::add_first_key`].
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum AddKey {
    /// Stored.
    Added,
    /// Another node was first.
    Exists(Box<SigningKeyRecord>),
}

/// The outcome of [`SigningKeys::rotate_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RotateKey {
    /// Done.
    Rotated,
    /// There is no active key of this algorithm to rotate.
    NoActiveKey(SigningAlg),
    /// A key of this algorithm is pending already.
    AlreadyPending,
}
