use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::audit_log::record;
use super::error::unreadable;
use super::row::Columns;
use super::value::Statement;
use super::{SqliteTenant, Tx, sql};
use crate::base::Timestamp;
use crate::model::audit::AuditRecord;
use crate::model::grant::{Grant, GrantState};
use crate::model::refresh::{Predecessor, RefreshHead};
use crate::model::{
    Action, Audit, ClientId, GrantId, Revocation, RevocationKey, TenantUid, UserId,
};
use crate::storage::{Grants, RefreshVerdict, Result, RevokeGrant, Rotation};

#[async_trait]
impl Grants for SqliteTenant {
    async fn find_grant(&self, id: GrantId) -> Result<Option<Grant>> {
        let find = sql!("SELECT * FROM grants WHERE tenant_uid = ?1 AND id = ?2", &self.tenant, id);
        self.store.row(find).await?.as_ref().map(read).transpose()
    }

    async fn list_grants(&self, user: UserId, now: Timestamp) -> Result<Vec<Grant>> {
        let live = sql!(
            "SELECT * FROM grants WHERE tenant_uid = ?1 AND user_id = ?2 AND state = 'live'
               AND abs_exp > ?3 ORDER BY created_at DESC, id DESC",
            &self.tenant,
            user,
            now,
        );
        self.store.rows(live).await?.iter().map(read).collect()
    }

    async fn rotate_refresh(
        &self,
        rotation: &Rotation,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RefreshVerdict> {
        let (tenant, rotation, audit) = (self.tenant.clone(), rotation.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move { tx.rotate(&tenant, rotation, now, &audit).await })
            })
            .await
    }

    async fn revoke_grant(
        &self,
        id: GrantId,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RevokeGrant> {
        let (tenant, audit) = (self.tenant.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let find =
                        sql!("SELECT * FROM grants WHERE tenant_uid = ?1 AND id = ?2", &tenant, id);
                    let Some(row) = tx.row(find).await? else { return Ok(RevokeGrant::Unknown) };
                    let grant = read(&row)?;
                    if grant.state == GrantState::Revoked {
                        return Ok(RevokeGrant::AlreadyRevoked);
                    }
                    let which = of_grant(&tenant, id, now);
                    tx.revoke_grants(&tenant, which, now, None).await?;
                    tx.audit(&tenant, &audited(&grant, Action::GrantRevoked, now, &audit)).await?;
                    Ok(RevokeGrant::Revoked)
                })
            })
            .await
    }

    async fn mark_head_seen(&self, id: GrantId, generation: u32) -> Result<()> {
        let mark = sql!(
            "UPDATE grants SET head_seen = 1
             WHERE tenant_uid = ?1 AND id = ?2 AND head = ?3 AND head_seen = 0
               AND state = 'live'",
            &self.tenant,
            id,
            generation,
        );
        self.store.write(move |tx| Box::pin(async move { tx.run(mark).await.map(drop) })).await
    }
}

/// A record of something that happened to a grant.
pub(super) fn audited(grant: &Grant, action: Action, now: Timestamp, audit: &Audit) -> AuditRecord {
    AuditRecord {
        user: grant.user,
        client: Some(grant.client.clone()),
        session: grant.session,
        resource: Some(("grant", grant.id.to_string())),
        ..record(action, now, audit)
    }
}

macro_rules! revoke_where {
    ($condition:literal) => {
        concat!(
            "UPDATE grants SET state = 'revoked', revoked_at = ?2 WHERE tenant_uid = ?1 AND state = 'live' AND ",
            $condition,
            " RETURNING id, keep_until"
        )
    };
}

/// Revokes one grant; for [`Tx::revoke_grants`].
pub(super) fn of_grant(tenant: &TenantUid, id: GrantId, now: Timestamp) -> Statement {
    sql!(revoke_where!("id = ?3"), tenant, now, id)
}

/// … every grant of a user.
pub(super) fn of_user(tenant: &TenantUid, user: UserId, now: Timestamp) -> Statement {
    sql!(revoke_where!("user_id = ?3"), tenant, now, user)
}

/// … every grant of a user and a client; found by the user, who has fewer of them.
pub(super) fn of_consent(
    tenant: &TenantUid,
    user: UserId,
    client: &ClientId,
    now: Timestamp,
) -> Statement {
    sql!(revoke_where!("user_id = ?3 AND +client_id = ?4"), tenant, now, user, client)
}

/// … every grant of a client.
pub(super) fn of_client(tenant: &TenantUid, client: &ClientId, now: Timestamp) -> Statement {
    sql!(revoke_where!("client_id = ?3"), tenant, now, client)
}

/// … what dies with a session.
pub(super) fn of_session(
    tenant: &TenantUid,
    session: crate::model::SessionId,
    now: Timestamp,
) -> Statement {
    sql!(revoke_where!("session_id = ?3 AND offline = 0"), tenant, now, session)
}

impl Tx {
    /// Revokes the grants that `which` turns to `revoked`, each with its entry in the log, which
    /// expires at `not_after`, else at the grant's horizon; how many.
    pub(super) async fn revoke_grants(
        &mut self,
        tenant: &TenantUid,
        which: Statement,
        now: Timestamp,
        not_after: Option<Timestamp>,
    ) -> Result<u32> {
        let rows = self.rows(which).await?;
        for row in &rows {
            let entry = Revocation {
                key: RevocationKey::Grant(row.id::<GrantId>("id")?.to_string()),
                audience: None,
                not_before: None,
                expires_at: not_after.map_or_else(|| row.time("keep_until"), Ok)?,
                at: now,
            };
            self.revoke(tenant, entry).await?;
        }
        Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
    }
}

/// A grant from all of its columns.
pub(super) fn read(row: &SqliteRow) -> Result<Grant> {
    Ok(Grant {
        id: row.id("id")?,
        client: ClientId::new(row.get("client_id")?),
        user: row.id_opt("user_id")?,
        session: row.id_opt("session_id")?,
        terms: row.json("terms")?,
        jkt: row.get("jkt")?,
        offline: row.get("offline")?,
        state: match row.get("state")? {
            "live" => GrantState::Live,
            "revoked" => GrantState::Revoked,
            _ => return Err(unreadable("state")),
        },
        created_at: row.time("created_at")?,
        idle_expires_at: row.time("idle_exp")?,
        expires_at: row.time("abs_exp")?,
        refresh: read_head(row)?,
    })
}

fn read_head(row: &SqliteRow) -> Result<Option<RefreshHead>> {
    if row.get::<Option<i64>>("head")?.is_none() {
        return Ok(None);
    }
    let pred = match row.bytes_opt("pred_nonce")? {
        Some(nonce) => Some(Predecessor { generation: row.number("pred")?, nonce }),
        None => None,
    };
    Ok(Some(RefreshHead {
        salt: row.bytes("salt")?,
        kid: row.number("head_kid")?,
        head: row.number("head")?,
        head_nonce: row.bytes("head_nonce")?,
        pred,
        rotated_at: row.time("rotated_at")?,
        replaced_at: row.time_opt("replaced_at")?,
        replacements: row.number("replacements")?,
        head_seen: row.get("head_seen")?,
        repeats: row.number("repeats")?,
        fingerprint: row.bytes_opt("rot_fp")?,
        differs: row.get("differs")?,
        streak: row.number("streak")?,
        epoch: row.get("epoch")?,
    }))
}
