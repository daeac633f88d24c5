use std::time::Duration;

use crate::base::{Digest, Entropy, Secret, Timestamp, base64url};
use crate::model::session::{Session, SessionCookie};
use crate::model::{Audit, SessionId, User};
use crate::storage::{Change, CreateSession, EndReason, EndSession, NewSession, Result};
use crate::tenant::Tenant;

/// The value of a session cookie is this many random bytes, in base64url.
pub const SESSION_COOKIE_BYTES: usize = 32;

/// How often a session's use is written down.
const TOUCH_EVERY: Duration = Duration::from_mins(1);

/// The live session of a cookie's value, if there is one; its use is noted, at most once a minute.
/// A value that is not of our making is no session, whatever is wrong with it.
pub async fn current(
    tenant: &Tenant,
    cookie: Option<&str>,
    now: Timestamp,
) -> Result<Option<Session>> {
    let Some(digest) = cookie.and_then(digest_of) else { return Ok(None) };
    let Some(session) = tenant.store.find_session(&digest, now).await? else { return Ok(None) };
    if now.since(session.last_active_at) >= TOUCH_EVERY {
        let idle = now.plus(tenant.settings.lifetimes.session_idle).min(session.expires_at);
        tenant.store.touch_session(session.id, now, idle).await?;
    }
    Ok(Some(session))
}

/// When the last access token that is out by then has ended, and a minute more: until then a
/// revocation must be kept.
fn tokens_end(tenant: &Tenant, now: Timestamp) -> Timestamp {
    now.plus(tenant.settings.longest_access_token()).plus(Duration::from_mins(1))
}

fn digest_of(cookie: &str) -> Option<Digest<SessionCookie>> {
    let value = base64url::decode(cookie).ok().filter(|v| v.len() == SESSION_COOKIE_BYTES)?;
    Some(Digest::of(&value))
}

/// A sign-in that succeeded, and what its session shall be.
#[derive(Debug)]
pub struct NewSignIn<'a> {
    /// Who, as they were when the password was verified.
    pub user: &'a User,
    /// How (RFC 8176).
    pub amr: Vec<String>,
    /// The session that this browser had, which ends now.
    pub replaces: Option<SessionId>,
}

/// A session that has just begun.
#[derive(Debug)]
pub struct Begun {
    /// Its public name.
    pub id: SessionId,
    /// The value of its cookie, to be seen this once.
    pub cookie: Secret<String>,
}

/// The outcome of [`begin`].
#[derive(Debug)]
#[must_use]
pub enum BeginSession {
    /// It lives.
    Begun(Begun),
    /// The user was disabled or deleted meanwhile, or has another password by now.
    UserNotLive,
}

/// Begins a session under a new id and a new cookie: nothing that the browser had before sign-in
/// becomes worth more by it (ASVS 7.2.4).
pub async fn begin(
    tenant: &Tenant,
    sign_in: NewSignIn<'_>,
    entropy: &dyn Entropy,
    now: Timestamp,
    audit: &Audit,
) -> Result<BeginSession> {
    let value: [u8; SESSION_COOKIE_BYTES] = entropy.bytes();
    let lifetimes = &tenant.settings.lifetimes;
    let expires_at = now.plus(lifetimes.session_absolute);
    let new = NewSession {
        id: SessionId(entropy.uuid()),
        cookie: Digest::of(&value),
        user: sign_in.user.id,
        password_changed_at: sign_in.user.password_changed_at,
        amr: sign_in.amr,
        acr: None,
        auth_time: now,
        idle_expires_at: now.plus(lifetimes.session_idle).min(expires_at),
        expires_at,
        user_agent: audit.user_agent.clone(),
        ip: audit.ip.clone(),
        replaces: sign_in.replaces.map(|old| (old, tokens_end(tenant, now))),
    };
    Ok(match tenant.store.create_session(&new, now, audit).await? {
        CreateSession::Created => {
            let cookie = Secret::new(base64url::encode(value));
            BeginSession::Begun(Begun { id: new.id, cookie })
        }
        CreateSession::UserNotLive => BeginSession::UserNotLive,
    })
}

/// Ends a session because its user signed out.
pub async fn end(
    tenant: &Tenant,
    session: SessionId,
    now: Timestamp,
    audit: &Audit,
) -> Result<EndSession> {
    let change = Change { now, not_after: tokens_end(tenant, now), audit };
    tenant.store.end_session(session, EndReason::Logout, &change).await
}
