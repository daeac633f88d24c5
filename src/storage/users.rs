use async_trait::async_trait;

use super::{Change, Result};
use crate::base::Timestamp;
use crate::model::user::{LoginName, PasswordHash, User};
use crate::model::{Audit, SessionId, UserId};

/// Local users.
///
/// Lock order everywhere: the user's row first, then the code, then the grant. What ends all that a
/// user has locks the row `FOR UPDATE` and then enumerates, in a second statement of the same
/// transaction: in one statement a grant that was committed during the wait would stay live.
#[async_trait]
pub trait Users: Send + Sync {
    /// Creates a user. Audits `user.created`.
    async fn create_user(
        &self,
        user: &NewUser,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateUser>;

    /// The user of this id, disabled or not, unless deleted.
    async fn find_user(&self, id: UserId) -> Result<Option<User>>;

    /// The user whose user name or e-mail this is, in canonical spelling. A user name wins over
    /// another user's e-mail.
    async fn find_user_by_login(&self, login: &LoginName) -> Result<Option<User>>;

    /// Up to `limit` users after `after`, by id.
    async fn list_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>>;

    /// Sets the password and ends every session (but `keep`) and every grant of the user, each
    /// with its own `session` or `grant` entry (expiring at `change.not_after`), so that the next
    /// login survives. Audits `user.password_changed`.
    async fn set_password(
        &self,
        id: UserId,
        password: &PasswordHash,
        keep: Option<SessionId>,
        change: &Change<'_>,
    ) -> Result<ChangeUser>;

    /// Stores a better hash of the same password, if the stored one is still `old`.
    async fn rehash_password(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool>;

    /// Disables: writes a `subject` not-before of `change.now` + 10 s, ends all sessions, revokes all
    /// grants; the one entry covers them all. Enabling brings none of them back. Audits
    /// `user.disabled` or `user.enabled`.
    async fn set_user_disabled(
        &self,
        id: UserId,
        disabled: bool,
        change: &Change<'_>,
    ) -> Result<ChangeUser>;

    /// Deletes: as disabling, and the user's personal data, consents, sessions and API keys are gone.
    /// Audits `user.deleted`.
    async fn delete_user(&self, id: UserId, change: &Change<'_>) -> Result<ChangeUser>;
}

/// A user to be created.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Drawn by the caller.
    pub id: UserId,
    /// As typed; unique within the tenant in canonical form, among user names.
    pub username: Option<String>,
    /// As typed; unique within the tenant in canonical form, among e-mails.
    pub email: String,
    /// Whether the e-mail is known to be theirs.
    pub email_verified: bool,
    /// Full name.
    pub name: Option<String>,
    /// Given name.
    pub given_name: Option<String>,
    /// Family name.
    pub family_name: Option<String>,
    /// PHC string.
    pub password_hash: Option<PasswordHash>,
}

/// The outcome of [`Users::create_user`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CreateUser {
    /// Created.
    Created,
    /// Someone has that e-mail or user name (or id) already.
    Exists,
}

/// The outcome of changing a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ChangeUser {
    /// It is so now.
    Changed,
    /// It was so already.
    Unchanged,
    /// No such user.
    Unknown,
}
