use std::ops::Bound;

use async_trait::async_trait;

use super::MemoryTenant;
use super::rows::Rows;
use super::state::{Change as Commit, Concerned};
use crate::base::Timestamp;
use crate::model::audit::Action;
use crate::model::user::{LoginName, PasswordHash, User};
use crate::model::{Audit, RevocationKey, SessionId, UserId};
use crate::storage::{Change, ChangeUser, CreateUser, NewUser, Result, Users, horizon};

#[async_trait]
impl Users for MemoryTenant {
    async fn create_user(
        &self,
        new: &NewUser,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateUser> {
        Ok(self.change(|rows, commit| {
            let email = LoginName::canonical(&new.email);
            let username = new.username.as_deref().map(LoginName::canonical);
            let taken = rows.users.contains_key(&new.id)
                || rows.emails.contains_key(&email)
                || username.as_ref().is_some_and(|name| rows.usernames.contains_key(name));
            if taken {
                return CreateUser::Exists;
            }
            rows.emails.insert(email, new.id);
            if let Some(name) = username {
                rows.usernames.insert(name, new.id);
            }
            rows.users.insert(new.id, new_user(new, now));
            commit.record(Action::UserCreated, now, audit, Concerned::user(new.id));
            CreateUser::Created
        }))
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>> {
        Ok(self.read(|rows| rows.users.get(&id).cloned()))
    }

    async fn find_user_by_login(&self, login: &LoginName) -> Result<Option<User>> {
        Ok(self.read(|rows| {
            let id = rows.usernames.get(login).or_else(|| rows.emails.get(login))?;
            rows.users.get(id).cloned()
        }))
    }

    async fn list_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>> {
        Ok(self.read(|rows| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let users = rows.users.range((from, Bound::Unbounded)).map(|(_, user)| user);
            users.take(limit as usize).cloned().collect()
        }))
    }

    async fn set_password(
        &self,
        id: UserId,
        password: &PasswordHash,
        keep: Option<SessionId>,
        change: &Change<'_>,
    ) -> Result<ChangeUser> {
        Ok(self.change(|rows, commit| {
            let Some(user) = rows.users.get_mut(&id) else { return ChangeUser::Unknown };
            user.password_hash = Some(password.clone());
            user.password_changed_at = change.now;
            user.updated_at = change.now;
            for session in live_sessions(rows, id).into_iter().filter(|id| Some(*id) != keep) {
                rows.end_session(session, commit, change.now, change.not_after);
            }
            for (grant, _) in rows.revoke_grants(|grant| grant.user == Some(id)) {
                let key = RevocationKey::Grant(grant.to_string());
                commit.revoke(key, change.not_after, change.now);
            }
            let of = Concerned::user(id);
            commit.record(Action::PasswordChanged, change.now, change.audit, of);
            ChangeUser::Changed
        }))
    }

    async fn rehash_password(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool> {
        Ok(self.change(|rows, _| {
            let stored = rows.users.get_mut(&id).and_then(|user| user.password_hash.as_mut());
            let Some(stored) = stored.filter(|hash| hash.matches(old.reveal().as_bytes())) else {
                return false;
            };
            *stored = new.clone();
            true
        }))
    }

    async fn set_user_disabled(
        &self,
        id: UserId,
        disabled: bool,
        change: &Change<'_>,
    ) -> Result<ChangeUser> {
        Ok(self.change(|rows, commit| {
            let Some(user) = rows.users.get_mut(&id) else { return ChangeUser::Unknown };
            if user.disabled == disabled {
                return ChangeUser::Unchanged;
            }
            user.disabled = disabled;
            user.updated_at = change.now;
            let action = if disabled {
                end_all(rows, commit, id, change);
                Action::UserDisabled
            } else {
                Action::UserEnabled
            };
            commit.record(action, change.now, change.audit, Concerned::user(id));
            commit.hint();
            ChangeUser::Changed
        }))
    }

    async fn delete_user(&self, id: UserId, change: &Change<'_>) -> Result<ChangeUser> {
        Ok(self.change(|rows, commit| {
            if rows.users.remove(&id).is_none() {
                return ChangeUser::Unknown;
            }
            end_all(rows, commit, id, change);
            rows.usernames.retain(|_, user| *user != id);
            rows.emails.retain(|_, user| *user != id);
            rows.consents.retain(|(user, _), _| *user != id);
            rows.api_keys.retain(|_, row| row.key.owner.user() != Some(id));
            rows.cookies.retain(|_, session| {
                rows.sessions.get(session).is_some_and(|row| row.session.user != id)
            });
            rows.sessions.retain(|_, row| row.session.user != id);
            commit.record(Action::UserDeleted, change.now, change.audit, Concerned::user(id));
            ChangeUser::Changed
        }))
    }
}

fn new_user(new: &NewUser, now: Timestamp) -> User {
    User {
        id: new.id,
        username: new.username.clone(),
        email: new.email.clone(),
        email_verified: new.email_verified,
        name: new.name.clone(),
        given_name: new.given_name.clone(),
        family_name: new.family_name.clone(),
        password_hash: new.password_hash.clone(),
        password_changed_at: now,
        disabled: false,
        created_at: now,
        updated_at: now,
        last_login_at: None,
    }
}

/// The sessions of a user that have not ended.
fn live_sessions(rows: &Rows, user: UserId) -> Vec<SessionId> {
    let mine = rows.sessions.values().filter(|row| row.session.user == user);
    let mut ids: Vec<_> =
        mine.filter(|row| row.ended_at.is_none()).map(|row| row.session.id).collect();
    ids.sort_unstable();
    ids
}

/// Ends all that a user has; one `subject` entry covers it.
fn end_all(rows: &mut Rows, commit: &mut Commit, id: UserId, change: &Change<'_>) {
    for row in rows.sessions.values_mut() {
        if row.session.user == id && row.ended_at.is_none() {
            row.ended_at = Some(change.now);
            row.keep_until = horizon::ended_session(change.now);
        }
    }
    rows.revoke_grants(|grant| grant.user == Some(id));
    commit.not_before(RevocationKey::Subject(id.to_string()), change);
}
