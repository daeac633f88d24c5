use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;

use super::{Change, Result};
use crate::base::{Timestamp, hex};
use crate::model::api_key::{ApiKey, ApiKeyId, Owner, PepperedDigest};
use crate::model::{Audit, ClientId, Revocation, RevocationKey, UserId};

/// API keys: made, found, used, rotated, revoked. They are dead while their owner is disabled, and
/// deleted with it: with the user, or with the client that they name.
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
    /// rows stand; at most `limit`, after `after` (nothing, when that is gone).
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

    /// Makes `successor`, of the same owner, in place of `id`, which stays good until `grace_until`
    /// (two live secrets). A key is rotated once. Audits `api_key.rotated`.
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

    /// How many live keys (unrevoked, unexpired, not replaced for good) are under which pepper, by
    /// pepper id.
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
    /// Whether its owner is enabled, and the client through which a user made it, as far as storage
    /// knows (clients of the configuration are unknown to it and count as enabled unless disabled at
    /// run time).
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

impl NewApiKey {
    /// The key as it is stored: never used, never revoked, its networks without host bits.
    pub(super) fn fresh(&self) -> ApiKey {
        ApiKey {
            allowed_ips: self.key.allowed_ips.iter().map(ipnet::IpNet::trunc).collect(),
            last_used_at: None,
            last_used_ip: None,
            usage_count: 0,
            revoked_at: None,
            replaced_by: None,
            grace_until: None,
            ..self.key.clone()
        }
    }
}

/// Whether a key may be rotated.
pub(super) fn rotate(key: &ApiKey, owner_live: bool, now: Timestamp) -> RotateApiKey {
    if key.revoked_at.is_some() || key.expires_at <= now || !owner_live {
        RotateApiKey::NotLive
    } else if key.replaced_by.is_some() {
        RotateApiKey::AlreadyRotated
    } else {
        RotateApiKey::Rotated
    }
}

/// What a revoked key leaves in the log: for those at which it was good.
pub(super) fn entry(key: &ApiKey, expires_at: Timestamp, at: Timestamp) -> Revocation {
    Revocation {
        key: RevocationKey::ApiKey(key.id.to_string()),
        audience: Some(key.audiences.clone()).filter(|all| !all.is_empty()),
        not_before: None,
        expires_at,
        at,
    }
}

/// One entry for each key, in the order of their ids: the sum, and the last of them.
pub(super) fn sum_up(uses: &[ApiKeyUse]) -> Vec<ApiKeyUse> {
    let mut sums: BTreeMap<ApiKeyId, ApiKeyUse> = BTreeMap::new();
    for used in uses {
        sums.entry(used.id)
            .and_modify(|sum| {
                sum.count = sum.count.saturating_add(used.count);
                if sum.last_at <= used.last_at {
                    (sum.last_at, sum.last_ip) = (used.last_at, used.last_ip);
                }
            })
            .or_insert_with(|| used.clone());
    }
    sums.into_values().collect()
}

/// The digest of a row; none for what no version of ours wrote, which no secret opens.
pub(super) fn stored_digest(version: i64, text: &str) -> Option<PepperedDigest> {
    let mut mac = [0; 32];
    for (byte, digits) in mac.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let pepper = u8::try_from(version).ok()?;
    (hex(&mac) == text).then_some(PepperedDigest { pepper, mac })
}

#[cfg(test)]
mod tests {
    use super::stored_digest;
    use crate::base::hex;

    #[test]
    fn only_what_we_would_write_is_read_as_a_digest() {
        let text = hex(&[0xab; 32]);
        assert_eq!(
            stored_digest(7, &text).map(|digest| (digest.pepper, digest.mac)),
            Some((7, [0xab; 32]))
        );
        for (version, text) in [
            (256, text.as_str()),
            (7, &text[1..]),
            (7, &format!("{text}00")),
            (7, &text.to_uppercase()),
            (7, "a-hash"),
            (7, ""),
        ] {
            assert_eq!(stored_digest(version, text), None, "{version} {text}");
        }
    }
}
