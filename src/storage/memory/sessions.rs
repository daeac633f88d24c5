use async_trait::async_trait;

use super::MemoryTenant;
use super::rows::{Rows, SessionRow};
use super::state::{Change as Commit, Concerned};
use crate::base::{Digest, Timestamp};
use crate::model::audit::Action;
use crate::model::session::{Session, SessionCookie};
use crate::model::{Audit, SessionId, UserId};
use crate::storage::{
    Change, CreateSession, EndReason, EndSession, NewSession, Result, Sessions, StoreError, horizon,
};

#[async_trait]
impl Sessions for MemoryTenant {
    async fn create_session(
        &self,
        new: &NewSession,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateSession> {
        self.change(|rows, commit| {
            if rows.sessions.contains_key(&new.id) || rows.cookies.contains_key(&new.cookie) {
                return Err(StoreError::unavailable("the session is there already"));
            }
            let user = rows.users.get_mut(&new.user).filter(|user| {
                !user.disabled && user.password_changed_at == new.password_changed_at
            });
            let Some(user) = user else { return Ok(CreateSession::UserNotLive) };
            user.last_login_at = user.last_login_at.max(Some(now));
            if let Some((old, not_after)) = new.replaces {
                let change = Change { now, not_after, audit };
                let _ = end(rows, commit, old, EndReason::Replaced, &change);
            }
            rows.cookies.insert(new.cookie, new.id);
            rows.sessions.insert(new.id, session_row(new, now));
            let of = Concerned { session: Some(new.id), ..Concerned::user(new.user) };
            commit.record(Action::LoginSucceeded, now, audit, of);
            Ok(CreateSession::Created)
        })
    }

    async fn find_session(
        &self,
        cookie: &Digest<SessionCookie>,
        now: Timestamp,
    ) -> Result<Option<Session>> {
        Ok(self.read(|rows| {
            let row = rows.sessions.get(rows.cookies.get(cookie)?)?;
            let live = row.is_live(now) && rows.user_is_live(row.session.user);
            live.then(|| row.session.clone())
        }))
    }

    async fn touch_session(
        &self,
        id: SessionId,
        now: Timestamp,
        idle_expires_at: Timestamp,
    ) -> Result<()> {
        self.change(|rows, _| {
            let Some(row) = rows.sessions.get_mut(&id).filter(|row| row.is_live(now)) else {
                return;
            };
            // Stored times never move backwards.
            let session = &mut row.session;
            session.last_active_at = session.last_active_at.max(now);
            session.idle_expires_at = session.idle_expires_at.max(idle_expires_at);
            row.keep_until = horizon::session(session.idle_expires_at, session.expires_at);
        });
        Ok(())
    }

    async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        change: &Change<'_>,
    ) -> Result<EndSession> {
        Ok(self.change(|rows, commit| end(rows, commit, id, reason, change)))
    }

    async fn list_sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
        Ok(self.read(|rows| {
            let live = rows.sessions.values().filter(|row| row.is_live(now));
            let mut sessions: Vec<_> = live
                .map(|row| &row.session)
                .filter(|session| session.user == user)
                .cloned()
                .collect();
            sessions.sort_by_key(|session| std::cmp::Reverse((session.created_at, session.id)));
            sessions
        }))
    }
}

fn session_row(new: &NewSession, now: Timestamp) -> SessionRow {
    SessionRow {
        session: Session {
            id: new.id,
            user: new.user,
            auth_time: new.auth_time,
            amr: new.amr.clone(),
            acr: new.acr.clone(),
            created_at: now,
            last_active_at: now,
            idle_expires_at: new.idle_expires_at,
            expires_at: new.expires_at,
            user_agent: new.user_agent.clone(),
            ip: new.ip.clone(),
        },
        cookie: new.cookie,
        ended_at: None,
        keep_until: horizon::session(new.idle_expires_at, new.expires_at),
    }
}

fn end(
    rows: &mut Rows,
    commit: &mut Commit,
    id: SessionId,
    reason: EndReason,
    change: &Change<'_>,
) -> EndSession {
    let Some(user) = rows.end_session(id, commit, change.now, change.not_after) else {
        return EndSession::NotLive;
    };
    let of = Concerned {
        session: Some(id),
        detail: Some(serde_json::json!({ "reason": reason.as_str() })),
        ..Concerned::user(user)
    };
    commit.record(Action::SessionEnded, change.now, change.audit, of);
    EndSession::Ended
}
