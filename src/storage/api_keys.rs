use std::net::IpAddr;

use async_trait::async_trait;

use super::{Change, Result};
use crate::base::Timestamp;
use crate::model::api_key::{ApiKey, ApiKeyId, Owner, PepperedDigest};
use crate::model::{Audit, ClientId, UserId};

/// API keys: made, found, used, rotated, revoked.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Keeps a new key, if its owner is live (user enabled, client not disabled) and has fewer than
    /// `at_most` live keys; both under the owner's lock, so that no number of callers at once gets
    /// past the limit. Audits `api_key.created`.
    async fn create_api_key(
        &self,
        key: &NewApiKey,
        at_most: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateApiKey>;

    /// The key of this id, dead or alive, with what its secret is compared to: one indexed look-up.
    async fn find_api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>>;

    /// The keys of an owner (of everybody when none), newest first, dead ones too as long as their
    /// rows stand; at most `limit`, after `after`.
    async fn list_api_keys(
        &self,
        owner: Option<&OwnerId>,
        after: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>>;

    /// Puts the digest under a newer pepper in place of `from`, if that is still what is stored.
    /// Not audited. Says whether it was replaced.
    async fn rehash_api_key(
        &self,
        id: ApiKeyId,
        from: &PepperedDigest,
        to: &PepperedDigest,
    ) -> Result<bool>;

    /// Makes `successor` in place of `id`, which stays good until `grace_until` (two live secrets).
    /// A key is rotated once. Audits `api_key.rotated`.
    async fn rotate_api_key(
        &self,
        id: ApiKeyId,
        successor: &NewApiKey,
        grace_until: Timestamp,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateApiKey>;

    /// Revokes a key, with an `api_key` entry in the log that expires at `change.not_after`.
    /// Idempotent. Audits `api_key.revoked`.
    async fn revoke_api_key(&self, id: ApiKeyId, change: &Change<'_>) -> Result<RevokeApiKey>;

    /// Adds up uses, many keys in one statement; never a write per request.
    async fn note_api_key_uses(&self, uses: &[ApiKeyUse]) -> Result<()>;

    /// How many live keys (unrevoked, unexpired) are under which pepper, by pepper id.
    async fn count_api_keys_by_pepper(&self, now: Timestamp) -> Result<Vec<(u8, u64)>>;
}

/// What storage knows of peppers: never the secret, only whether two nodes mean the same one, and
/// whether keys under it are still to be accepted.
#[async_trait]
pub trait Peppers: Send + Sync {
    /// Records pepper `id` as live with its check value if none is recorded, and says what is there.
    async fn check_pepper(&self, id: u8, check: &[u8; 32], now: Timestamp) -> Result<PepperCheck>;

    /// All that are recorded, by id, and whether each is retired.
    async fn known_peppers(&self) -> Result<Vec<KnownPepper>>;

    /// Keys under this pepper are refused from now on, on every node. False when none is recorded.
    async fn retire_pepper(&self, id: u8, now: Timestamp) -> Result<bool>;
}

/// A key to be kept.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The key; `created_at`, use, revocation and rotation are as for a new one.
    pub key: ApiKey,
    /// The digest of its secret.
    pub digest: PepperedDigest,
}

/// A key as it is looked up to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// The key.
    pub key: ApiKey,
    /// The digest of its secret.
    pub digest: PepperedDigest,
    /// Whether its owner is enabled, as far as storage knows (clients of the configuration are
    /// unknown to it and count as enabled unless disabled at run time).
    pub owner_live: bool,
}

/// Whose keys are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerId {
    /// A user's, through whichever client they were made.
    User(UserId),
    /// A client's own.
    Client(ClientId),
}

impl From<&Owner> for OwnerId {
    fn from(owner: &Owner) -> Self {
        match owner {
            Owner::User { user, .. } => Self::User(*user),
            Owner::Client(client) => Self::Client(client.clone()),
        }
    }
}

/// Uses of one key since the last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyUse {
    /// The key.
    pub id: ApiKeyId,
    /// How often.
    pub count: u64,
    /// The last time; stored times never move backwards.
    pub last_at: Timestamp,
    /// From where.
    pub last_ip: Option<IpAddr>,
}

/// The outcome of [`ApiKeys::create_api_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CreateApiKey {
    /// Kept.
    Created,
    /// The owner has as many live keys as it may.
    TooMany,
    /// The owner is disabled or gone.
    OwnerNotLive,
}

/// The outcome of [`ApiKeys::rotate_api_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RotateApiKey {
    /// The successor is kept; the old one has its grace.
    Rotated,
    /// It was rotated before.
    AlreadyRotated,
    /// It is revoked, expired, or its owner is not live.
    NotLive,
    /// No such key.
    Unknown,
}

/// The outcome of [`ApiKeys::revoke_api_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RevokeApiKey {
    /// Revoked now.
    Revoked,
    /// Was revoked already.
    AlreadyRevoked,
    /// No such key.
    Unknown,
}

/// The outcome of [`Peppers::check_pepper`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PepperCheck {
    /// Recorded now.
    Recorded,
    /// The same as recorded, and live.
    Matches,
    /// The same as recorded, but retired: it verifies nothing.
    Retired,
    /// Another secret was recorded under this id: the node must not start.
    Mismatch,
}

/// A pepper that storage knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPepper {
    /// Its id.
    pub id: u8,
    /// When it was retired.
    pub retired_at: Option<Timestamp>,
}
