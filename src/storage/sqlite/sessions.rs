use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::audit_log::record;
use super::grants::of_session;
use super::row::{Columns, to_json};
use super::{SqliteTenant, Tx, sql};
use crate::base::{Digest, Timestamp};
use crate::model::session::{Session, SessionCookie};
use crate::model::{Action, Audit, Revocation, RevocationKey, SessionId, TenantUid, UserId};
use crate::storage::{
    Change, CreateSession, EndReason, EndSession, NewSession, Result, Sessions, horizon,
};

#[async_trait]
impl Sessions for SqliteTenant {
    async fn create_session(
        &self,
        new: &NewSession,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateSession> {
        let (tenant, new, audit) = (self.tenant.clone(), new.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move { tx.begin_session(&tenant, &new, now, &audit).await })
            })
            .await
    }

    async fn find_session(
        &self,
        cookie: &Digest<SessionCookie>,
        now: Timestamp,
    ) -> Result<Option<Session>> {
        let find = sql!(
            "SELECT s.* FROM sessions s JOIN users u ON u.tenant_uid = s.tenant_uid
               AND u.id = s.user_id AND u.is_active = 1 AND u.deleted_at IS NULL
             WHERE s.tenant_uid = ?1 AND s.session_token_hash = ?2 AND s.status = 'active'
               AND s.expires_at > ?3 AND s.idle_expires_at > ?3",
            &self.tenant,
            cookie,
            now,
        );
        self.store.row(find).await?.as_ref().map(read).transpose()
    }

    async fn touch_session(
        &self,
        id: SessionId,
        now: Timestamp,
        idle_expires_at: Timestamp,
    ) -> Result<()> {
        // Stored times never move backwards; `keep_until` is a day after the nearer end.
        let touch = sql!(
            "UPDATE sessions SET last_activity_at = max(last_activity_at, ?3),
               idle_expires_at = max(idle_expires_at, ?4),
               keep_until = max(keep_until, min(expires_at, max(idle_expires_at, ?4)) + ?5)
             WHERE tenant_uid = ?1 AND session_id = ?2 AND status = 'active'
               AND expires_at > ?3 AND idle_expires_at > ?3",
            &self.tenant,
            id,
            now,
            idle_expires_at,
            horizon::session(Timestamp::EPOCH, Timestamp::EPOCH),
        );
        self.store.write(move |tx| Box::pin(async move { tx.run(touch).await.map(drop) })).await
    }

    async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        change: &Change<'_>,
    ) -> Result<EndSession> {
        let (tenant, audit) = (self.tenant.clone(), change.audit.clone());
        let (now, not_after) = (change.now, change.not_after);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let change = Change { now, not_after, audit: &audit };
                    tx.end_session(&tenant, id, reason, &change).await
                })
            })
            .await
    }

    async fn list_sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
        let live =
            sql!(
            "SELECT * FROM sessions WHERE tenant_uid = ?1 AND user_id = ?2 AND status = 'active'
               AND expires_at > ?3 AND idle_expires_at > ?3 ORDER BY created_at DESC, session_id DESC",
            &self.tenant, user, now,
        );
        self.store.rows(live).await?.iter().map(read).collect()
    }
}

impl Tx {
    async fn begin_session(
        &mut self,
        tenant: &TenantUid,
        new: &NewSession,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateSession> {
        let login = sql!(
            "UPDATE users SET last_login_at = max(coalesce(last_login_at, ?3), ?3), last_login_ip = ?4
             WHERE tenant_uid = ?1 AND id = ?2 AND is_active = 1 AND deleted_at IS NULL
               AND password_changed_at = ?5",
            tenant, new.user, now, new.ip.as_ref(), new.password_changed_at,
        );
        if self.run(login).await? == 0 {
            return Ok(CreateSession::UserNotLive);
        }
        if let Some((old, not_after)) = new.replaces {
            let change = Change { now, not_after, audit };
            let _ = self.end_session(tenant, old, EndReason::Replaced, &change).await?;
        }
        self.run(sql!(
            "INSERT INTO sessions (tenant_uid, session_id, session_token_hash, user_id, user_agent,
               ip_address, auth_time, amr, acr, created_at, expires_at, idle_expires_at,
               last_activity_at, keep_until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?10, ?13)",
            tenant,
            new.id,
            &new.cookie,
            new.user,
            new.user_agent.as_ref(),
            new.ip.as_ref(),
            new.auth_time,
            to_json(&new.amr)?,
            new.acr.as_ref(),
            now,
            new.expires_at,
            new.idle_expires_at,
            horizon::session(new.idle_expires_at, new.expires_at),
        ))
        .await?;
        let mut audited = record(Action::LoginSucceeded, now, audit);
        audited.user = Some(new.user);
        audited.session = Some(new.id);
        self.audit(tenant, &audited).await?;
        Ok(CreateSession::Created)
    }

    /// Ends a session with all that dies with it.
    async fn end_session(
        &mut self,
        tenant: &TenantUid,
        id: SessionId,
        reason: EndReason,
        change: &Change<'_>,
    ) -> Result<EndSession> {
        let end = sql!(
            "UPDATE sessions SET status = 'terminated', revoked_at = ?3, revoke_reason = ?4,
               keep_until = ?5
             WHERE tenant_uid = ?1 AND session_id = ?2 AND status = 'active' RETURNING user_id",
            tenant,
            id,
            change.now,
            reason.as_str(),
            horizon::ended_session(change.now),
        );
        let Some(row) = self.row(end).await? else { return Ok(EndSession::NotLive) };
        self.revoke(tenant, session_entry(id, change)).await?;
        // Tokens of a grant that is not offline carry `sid`: the session's entry kills them.
        self.rows(of_session(tenant, id, change.now)).await?;
        let mut audited = record(Action::SessionEnded, change.now, change.audit);
        audited.user = row.id_opt("user_id")?;
        audited.session = Some(id);
        audited.detail = Some(serde_json::json!({ "reason": reason.as_str() }));
        self.audit(tenant, &audited).await?;
        Ok(EndSession::Ended)
    }

    /// Ends every session of a user but `keep`; which ones.
    pub(super) async fn end_sessions(
        &mut self,
        tenant: &TenantUid,
        user: UserId,
        keep: Option<SessionId>,
        now: Timestamp,
    ) -> Result<Vec<SessionId>> {
        let end = sql!(
            "UPDATE sessions SET status = 'terminated', revoked_at = ?4, revoke_reason = 'user',
               keep_until = ?5
             WHERE tenant_uid = ?1 AND user_id = ?2 AND status = 'active' AND session_id IS NOT ?3
             RETURNING session_id",
            tenant,
            user,
            keep,
            now,
            horizon::ended_session(now),
        );
        self.rows(end).await?.iter().map(|row| row.id("session_id")).collect()
    }
}

/// The entry that kills what carries the `sid` of a session.
pub(super) fn session_entry(id: SessionId, change: &Change<'_>) -> Revocation {
    Revocation {
        key: RevocationKey::Session(id.to_string()),
        audience: None,
        not_before: None,
        expires_at: change.not_after,
        at: change.now,
    }
}

fn read(row: &SqliteRow) -> Result<Session> {
    Ok(Session {
        id: row.id("session_id")?,
        user: row.id("user_id")?,
        auth_time: row.time("auth_time")?,
        amr: row.json("amr")?,
        acr: row.get("acr")?,
        created_at: row.time("created_at")?,
        last_active_at: row.time("last_activity_at")?,
        idle_expires_at: row.time("idle_expires_at")?,
        expires_at: row.time("expires_at")?,
        user_agent: row.get("user_agent")?,
        ip: row.get("ip_address")?,
    })
}
