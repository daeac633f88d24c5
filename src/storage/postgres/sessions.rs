use async_trait::async_trait;

use super::View;
use super::db::get;
use super::rows::{hash, session};
use super::text::{audit, revoke};
use crate::base::{Digest, Timestamp};
use crate::model::session::{Session, SessionCookie};
use crate::model::{Audit, SessionId, UserId};
use crate::storage::{
    Change, CreateSession, EndReason, EndSession, NewSession, Result, Sessions, horizon,
};

/// The user's row is the first to be locked, by its update: it sees a password change that was under
/// way. A time that the database itself set is finer than ours.
const CREATE: &str = concat!(
    "WITH usr AS MATERIALIZED (
       UPDATE users SET last_login_at = greatest(last_login_at, $2)
       WHERE tenant_uid = $1 AND id = $7 AND is_active AND num_nulls(deleted_at) = 1
         AND date_trunc('milliseconds', password_changed_at) = $21
       RETURNING 1),
     old AS (
       UPDATE sessions SET status = 'terminated', revoked_at = $2, revoke_reason = 'replaced',
         keep_until = $18
       WHERE tenant_uid = $1 AND session_id = $16 AND coalesce(status = 'active', false)
         AND EXISTS (SELECT 1 FROM usr)
       RETURNING session_id, user_id),
     g AS (
       UPDATE grants SET state = 'revoked', revoked_at = $2
       WHERE tenant_uid = $1 AND session_id = (SELECT session_id FROM old) AND NOT offline
         AND state = 'live'),
     ses AS (
       INSERT INTO sessions (tenant_uid, session_id, session_token_hash, user_id, amr, acr, auth_time,
         created_at, last_activity_at, idle_expires_at, expires_at, user_agent, ip_address, keep_until)
       SELECT $1, $8, $9, $7, $10, $11, $12, $2, $2, $13, $14, $19, $20, $15 FROM usr),
     rv AS (
       SELECT 'session' AS kind, session_id::text AS key, NULL::timestamptz AS nbf,
         $17::timestamptz AS exp FROM old), ",
    revoke!(),
    ", ev AS (
       SELECT 'session.ended' AS action, user_id, NULL::text AS client_id, session_id,
         NULL::text AS resource_type, NULL::text AS resource_id, true AS success,
         '{\"reason\": \"replaced\"}'::jsonb AS detail FROM old
       UNION ALL
       SELECT 'login.succeeded', $7, NULL, $8, NULL, NULL, true, NULL FROM usr), ",
    audit!("e.detail"),
    " SELECT EXISTS (SELECT 1 FROM usr) AS created, rev.* FROM (SELECT 1) one LEFT JOIN rev ON true"
);

const FIND: &str =
    "SELECT s.session_id, s.user_id, s.auth_time, s.amr, s.acr, s.created_at, s.last_activity_at,
       s.idle_expires_at, s.expires_at, s.user_agent, s.ip_address
     FROM sessions s
     WHERE s.tenant_uid = $1 AND s.session_token_hash = $2 AND coalesce(s.status = 'active', false)
       AND s.idle_expires_at > $3 AND s.expires_at > $3
       AND (SELECT u.is_active AND u.deleted_at IS NULL
         FROM users u WHERE u.tenant_uid = $1 AND u.id = s.user_id)";

/// Stored times never move backwards.
const TOUCH: &str = "UPDATE sessions SET last_activity_at = greatest(last_activity_at, $3),
       idle_expires_at = greatest(idle_expires_at, $4),
       keep_until = least(greatest(idle_expires_at, $4), expires_at) + interval '1 day'
     WHERE tenant_uid = $1 AND session_id = $2 AND coalesce(status = 'active', false) AND idle_expires_at > $3
       AND expires_at > $3";

const LOCK: &str = "SELECT 1 FROM sessions WHERE tenant_uid = $1 AND session_id = $2 FOR UPDATE";

const END: &str = concat!(
    "WITH old AS (
       UPDATE sessions SET status = 'terminated', revoked_at = $2, revoke_reason = $8,
         keep_until = $10
       WHERE tenant_uid = $1 AND session_id = $7 AND coalesce(status = 'active', false)
       RETURNING session_id, user_id),
     g AS (
       UPDATE grants SET state = 'revoked', revoked_at = $2
       WHERE tenant_uid = $1 AND session_id = $7 AND NOT offline AND state = 'live'
         AND EXISTS (SELECT 1 FROM old)),
     rv AS (
       SELECT 'session' AS kind, session_id::text AS key, NULL::timestamptz AS nbf,
         $9::timestamptz AS exp FROM old), ",
    revoke!(),
    ", ev AS (
       SELECT 'session.ended' AS action, user_id, NULL::text AS client_id, session_id,
         NULL::text AS resource_type, NULL::text AS resource_id, true AS success FROM old), ",
    audit!("jsonb_build_object('reason', $8)"),
    " SELECT kind, key, nbf, exp, aud FROM rev"
);

const LIST: &str = "SELECT session_id, user_id, auth_time, amr, acr, created_at, last_activity_at, idle_expires_at,
       expires_at, user_agent, ip_address
     FROM sessions
     WHERE tenant_uid = $1 AND user_id = $2 AND status = 'active' AND idle_expires_at > $3
       AND expires_at > $3
     ORDER BY created_at DESC, session_id DESC";

#[async_trait]
impl Sessions for View {
    async fn create_session(
        &self,
        new: &NewSession,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateSession> {
        let (old, not_after) = new.replaces.unzip();
        let statement = self
            .changing(CREATE, now, audit)
            .bind(new.user.0)
            .bind(new.id.0)
            .bind(hash(&new.cookie))
            .bind(&new.amr)
            .bind(new.acr.as_deref())
            .at(new.auth_time)
            .at(new.idle_expires_at)
            .at(new.expires_at)
            .at(horizon::session(new.idle_expires_at, new.expires_at))
            .bind(old.map(|session| session.0))
            .at_if(not_after)
            .at(horizon::ended_session(now))
            .bind(super::storable(new.user_agent.as_deref()))
            .bind(super::storable(new.ip.as_deref()))
            .at(new.password_changed_at);
        let rows = self.db().write(statement).await?;
        self.announce(&rows, now)?;
        let created = rows.first().map_or(Ok(false), |row| get(row, "created"))?;
        Ok(if created { CreateSession::Created } else { CreateSession::UserNotLive })
    }

    async fn find_session(
        &self,
        cookie: &Digest<SessionCookie>,
        now: Timestamp,
    ) -> Result<Option<Session>> {
        let row = self.db().read_one(self.sql(FIND).bind(hash(cookie)).at(now)).await?;
        row.as_ref().map(session).transpose()
    }

    async fn touch_session(
        &self,
        id: SessionId,
        now: Timestamp,
        idle_expires_at: Timestamp,
    ) -> Result<()> {
        let statement = self.sql(TOUCH).bind(id.0).at(now).at(idle_expires_at);
        self.db().write(statement).await.map(drop)
    }

    async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        change: &Change<'_>,
    ) -> Result<EndSession> {
        let lock = self.sql(LOCK).bind(id.0);
        let then = self
            .changing(END, change.now, change.audit)
            .bind(id.0)
            .bind(reason.as_str())
            .at(change.not_after)
            .at(horizon::ended_session(change.now));
        let (_, rows) = self.db().lock_then(lock, then).await?;
        let ended = self.announce(&rows, change.now)?;
        Ok(if ended.is_empty() { EndSession::NotLive } else { EndSession::Ended })
    }

    async fn list_sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
        let rows = self.db().read(self.sql(LIST).bind(user.0).at(now)).await?;
        rows.iter().map(session).collect()
    }
}
