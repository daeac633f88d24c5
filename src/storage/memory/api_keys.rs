use std::collections::BTreeMap;
use std::collections::hash_map::Entry;

use async_trait::async_trait;

use super::MemoryTenant;
use super::rows::{ApiKeyRow, Rows};
use super::state::{Change as Commit, Concerned};
use crate::base::Timestamp;
use crate::model::api_key::{ApiKey, ApiKeyId, Owner, PepperedDigest};
use crate::model::audit::Action;
use crate::model::{Audit, ClientId, Revocation};
use crate::storage::api_keys::{entry, rotate, sum_up};
use crate::storage::{
    ApiKeyRecord, ApiKeyUse, ApiKeys, Change, CreateApiKey, NewApiKey, OwnerId, Result,
    RevokeApiKey, RotateApiKey, StoreError, horizon,
};

#[async_trait]
impl ApiKeys for MemoryTenant {
    async fn create_api_key(
        &self,
        key: &NewApiKey,
        at_most: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateApiKey> {
        self.change(|rows, change| {
            let fresh = key.fresh();
            if !rows.owner_is_live(&fresh.owner) {
                return Ok(CreateApiKey::OwnerNotLive);
            }
            let owner = OwnerId::from(&fresh.owner);
            let live = rows.api_keys.values().filter(|row| row.key.is_live(now));
            let held = live.filter(|row| OwnerId::from(&row.key.owner) == owner).count();
            if held >= at_most as usize {
                return Ok(CreateApiKey::TooMany);
            }
            let of = concerned(&fresh);
            insert(rows, fresh, key.digest)?;
            change.record(Action::ApiKeyCreated, now, audit, of);
            Ok(CreateApiKey::Created)
        })
    }

    async fn find_api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>> {
        Ok(self.read(|rows| {
            let row = rows.api_keys.get(&id)?;
            let owner_live = rows.owner_is_live(&row.key.owner);
            Some(ApiKeyRecord { key: row.key.clone(), digest: row.digest, owner_live })
        }))
    }

    async fn list_api_keys(
        &self,
        owner: Option<&OwnerId>,
        after: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>> {
        let place = |key: &ApiKey| (key.created_at, key.id);
        Ok(self.read(|rows| {
            let end = after.map(|id| rows.api_keys.get(&id).map(|row| place(&row.key)));
            let before = |key: &ApiKey| match end {
                None => true,
                Some(end) => end.is_some_and(|end| place(key) < end),
            };
            let theirs =
                |key: &ApiKey| owner.is_none_or(|owner| OwnerId::from(&key.owner) == *owner);
            let keys = rows.api_keys.values().map(|row| &row.key);
            let mut page: Vec<_> = keys.filter(|key| theirs(key) && before(key)).collect();
            page.sort_unstable_by_key(|key| std::cmp::Reverse(place(key)));
            page.into_iter().take(limit as usize).cloned().collect()
        }))
    }

    async fn rehash_api_key(
        &self,
        id: ApiKeyId,
        from: &PepperedDigest,
        to: &PepperedDigest,
    ) -> Result<bool> {
        Ok(self.change(|rows, _| {
            let row = rows.api_keys.get_mut(&id).filter(|row| row.digest == *from);
            row.map(|row| row.digest = *to).is_some()
        }))
    }

    async fn rotate_api_key(
        &self,
        id: ApiKeyId,
        successor: &NewApiKey,
        grace_until: Timestamp,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateApiKey> {
        self.change(|rows, change| {
            let Some(row) = rows.api_keys.get(&id) else { return Ok(RotateApiKey::Unknown) };
            let verdict = rotate(&row.key, rows.owner_is_live(&row.key.owner), now);
            if verdict != RotateApiKey::Rotated {
                return Ok(verdict);
            }
            let of = concerned(&row.key);
            let next = ApiKey { owner: row.key.owner.clone(), ..successor.fresh() };
            let next_id = next.id;
            insert(rows, next, successor.digest)?;
            if let Some(row) = rows.api_keys.get_mut(&id) {
                row.key.replaced_by = Some(next_id);
                row.key.grace_until = Some(grace_until);
                row.keep_until = row.keep_until.min(horizon::ended_api_key(grace_until));
            }
            change.record(Action::ApiKeyRotated, now, audit, of);
            Ok(RotateApiKey::Rotated)
        })
    }

    async fn revoke_api_key(&self, id: ApiKeyId, change: &Change<'_>) -> Result<RevokeApiKey> {
        Ok(self.change(|rows, commit| {
            let Some(row) = rows.api_keys.get_mut(&id) else { return RevokeApiKey::Unknown };
            if row.key.revoked_at.is_some() {
                return RevokeApiKey::AlreadyRevoked;
            }
            row.revoke(change.now);
            revoked(commit, &row.key, change);
            RevokeApiKey::Revoked
        }))
    }

    async fn note_api_key_uses(&self, uses: &[ApiKeyUse]) -> Result<()> {
        self.change(|rows, _| {
            for used in sum_up(uses) {
                let Some(row) = rows.api_keys.get_mut(&used.id) else { continue };
                row.key.usage_count = row.key.usage_count.saturating_add(used.count);
                if row.key.last_used_at <= Some(used.last_at) {
                    row.key.last_used_at = Some(used.last_at);
                    row.key.last_used_ip = used.last_ip;
                }
            }
        });
        Ok(())
    }

    async fn count_api_keys_by_pepper(&self, now: Timestamp) -> Result<Vec<(u8, u64)>> {
        Ok(self.read(|rows| {
            let mut counts = BTreeMap::new();
            for row in rows.api_keys.values().filter(|row| row.key.is_live(now)) {
                *counts.entry(row.digest.pepper).or_default() += 1;
            }
            counts.into_iter().collect()
        }))
    }
}

fn insert(rows: &mut Rows, key: ApiKey, digest: PepperedDigest) -> Result<()> {
    let Entry::Vacant(vacant) = rows.api_keys.entry(key.id) else {
        return Err(StoreError::unavailable("the API key is there already"));
    };
    let keep_until = horizon::ended_api_key(key.expires_at);
    vacant.insert(ApiKeyRow { key, digest, keep_until });
    Ok(())
}

fn revoked(commit: &mut Commit, key: &ApiKey, change: &Change<'_>) {
    commit.append(entry(key, change.not_after, change.now));
    commit.record(Action::ApiKeyRevoked, change.now, change.audit, concerned(key));
}

fn concerned(key: &ApiKey) -> Concerned {
    let (user, client) = match &key.owner {
        Owner::User { user, client } => (Some(*user), client.clone()),
        Owner::Client(client) => (None, Some(client.clone())),
    };
    Concerned { user, client, ..Concerned::resource("api_key", &key.id) }
}

/// Deletes the keys that name a client; what the live ones among them leave in the log.
pub(super) fn take_api_keys(rows: &mut Rows, client: &ClientId, now: Timestamp) -> Vec<Revocation> {
    let mut entries = Vec::new();
    rows.api_keys.retain(|_, row| {
        let goes = row.key.owner.client() == Some(client);
        if goes && row.key.revoked_at.is_none() && now < row.key.expires_at {
            entries.push(entry(&row.key, row.key.expires_at.plus(horizon::LEEWAY), now));
        }
        !goes
    });
    entries
}
