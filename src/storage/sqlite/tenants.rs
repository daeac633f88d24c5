use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::audit_log::record;
use super::error::unreadable;
use super::revocations::not_before;
use super::row::Columns;
use super::value::Statement;
use super::{Sqlite, Tx, sql};
use crate::base::Timestamp;
use crate::model::tenant::{TenantRecord, TenantStatus};
use crate::model::{Action, Audit, Revocation, RevocationKey, TenantSlug, TenantUid};
use crate::storage::{Change, ChangeTenant, Result, Tenants};

/// Every table with a tenant, but audit records and revocations, which outlive it.
pub(super) const OF_TENANT: &[&str] = &[
    "DELETE FROM clients WHERE tenant_uid = ?1",
    "DELETE FROM client_states WHERE tenant_uid = ?1",
    "DELETE FROM users WHERE tenant_uid = ?1",
    "DELETE FROM sessions WHERE tenant_uid = ?1",
    "DELETE FROM consents WHERE tenant_uid = ?1",
    "DELETE FROM grants WHERE tenant_uid = ?1",
    "DELETE FROM authorization_codes WHERE tenant_uid = ?1",
    "DELETE FROM access_tokens WHERE tenant_uid = ?1",
    "DELETE FROM status_lists WHERE tenant_uid = ?1",
    "DELETE FROM jti_replay WHERE tenant_uid = ?1",
    "DELETE FROM par_requests WHERE tenant_uid = ?1",
    "DELETE FROM device_codes WHERE tenant_uid = ?1",
    "DELETE FROM api_keys WHERE tenant_uid = ?1",
    "DELETE FROM encryption_keys WHERE tenant_uid = ?1",
    "DELETE FROM login_limits WHERE tenant_uid = ?1",
    "DELETE FROM failed_login_attempts WHERE tenant_uid = ?1",
];

#[async_trait]
impl Tenants for Sqlite {
    async fn ensure_tenant(
        &self,
        slug: &TenantSlug,
        uid: &TenantUid,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<TenantRecord> {
        if let Some(known) = self.find_tenant(slug).await? {
            return Ok(known);
        }
        let (slug, uid, audit) = (slug.clone(), uid.clone(), audit.clone());
        self.write(move |tx| Box::pin(async move {
                if let Some(row) = tx.row(by_slug(&slug)).await? {
                    return read(&row);
                }
                let uid = tx.free_uid(&slug, uid).await?;
                let create = sql!(
                    "INSERT INTO tenants (uid, slug, created_at, updated_at) VALUES (?1, ?2, ?3, ?3)",
                    &uid, slug.as_str(), now,
                );
                tx.run(create).await?;
                let mut audited = record(Action::TenantCreated, now, &audit);
                audited.resource = Some(("tenant", uid.to_string()));
                tx.audit(&uid, &audited).await?;
                tx.hint();
                Ok(TenantRecord { uid, slug, status: TenantStatus::Active, created_at: now })
            })).await
    }

    async fn find_tenant(&self, slug: &TenantSlug) -> Result<Option<TenantRecord>> {
        self.row(by_slug(slug)).await?.as_ref().map(read).transpose()
    }

    async fn list_tenants(&self) -> Result<Vec<TenantRecord>> {
        let all = sql!("SELECT * FROM tenants WHERE status <> 'deleted' ORDER BY slug");
        self.rows(all).await?.iter().map(read).collect()
    }

    async fn suspend_tenant(&self, uid: &TenantUid, change: &Change<'_>) -> Result<ChangeTenant> {
        let entry = not_before(RevocationKey::Tenant, change.now, change.not_after);
        self.set_status(uid, TenantStatus::Suspended, Some(entry), change.now, change.audit).await
    }

    async fn resume_tenant(
        &self,
        uid: &TenantUid,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<ChangeTenant> {
        self.set_status(uid, TenantStatus::Active, None, now, audit).await
    }

    async fn delete_tenant(&self, uid: &TenantUid, change: &Change<'_>) -> Result<ChangeTenant> {
        let entry = not_before(RevocationKey::Tenant, change.now, change.not_after);
        self.set_status(uid, TenantStatus::Deleted, Some(entry), change.now, change.audit).await
    }
}

impl Sqlite {
    async fn set_status(
        &self,
        uid: &TenantUid,
        status: TenantStatus,
        entry: Option<Revocation>,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<ChangeTenant> {
        let uid = uid.clone();
        let mut audited = record(action_of(status), now, audit);
        audited.resource = Some(("tenant", uid.to_string()));
        self.write(move |tx| {
            Box::pin(async move {
                let outcome = tx.change_status(&uid, status, now).await?;
                if outcome != ChangeTenant::Changed {
                    return Ok(outcome);
                }
                if let Some(entry) = entry {
                    tx.revoke(&uid, entry).await?;
                }
                if status == TenantStatus::Deleted {
                    for delete in OF_TENANT {
                        tx.run(sql!(*delete, &uid)).await?;
                    }
                }
                tx.audit(&uid, &audited).await?;
                tx.hint();
                Ok(ChangeTenant::Changed)
            })
        })
        .await
    }
}

impl Tx {
    /// The uid of a new tenant: the one that printed SQL falls back to, if nobody ever had it.
    async fn free_uid(&mut self, slug: &TenantSlug, uid: TenantUid) -> Result<TenantUid> {
        if slug.as_str() != TenantUid::DEFAULT {
            return Ok(uid);
        }
        let used = self.row(sql!("SELECT 1 FROM tenants WHERE uid = ?1", TenantUid::DEFAULT));
        let used = used.await?.is_some();
        Ok(if used { uid } else { TenantUid::stored(TenantUid::DEFAULT) })
    }

    async fn change_status(
        &mut self,
        uid: &TenantUid,
        status: TenantStatus,
        now: Timestamp,
    ) -> Result<ChangeTenant> {
        let find = sql!("SELECT * FROM tenants WHERE uid = ?1", uid);
        let Some(row) = self.row(find).await? else { return Ok(ChangeTenant::Unknown) };
        let old = read(&row)?.status;
        if old == status {
            return Ok(ChangeTenant::Unchanged);
        }
        if old == TenantStatus::Deleted {
            return Ok(ChangeTenant::Unknown);
        }
        let deleted_at = (status == TenantStatus::Deleted).then_some(now);
        self.run(sql!(
            "UPDATE tenants SET status = ?2, updated_at = ?3, deleted_at = ?4 WHERE uid = ?1",
            uid,
            status.as_str(),
            now,
            deleted_at,
        ))
        .await?;
        Ok(ChangeTenant::Changed)
    }
}

const fn action_of(status: TenantStatus) -> Action {
    match status {
        TenantStatus::Active => Action::TenantResumed,
        TenantStatus::Suspended => Action::TenantSuspended,
        TenantStatus::Deleted => Action::TenantDeleted,
    }
}

fn by_slug(slug: &TenantSlug) -> Statement {
    sql!("SELECT * FROM tenants WHERE slug = ?1 AND status <> 'deleted'", slug.as_str())
}

fn read(row: &SqliteRow) -> Result<TenantRecord> {
    Ok(TenantRecord {
        uid: TenantUid::stored(row.get("uid")?),
        slug: TenantSlug::parse(row.get("slug")?).map_err(|_| unreadable("slug"))?,
        status: TenantStatus::parse(row.get("status")?).ok_or_else(|| unreadable("status"))?,
        created_at: row.time("created_at")?,
    })
}
