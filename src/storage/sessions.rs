use async_trait::async_trait;

use super::{Change, Result};
use crate::base::{Digest, Timestamp};
use crate::model::session::{Session, SessionCookie};
use crate::model::{Audit, SessionId, UserId};

/// Browser sessions.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Begins a session, if the user (read `FOR SHARE`) is there and enabled, and still has the
    /// password of `new.password_changed_at`; also sets the user's last login. When `new.replaces` names a live session of the same browser, that one ends in
    /// the same transaction. Audits `login.succeeded`.
    async fn create_session(
        &self,
        new: &NewSession,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateSession>;

    /// The live session of a cookie: not ended, not expired at `now`, its user enabled.
    async fn find_session(
        &self,
        cookie: &Digest<SessionCookie>,
        now: Timestamp,
    ) -> Result<Option<Session>>;

    /// Notes that the session was used and moves its idle end; callers do so at most once a minute.
    async fn touch_session(
        &self,
        id: SessionId,
        now: Timestamp,
        idle_expires_at: Timestamp,
    ) -> Result<()>;

    /// Ends a session: writes its `session` revocation (expiring at `change.not_after`) and revokes its
    /// grants that are not offline. Audits `session.ended`.
    async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        change: &Change<'_>,
    ) -> Result<EndSession>;

    /// The live sessions of a user.
    async fn list_sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>>;
}

/// A session to begin.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its public name, drawn by the caller.
    pub id: SessionId,
    /// The digest of the cookie's value.
    pub cookie: Digest<SessionCookie>,
    /// Who signed in.
    pub user: UserId,
    /// When the password that was verified had been set: one that was changed meanwhile proves
    /// nothing any more.
    pub password_changed_at: Timestamp,
    /// How.
    pub amr: Vec<String>,
    /// How surely.
    pub acr: Option<String>,
    /// When the user proved who they are.
    pub auth_time: Timestamp,
    /// It ends then unless used.
    pub idle_expires_at: Timestamp,
    /// It ends then in any case.
    pub expires_at: Timestamp,
    /// The browser.
    pub user_agent: Option<String>,
    /// The address.
    pub ip: Option<String>,
    /// The session that this browser had before, which ends now; its revocation expires then.
    pub replaces: Option<(SessionId, Timestamp)>,
}

/// The outcome of [`Sessions::create_session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CreateSession {
    /// It lives.
    Created,
    /// The user is disabled or gone, or has another password by now.
    UserNotLive,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The user signed out.
    Logout,
    /// The user signed in again at the same browser.
    Replaced,
    /// An operator ended it.
    Operator,
}

impl EndReason {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Replaced => "replaced",
            Self::Operator => "operator",
        }
    }
}

/// The outcome of [`Sessions::end_session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum EndSession {
    /// It has ended now.
    Ended,
    /// It had ended, or never was.
    NotLive,
}
