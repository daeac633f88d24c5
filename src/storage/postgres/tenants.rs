use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::db::{get, sql, time, unreadable};
use super::text::{audit, revoke};
use super::{Postgres, changing, entries};
use crate::base::Timestamp;
use crate::model::tenant::{TenantRecord, TenantStatus};
use crate::model::{Audit, TenantSlug, TenantUid};
use crate::storage::{Change, ChangeTenant, Result, StoreError, Tenants, horizon};

const BY_SLUG: &str =
    "SELECT uid, slug, status, created_at FROM tenants WHERE slug = $1 AND status <> 'deleted'";

const LIST: &str = "SELECT uid, slug, status, created_at FROM tenants WHERE status <> 'deleted'
     ORDER BY slug COLLATE \"C\"";

const CREATE: &str = concat!(
    "WITH ten AS (
       INSERT INTO tenants (uid, slug, created_at, updated_at)
       VALUES ($1, $7, $2, $2) ON CONFLICT DO NOTHING RETURNING uid),
     ev AS (
       SELECT 'tenant.created' AS action, NULL::uuid AS user_id, NULL::text AS client_id,
         NULL::uuid AS session_id, 'tenant' AS resource_type, uid AS resource_id, true AS success
       FROM ten), ",
    audit!(),
    " SELECT EXISTS (SELECT 1 FROM ten) AS created"
);

const LOCK: &str = "SELECT status FROM tenants WHERE uid = $1 FOR UPDATE";

/// `$7` status, `$8` action, `$9` not-before or null, `$10` when that expires.
const SET_STATUS: &str = concat!(
    "WITH ten AS (
       UPDATE tenants SET status = $7, updated_at = $2,
         deleted_at = CASE WHEN $7 = 'deleted' THEN $2 END
       WHERE uid = $1 AND status <> 'deleted' AND status <> $7 RETURNING uid),
     rv AS (
       SELECT 'tenant' AS kind, '' AS key, $9::timestamptz AS nbf, $10::timestamptz AS exp
       FROM ten WHERE $9::timestamptz IS NOT NULL), ",
    revoke!(),
    ", ev AS (
       SELECT $8 AS action, NULL::uuid AS user_id, NULL::text AS client_id,
         NULL::uuid AS session_id, 'tenant' AS resource_type, uid AS resource_id, true AS success
       FROM ten), ",
    audit!(),
    " SELECT true AS changed, rev.* FROM ten LEFT JOIN rev ON true"
);

/// Every table with a tenant but audit records and revocations, which outlive it.
pub(super) const PURGED: [&str; 16] = [
    "clients",
    "client_states",
    "users",
    "sessions",
    "consents",
    "grants",
    "authorization_codes",
    "access_tokens",
    "status_lists",
    "jti_replay",
    "par_requests",
    "device_codes",
    "api_keys",
    "encryption_keys",
    "login_limits",
    "failed_login_attempts",
];

/// How many rows of a table are deleted at once.
const BATCH: i64 = 5_000;

#[async_trait]
impl Tenants for Postgres {
    async fn ensure_tenant(
        &self,
        slug: &TenantSlug,
        uid: &TenantUid,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<TenantRecord> {
        if let Some(record) = self.find_tenant(slug).await? {
            return Ok(record);
        }
        let fallback = TenantUid::stored(TenantUid::DEFAULT);
        let is_default = slug.as_str() == TenantUid::DEFAULT;
        for uid in is_default.then_some(&fallback).into_iter().chain([uid]) {
            let statement = changing(CREATE, uid, now, audit).bind(slug.as_str());
            let created = get::<bool>(&self.0.db.decide(statement).await?, "created")?;
            // Not created: another node was first, or the uid was used before.
            if let Some(record) = self.find_tenant(slug).await? {
                if created {
                    self.0.changed();
                }
                return Ok(record);
            }
        }
        Err(StoreError::unavailable(format!("tenant uid {uid} is taken")))
    }

    async fn find_tenant(&self, slug: &TenantSlug) -> Result<Option<TenantRecord>> {
        let row = self.0.db.read_one(sql(BY_SLUG).bind(slug.as_str())).await?;
        row.as_ref().map(record).transpose()
    }

    async fn list_tenants(&self) -> Result<Vec<TenantRecord>> {
        self.0.db.read(sql(LIST)).await?.iter().map(record).collect()
    }

    async fn suspend_tenant(&self, uid: &TenantUid, change: &Change<'_>) -> Result<ChangeTenant> {
        self.set_status(uid, TenantStatus::Suspended, change, true).await
    }

    async fn resume_tenant(
        &self,
        uid: &TenantUid,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<ChangeTenant> {
        let change = Change { now, not_after: now, audit };
        self.set_status(uid, TenantStatus::Active, &change, false).await
    }

    async fn delete_tenant(&self, uid: &TenantUid, change: &Change<'_>) -> Result<ChangeTenant> {
        let outcome = self.set_status(uid, TenantStatus::Deleted, change, true).await?;
        // Dead already by its status and its not-before; called again, it goes on where it stopped.
        if outcome != ChangeTenant::Unknown {
            self.purge(uid).await?;
        }
        Ok(outcome)
    }
}

impl Postgres {
    async fn set_status(
        &self,
        uid: &TenantUid,
        to: TenantStatus,
        change: &Change<'_>,
        kills: bool,
    ) -> Result<ChangeTenant> {
        let action = match to {
            TenantStatus::Active => "tenant.resumed",
            TenantStatus::Suspended => "tenant.suspended",
            TenantStatus::Deleted => "tenant.deleted",
        };
        let lock = sql(LOCK).bind(uid.as_str());
        let then = changing(SET_STATUS, uid, change.now, change.audit)
            .bind(to.as_str())
            .bind(action)
            .at_if(kills.then(|| change.now.plus(horizon::NOT_BEFORE_AHEAD)))
            .at(change.not_after);
        let (was, rows) = self.0.db.lock_then(lock, then).await?;
        let Some(was) = was.first() else { return Ok(ChangeTenant::Unknown) };
        if rows.is_empty() {
            let was = get::<&str>(was, "status")?;
            let same = was == to.as_str();
            return Ok(if same { ChangeTenant::Unchanged } else { ChangeTenant::Unknown });
        }
        self.0.announce(&entries(uid, &rows, change.now)?);
        self.0.changed();
        Ok(ChangeTenant::Changed)
    }

    /// Deletes every row of a tenant that is deleted, in batches.
    async fn purge(&self, uid: &TenantUid) -> Result<()> {
        for table in PURGED {
            loop {
                let text = format!(
                    "WITH gone AS (DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                       SELECT ctid FROM {table} WHERE tenant_uid = $1 LIMIT $2)) RETURNING 1)
                     SELECT count(*) AS gone FROM gone"
                );
                let statement = sql(sqlx::AssertSqlSafe(text)).bind(uid.as_str()).bind(BATCH);
                if get::<i64>(&self.0.db.decide(statement).await?, "gone")? < BATCH {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn record(row: &PgRow) -> Result<TenantRecord> {
    Ok(TenantRecord {
        uid: TenantUid::stored(get(row, "uid")?),
        slug: TenantSlug::parse(get(row, "slug")?).map_err(|_| unreadable("tenant slug"))?,
        status: TenantStatus::parse(get(row, "status")?)
            .ok_or_else(|| unreadable("tenant status"))?,
        created_at: time(row, "created_at")?,
    })
}
