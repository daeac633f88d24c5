use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::View;
use super::db::{Sql, get};
use super::rows::user;
use super::text::{audit, revoke};
use crate::base::Timestamp;
use crate::model::user::{LoginName, PasswordHash, User};
use crate::model::{Audit, SessionId, UserId};
use crate::storage::{Change, ChangeUser, CreateUser, NewUser, Result, Users, horizon};

const CREATE: &str = concat!(
    "WITH usr AS (
       INSERT INTO users (tenant_uid, id, email, username, login_email, login_username,
         is_verified, verified_at, display_name, first_name, last_name, password_hash,
         password_changed_at, created_at, updated_at)
       VALUES ($1, $7, $8, $9, $10, $11, $12, CASE WHEN $12 THEN $2 END, $13, $14, $15, $16, $2, $2, $2)
       ON CONFLICT DO NOTHING RETURNING id),
     ev AS (
       SELECT 'user.created' AS action, id AS user_id, NULL::text AS client_id,
         NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
         true AS success FROM usr), ",
    audit!(),
    " SELECT EXISTS (SELECT 1 FROM usr) AS created"
);

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, username, email, is_verified, display_name, first_name, last_name,
               password_hash, password_changed_at, is_active, created_at, updated_at, last_login_at
             FROM users WHERE tenant_uid = $1 AND ",
            $rest
        )
    };
}

const FIND: &str = select!("num_nulls(deleted_at) = 1 AND id = $2");

const FIND_BY_LOGIN: &str = select!(
    "deleted_at IS NULL AND (login_username = $2 OR login_email = $2)
     ORDER BY coalesce(login_username = $2, false) DESC LIMIT 1"
);

const LIST: &str =
    select!("deleted_at IS NULL AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3");

const LOCK: &str = "SELECT is_active FROM users WHERE tenant_uid = $1 AND id = $2 AND num_nulls(deleted_at) = 1 FOR UPDATE";

/// Every session but `keep` and every grant, each with its own entry: the next login survives. What
/// dies with a session needs none beside the session's.
const SET_PASSWORD: &str = concat!(
    "WITH usr AS (
       UPDATE users SET password_hash = $10, password_changed_at = $2, updated_at = $2
       WHERE tenant_uid = $1 AND id = $7 AND num_nulls(deleted_at) = 1 RETURNING id),
     s AS (
       UPDATE sessions SET status = 'terminated', revoked_at = $2, revoke_reason = 'password',
         keep_until = $9
       WHERE tenant_uid = $1 AND user_id = (SELECT id FROM usr) AND status = 'active'
         AND session_id IS DISTINCT FROM $11
       RETURNING session_id),
     g AS (
       UPDATE grants SET state = 'revoked', revoked_at = $2
       WHERE tenant_uid = $1 AND user_id = (SELECT id FROM usr) AND state = 'live'
       RETURNING id, session_id, offline),
     rv AS (
       SELECT 'session' AS kind, session_id::text AS key, NULL::timestamptz AS nbf,
         $8::timestamptz AS exp FROM s
       UNION ALL
       SELECT 'grant', id::text, NULL, $8 FROM g
       WHERE offline OR NOT EXISTS (SELECT 1 FROM s WHERE s.session_id = g.session_id)), ",
    revoke!(),
    ", ev AS (
       SELECT 'user.password_changed' AS action, id AS user_id, NULL::text AS client_id,
         NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
         true AS success FROM usr), ",
    audit!(),
    " SELECT kind, key, nbf, exp, aud FROM rev"
);

const REHASH: &str = "UPDATE users SET password_hash = $4
     WHERE tenant_uid = $1 AND id = $2 AND password_hash = $3 AND num_nulls(deleted_at) = 1 RETURNING 1";

/// What `end` leaves of a user's sessions and grants; one `subject` entry covers it all.
macro_rules! end_all {
    ($user:literal, $action:literal, $sessions:literal) => {
        concat!(
            "WITH usr AS (",
            $user,
            " RETURNING id),
             s AS (",
            $sessions,
            "),
             g AS (
               UPDATE grants SET state = 'revoked', revoked_at = $2
               WHERE tenant_uid = $1 AND user_id = (SELECT id FROM usr) AND state = 'live'),
             rv AS (
               SELECT 'subject' AS kind, id::text AS key, $10::timestamptz AS nbf,
                 $8::timestamptz AS exp FROM usr), ",
            revoke!(),
            ", ev AS (
               SELECT ",
            $action,
            " AS action, id AS user_id, NULL::text AS client_id,
                 NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
                 true AS success FROM usr), ",
            audit!(),
            " SELECT kind, key, nbf, exp, aud FROM rev"
        )
    };
}

const DISABLE: &str = end_all!(
    "UPDATE users SET is_active = false, updated_at = $2
     WHERE tenant_uid = $1 AND id = $7 AND num_nulls(deleted_at) = 1 AND is_active",
    "'user.disabled'",
    "UPDATE sessions SET status = 'terminated', revoked_at = $2, revoke_reason = 'user_disabled',
       keep_until = $9
     WHERE tenant_uid = $1 AND user_id = (SELECT id FROM usr) AND status = 'active'"
);

/// The row stays, empty: its id is never given to anybody else.
const DELETE: &str = end_all!(
    "UPDATE users SET is_active = false, updated_at = $2, deleted_at = $2, email = '',
       login_email = '', username = NULL, login_username = NULL, password_hash = NULL,
       display_name = NULL, first_name = NULL, last_name = NULL, phone = NULL, avatar_url = NULL,
       is_verified = false, verified_at = NULL, last_login_at = NULL, last_login_ip = NULL
     WHERE tenant_uid = $1 AND id = $7 AND num_nulls(deleted_at) = 1 AND $9::timestamptz IS NOT NULL",
    "'user.deleted'",
    "DELETE FROM sessions WHERE tenant_uid = $1 AND user_id = (SELECT id FROM usr)),
     k AS (DELETE FROM api_keys WHERE tenant_uid = $1 AND user_id = (SELECT id FROM usr)),
     c AS (DELETE FROM consents WHERE tenant_uid = $1 AND user_id = (SELECT id FROM usr)"
);

const ENABLE: &str = concat!(
    "WITH usr AS (
       UPDATE users SET is_active = true, updated_at = $2
       WHERE tenant_uid = $1 AND id = $7 AND num_nulls(deleted_at) = 1 AND NOT is_active RETURNING id),
     ev AS (
       SELECT 'user.enabled' AS action, id AS user_id, NULL::text AS client_id,
         NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
         true AS success FROM usr), ",
    audit!(),
    " SELECT NULL::text AS kind FROM usr"
);

#[async_trait]
impl Users for View {
    async fn create_user(
        &self,
        new: &NewUser,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateUser> {
        let login = |typed: &str| LoginName::canonical(typed).as_str().to_owned();
        let statement = self
            .changing(CREATE, now, audit)
            .bind(new.id.0)
            .bind(new.email.as_str())
            .bind(new.username.as_deref())
            .bind(login(&new.email))
            .bind(new.username.as_deref().map(login))
            .bind(new.email_verified)
            .bind(new.name.as_deref())
            .bind(new.given_name.as_deref())
            .bind(new.family_name.as_deref())
            .bind(new.password_hash.as_ref().map(|hash| hash.reveal().as_str()));
        let created = get(&self.db().decide(statement).await?, "created")?;
        Ok(if created { CreateUser::Created } else { CreateUser::Exists })
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>> {
        self.db().read_one(self.sql(FIND).bind(id.0)).await?.as_ref().map(user).transpose()
    }

    async fn find_user_by_login(&self, login: &LoginName) -> Result<Option<User>> {
        // A name with a NUL is nobody's: it cannot be stored.
        if login.as_str().contains('\0') {
            return Ok(None);
        }
        let row = self.db().read_one(self.sql(FIND_BY_LOGIN).bind(login.as_str())).await?;
        row.as_ref().map(user).transpose()
    }

    async fn list_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>> {
        let statement = self.sql(LIST).bind(after.map(|user| user.0)).bind(i64::from(limit));
        self.db().read(statement).await?.iter().map(user).collect()
    }

    async fn set_password(
        &self,
        id: UserId,
        password: &PasswordHash,
        keep: Option<SessionId>,
        change: &Change<'_>,
    ) -> Result<ChangeUser> {
        let then = self
            .ending(SET_PASSWORD, id, change)
            .bind(password.reveal().as_str())
            .bind(keep.map(|session| session.0));
        let (user, _) = self.end(id, then, change).await?;
        Ok(if user.is_some() { ChangeUser::Changed } else { ChangeUser::Unknown })
    }

    async fn rehash_password(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool> {
        let statement =
            self.sql(REHASH).bind(id.0).bind(old.reveal().as_str()).bind(new.reveal().as_str());
        Ok(self.db().write_one(statement).await?.is_some())
    }

    async fn set_user_disabled(
        &self,
        id: UserId,
        disabled: bool,
        change: &Change<'_>,
    ) -> Result<ChangeUser> {
        let then = if disabled {
            self.ending(DISABLE, id, change).at(change.now.plus(horizon::NOT_BEFORE_AHEAD))
        } else {
            self.changing(ENABLE, change.now, change.audit).bind(id.0)
        };
        let (user, changed) = self.end(id, then, change).await?;
        Ok(match user {
            None => ChangeUser::Unknown,
            Some(_) if changed => ChangeUser::Changed,
            Some(_) => ChangeUser::Unchanged,
        })
    }

    async fn delete_user(&self, id: UserId, change: &Change<'_>) -> Result<ChangeUser> {
        let then = self.ending(DELETE, id, change).at(change.now.plus(horizon::NOT_BEFORE_AHEAD));
        let (user, _) = self.end(id, then, change).await?;
        Ok(if user.is_some() { ChangeUser::Changed } else { ChangeUser::Unknown })
    }
}

impl View {
    /// `$7` the user, `$8` when revocations expire, `$9` until when ended sessions are kept.
    fn ending(&self, text: &'static str, id: UserId, change: &Change<'_>) -> Sql {
        self.changing(text, change.now, change.audit)
            .bind(id.0)
            .at(change.not_after)
            .at(horizon::ended_session(change.now))
    }

    /// Locks the user's row, then runs `then`: the row as it was, and whether `then` did anything.
    async fn end(
        &self,
        id: UserId,
        then: Sql,
        change: &Change<'_>,
    ) -> Result<(Option<PgRow>, bool)> {
        let lock = self.sql(LOCK).bind(id.0);
        let (user, rows) = self.db().lock_then(lock, then).await?;
        if !rows.is_empty() {
            self.announce(&rows, change.now)?;
            self.shared.changed();
        }
        Ok((user.into_iter().next(), !rows.is_empty()))
    }
}
