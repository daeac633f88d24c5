use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use sqlx::sqlite::SqliteRow;

use super::audit_log::record;
use super::error::unreadable;
use super::row::{Columns, to_json};
use super::value::Statement;
use super::{SqliteTenant, Tx, sql};
use crate::base::{Timestamp, hex};
use crate::model::api_key::{ApiKey, ApiKeyId, KeyRate, Owner, PepperedDigest};
use crate::model::audit::AuditRecord;
use crate::model::{Action, Audit, ClientId, TenantUid, UserId};
use crate::storage::api_keys::{entry, rotate, stored_digest, sum_up};
use crate::storage::{
    ApiKeyRecord, ApiKeyUse, ApiKeys, Change, CreateApiKey, NewApiKey, OwnerId, Result,
    RevokeApiKey, RotateApiKey, horizon,
};

#[async_trait]
impl ApiKeys for SqliteTenant {
    async fn create_api_key(
        &self,
        key: &NewApiKey,
        at_most: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateApiKey> {
        let (tenant, new, audit) = (self.tenant.clone(), key.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(
                    async move { tx.create_api_key(&tenant, &new, at_most, now, &audit).await },
                )
            })
            .await
    }

    async fn find_api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>> {
        let Some(row) = self.store.row(by_id(&self.tenant, id)).await? else { return Ok(None) };
        let Some(digest) = stored_digest(row.get("hash_version")?, row.get("api_key_hash")?) else {
            return Ok(None);
        };
        Ok(Some(ApiKeyRecord { key: read(&row)?, digest, owner_live: row.get("owner_live")? }))
    }

    async fn list_api_keys(
        &self,
        owner: Option<&OwnerId>,
        after: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>> {
        macro_rules! page {
            ($which:literal) => {
                concat!(
                    "SELECT * FROM api_keys WHERE tenant_uid = ?1 AND ",
                    $which,
                    " AND (?3 IS NULL OR (created_at, id) < (SELECT a.created_at, a.id
                         FROM api_keys a WHERE a.tenant_uid = ?1 AND a.id = ?3))
                     ORDER BY created_at DESC, id DESC LIMIT ?4"
                )
            };
        }
        let page = match owner {
            Some(OwnerId::User(user)) => {
                sql!(page!("user_id = ?2"), &self.tenant, *user, after, limit)
            }
            Some(OwnerId::Client(client)) => {
                let text = page!("client_id = ?2 AND user_id IS NULL");
                sql!(text, &self.tenant, client, after, limit)
            }
            None => {
                let text = page!("?2 IS NULL AND coalesce(user_id, client_id) IS NOT NULL");
                sql!(text, &self.tenant, None::<&str>, after, limit)
            }
        };
        self.store.rows(page).await?.iter().map(read).collect()
    }

    async fn rehash_api_key(
        &self,
        id: ApiKeyId,
        from: &PepperedDigest,
        to: &PepperedDigest,
    ) -> Result<bool> {
        let rehash = sql!(
            "UPDATE api_keys SET api_key_hash = ?5, hash_version = ?6 WHERE tenant_uid = ?1
               AND id = ?2 AND api_key_hash = ?3 AND hash_version = ?4",
            &self.tenant,
            id,
            hex(&from.mac),
            from.pepper,
            hex(&to.mac),
            to.pepper,
        );
        self.store.write(move |tx| Box::pin(async move { Ok(tx.run(rehash).await? == 1) })).await
    }

    async fn rotate_api_key(
        &self,
        id: ApiKeyId,
        successor: &NewApiKey,
        grace_until: Timestamp,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateApiKey> {
        let (tenant, successor, audit) = (self.tenant.clone(), successor.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    tx.rotate_api_key(&tenant, id, &successor, grace_until, now, &audit).await
                })
            })
            .await
    }

    async fn revoke_api_key(&self, id: ApiKeyId, change: &Change<'_>) -> Result<RevokeApiKey> {
        let (tenant, audit) = (self.tenant.clone(), change.audit.clone());
        let (now, not_after) = (change.now, change.not_after);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let Some(row) = tx.row(by_id(&tenant, id)).await? else {
                        return Ok(RevokeApiKey::Unknown);
                    };
                    let key = read(&row)?;
                    if key.revoked_at.is_some() {
                        return Ok(RevokeApiKey::AlreadyRevoked);
                    }
                    tx.run(end_api_key(&tenant, id, now)).await?;
                    tx.revoke(&tenant, entry(&key, not_after, now)).await?;
                    tx.audit(&tenant, &about(&key, Action::ApiKeyRevoked, now, &audit)).await?;
                    Ok(RevokeApiKey::Revoked)
                })
            })
            .await
    }

    async fn note_api_key_uses(&self, uses: &[ApiKeyUse]) -> Result<()> {
        if uses.is_empty() {
            return Ok(());
        }
        let uses: Vec<_> = sum_up(uses)
            .into_iter()
            .map(|used| {
                let id = hex(used.id.0.as_bytes());
                json!([id, used.count, used.last_at.millis(), used.last_ip])
            })
            .collect();
        let note = sql!(
            "UPDATE api_keys SET usage_count = usage_count + (u.value ->> 1),
               last_used_ip = CASE WHEN last_used_at > u.value ->> 2 THEN last_used_ip
                 ELSE u.value ->> 3 END,
               last_used_at = max(coalesce(last_used_at, 0), u.value ->> 2)
             FROM json_each(?2) u WHERE tenant_uid = ?1 AND api_keys.id = unhex(u.value ->> 0)",
            &self.tenant,
            serde_json::Value::from(uses).to_string(),
        );
        self.store.write(move |tx| Box::pin(async move { tx.run(note).await.map(drop) })).await
    }

    async fn count_api_keys_by_pepper(&self, now: Timestamp) -> Result<Vec<(u8, u64)>> {
        let count = sql!(
            "SELECT hash_version, count(*) AS n FROM api_keys WHERE tenant_uid = ?1
               AND revoked_at IS NULL AND expires_at > ?2
               AND (grace_until IS NULL OR grace_until > ?2)
             GROUP BY hash_version ORDER BY hash_version",
            &self.tenant,
            now,
        );
        let rows = self.store.rows(count).await?;
        rows.iter().map(|row| Ok((row.number("hash_version")?, row.number("n")?))).collect()
    }
}

impl Tx {
    async fn create_api_key(
        &mut self,
        tenant: &TenantUid,
        new: &NewApiKey,
        at_most: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateApiKey> {
        let key = new.fresh();
        let find = sql!(
            "SELECT (?2 IS NULL OR EXISTS (SELECT 1 FROM users u WHERE u.tenant_uid = ?1
                 AND u.id = ?2 AND u.is_active = 1 AND u.deleted_at IS NULL))
               AND NOT EXISTS (SELECT 1 FROM client_states c WHERE c.tenant_uid = ?1
                 AND c.client_id = ?3) AS owner_live,
               (SELECT count(*) FROM api_keys k WHERE k.tenant_uid = ?1 AND k.user_id = ?2
                 AND k.revoked_at IS NULL AND k.expires_at > ?4
                 AND (k.grace_until IS NULL OR k.grace_until > ?4))
               + (SELECT count(*) FROM api_keys k WHERE k.tenant_uid = ?1 AND k.client_id = ?3
                 AND k.user_id IS NULL AND ?2 IS NULL
                 AND k.revoked_at IS NULL AND k.expires_at > ?4
                 AND (k.grace_until IS NULL OR k.grace_until > ?4)) AS held",
            tenant,
            key.owner.user(),
            key.owner.client(),
            now,
        );
        let Some(row) = self.row(find).await? else { return Err(unreadable("owner")) };
        if !row.get::<bool>("owner_live")? {
            return Ok(CreateApiKey::OwnerNotLive);
        }
        if row.get::<i64>("held")? >= i64::from(at_most) {
            return Ok(CreateApiKey::TooMany);
        }
        self.insert_api_key(tenant, &key, &new.digest).await?;
        self.audit(tenant, &about(&key, Action::ApiKeyCreated, now, audit)).await?;
        Ok(CreateApiKey::Created)
    }

    async fn rotate_api_key(
        &mut self,
        tenant: &TenantUid,
        id: ApiKeyId,
        successor: &NewApiKey,
        grace_until: Timestamp,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateApiKey> {
        let Some(row) = self.row(by_id(tenant, id)).await? else {
            return Ok(RotateApiKey::Unknown);
        };
        let old = read(&row)?;
        let verdict = rotate(&old, row.get("owner_live")?, now);
        if verdict != RotateApiKey::Rotated {
            return Ok(verdict);
        }
        let next = ApiKey { owner: old.owner.clone(), ..successor.fresh() };
        self.insert_api_key(tenant, &next, &successor.digest).await?;
        self.run(sql!(
            "UPDATE api_keys SET replaced_by = ?3, grace_until = ?4,
               keep_until = min(coalesce(keep_until, ?5), ?5)
             WHERE tenant_uid = ?1 AND id = ?2",
            tenant,
            id,
            next.id,
            grace_until,
            horizon::ended_api_key(grace_until),
        ))
        .await?;
        self.audit(tenant, &about(&old, Action::ApiKeyRotated, now, audit)).await?;
        Ok(RotateApiKey::Rotated)
    }

    async fn insert_api_key(
        &mut self,
        tenant: &TenantUid,
        key: &ApiKey,
        digest: &PepperedDigest,
    ) -> Result<()> {
        let scopes: Vec<_> = key.scope.iter().collect();
        let ips = (!key.allowed_ips.is_empty()).then(|| to_json(&key.allowed_ips)).transpose()?;
        self.run(sql!(
            "INSERT INTO api_keys (tenant_uid, id, client_id, user_id, name, description,
               key_prefix, api_key_hash, hash_version, scopes, audiences, exchange, allowed_ips,
               rate_limit, rate_window_s, created_at, expires_at, keep_until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
               ?18)",
            tenant,
            key.id,
            key.owner.client(),
            key.owner.user(),
            &key.name,
            key.description.as_ref(),
            &key.prefix,
            hex(&digest.mac),
            digest.pepper,
            to_json(&scopes)?,
            to_json(&key.audiences)?,
            key.exchange,
            ips,
            key.rate.limit,
            i64::try_from(key.rate.window.as_secs()).unwrap_or(i64::MAX),
            key.created_at,
            key.expires_at,
            horizon::ended_api_key(key.expires_at),
        ))
        .await
        .map(drop)
    }

    /// What the live keys that name a client leave in the log; their rows are the caller's.
    pub(super) async fn revoke_api_keys_of(
        &mut self,
        tenant: &TenantUid,
        client: &ClientId,
        now: Timestamp,
    ) -> Result<()> {
        let find = sql!(
            "SELECT * FROM api_keys WHERE tenant_uid = ?1 AND client_id = ?2",
            tenant,
            client,
        );
        for row in self.rows(find).await? {
            let key = read(&row)?;
            if key.revoked_at.is_none() && now < key.expires_at {
                let last = key.expires_at.plus(horizon::LEEWAY);
                self.revoke(tenant, entry(&key, last, now)).await?;
            }
        }
        Ok(())
    }
}

fn by_id(tenant: &TenantUid, id: ApiKeyId) -> Statement {
    sql!(
        "SELECT k.*, (k.user_id IS NULL OR EXISTS (SELECT 1 FROM users u WHERE u.tenant_uid = ?1
             AND u.id = k.user_id AND u.is_active = 1 AND u.deleted_at IS NULL))
           AND NOT EXISTS (SELECT 1 FROM client_states c WHERE c.tenant_uid = ?1
             AND c.client_id = k.client_id) AS owner_live
         FROM api_keys k WHERE k.tenant_uid = ?1 AND k.id = ?2",
        tenant,
        id,
    )
}

/// Revokes a key that is not revoked.
pub(super) fn end_api_key(tenant: &TenantUid, id: ApiKeyId, now: Timestamp) -> Statement {
    sql!(
        "UPDATE api_keys SET revoked_at = ?3, keep_until = min(coalesce(keep_until, ?4), ?4)
         WHERE tenant_uid = ?1 AND id = ?2 AND revoked_at IS NULL",
        tenant,
        id,
        now,
        horizon::ended_api_key(now),
    )
}

/// A record of something that happened to a key.
fn about(key: &ApiKey, action: Action, now: Timestamp, audit: &Audit) -> AuditRecord {
    AuditRecord {
        user: key.owner.user(),
        client: key.owner.client().cloned(),
        resource: Some(("api_key", key.id.to_string())),
        ..record(action, now, audit)
    }
}

fn read(row: &SqliteRow) -> Result<ApiKey> {
    let client = row.get::<Option<&str>>("client_id")?.map(ClientId::new);
    let owner = match row.id_opt::<UserId>("user_id")? {
        Some(user) => Owner::User { user, client },
        None => Owner::Client(client.ok_or_else(|| unreadable("owner"))?),
    };
    let scopes: Vec<String> = row.json("scopes")?;
    let created_at = row.time("created_at")?;
    let ip = row.get::<Option<&str>>("last_used_ip")?;
    Ok(ApiKey {
        id: row.id("id")?,
        owner,
        name: row.get("name")?,
        description: row.get("description")?,
        prefix: row.get::<Option<String>>("key_prefix")?.unwrap_or_default(),
        scope: scopes.iter().map(String::as_str).collect(),
        audiences: row.json("audiences")?,
        exchange: row.get("exchange")?,
        allowed_ips: row.json_opt("allowed_ips")?.unwrap_or_default(),
        rate: KeyRate {
            limit: row.number("rate_limit")?,
            window: Duration::from_secs(row.number("rate_window_s")?),
        },
        created_at,
        // Without an end, written by hand, it was never good.
        expires_at: row.time_opt("expires_at")?.unwrap_or(created_at),
        last_used_at: row.time_opt("last_used_at")?,
        last_used_ip: ip
            .map(|ip| ip.parse().map_err(|_| unreadable("last_used_ip")))
            .transpose()?,
        usage_count: row.number("usage_count")?,
        revoked_at: row.time_opt("revoked_at")?,
        replaced_by: row.id_opt("replaced_by")?,
        grace_until: row.time_opt("grace_until")?,
    })
}
