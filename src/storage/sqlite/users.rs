use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::audit_log::record;
use super::grants::{of_session, of_user};
use super::revocations::not_before;
use super::row::Columns;
use super::sessions::session_entry;
use super::{SqliteTenant, Tx, sql};
use crate::base::{Secret, Timestamp};
use crate::model::user::{LoginName, PasswordHash, User};
use crate::model::{Action, Audit, RevocationKey, SessionId, TenantUid, UserId};
use crate::storage::{Change, ChangeUser, CreateUser, NewUser, Result, Users};

/// Two look-ups and not one `OR`, which would walk through every user of the tenant.
pub(super) const FIND_BY_LOGIN: &str = "SELECT *, 0 AS place FROM users
     WHERE tenant_uid = ?1 AND login_username = ?2 AND deleted_at IS NULL
     UNION ALL SELECT *, 1 FROM users
     WHERE tenant_uid = ?1 AND login_email = ?2 AND deleted_at IS NULL
     ORDER BY place LIMIT 1";

#[async_trait]
impl Users for SqliteTenant {
    async fn create_user(
        &self,
        user: &NewUser,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateUser> {
        let username = user.username.as_deref().map(LoginName::canonical);
        let create = sql!(
            "INSERT INTO users (tenant_uid, id, email, username, login_email, login_username,
               password_hash, first_name, last_name, display_name, is_verified, verified_at,
               password_changed_at, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, ?13)
             ON CONFLICT DO NOTHING",
            &self.tenant,
            user.id,
            &user.email,
            user.username.as_ref(),
            LoginName::canonical(&user.email).as_str(),
            username.as_ref().map(LoginName::as_str),
            user.password_hash.as_ref().map(Secret::reveal),
            user.given_name.as_ref(),
            user.family_name.as_ref(),
            user.name.as_ref(),
            user.email_verified,
            user.email_verified.then_some(now),
            now,
        );
        let tenant = self.tenant.clone();
        let mut audited = record(Action::UserCreated, now, audit);
        audited.user = Some(user.id);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    if tx.run(create).await? == 0 {
                        return Ok(CreateUser::Exists);
                    }
                    tx.audit(&tenant, &audited).await?;
                    Ok(CreateUser::Created)
                })
            })
            .await
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>> {
        let find = sql!(
            "SELECT * FROM users WHERE tenant_uid = ?1 AND id = ?2 AND deleted_at IS NULL",
            &self.tenant,
            id,
        );
        self.store.row(find).await?.as_ref().map(read).transpose()
    }

    async fn find_user_by_login(&self, login: &LoginName) -> Result<Option<User>> {
        let find = sql!(FIND_BY_LOGIN, &self.tenant, login.as_str());
        self.store.row(find).await?.as_ref().map(read).transpose()
    }

    async fn list_users(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>> {
        let page = sql!(
            "SELECT * FROM users WHERE tenant_uid = ?1 AND id > coalesce(?2, x'')
               AND deleted_at IS NULL ORDER BY id LIMIT ?3",
            &self.tenant,
            after,
            limit,
        );
        self.store.rows(page).await?.iter().map(read).collect()
    }

    async fn set_password(
        &self,
        id: UserId,
        password: &PasswordHash,
        keep: Option<SessionId>,
        change: &Change<'_>,
    ) -> Result<ChangeUser> {
        let (tenant, password, audit) =
            (self.tenant.clone(), password.clone(), change.audit.clone());
        let (now, not_after) = (change.now, change.not_after);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let set = sql!(
                    "UPDATE users SET password_hash = ?3, password_changed_at = ?4, updated_at = ?4
                     WHERE tenant_uid = ?1 AND id = ?2 AND deleted_at IS NULL",
                    &tenant, id, password.reveal(), now,
                );
                    if tx.run(set).await? == 0 {
                        return Ok(ChangeUser::Unknown);
                    }
                    let change = Change { now, not_after, audit: &audit };
                    tx.end_one_by_one(&tenant, id, keep, &change).await?;
                    let mut audited = record(Action::PasswordChanged, now, &audit);
                    audited.user = Some(id);
                    tx.audit(&tenant, &audited).await?;
                    Ok(ChangeUser::Changed)
                })
            })
            .await
    }

    async fn rehash_password(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool> {
        let rehash = sql!(
            "UPDATE users SET password_hash = ?4
             WHERE tenant_uid = ?1 AND id = ?2 AND password_hash = ?3 AND deleted_at IS NULL",
            &self.tenant,
            id,
            old.reveal(),
            new.reveal(),
        );
        self.store.write(move |tx| Box::pin(async move { Ok(tx.run(rehash).await? == 1) })).await
    }

    async fn set_user_disabled(
        &self,
        id: UserId,
        disabled: bool,
        change: &Change<'_>,
    ) -> Result<ChangeUser> {
        let (tenant, audit) = (self.tenant.clone(), change.audit.clone());
        let (now, not_after) = (change.now, change.not_after);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let change = Change { now, not_after, audit: &audit };
                    tx.disable_user(&tenant, id, disabled, &change).await
                })
            })
            .await
    }

    async fn delete_user(&self, id: UserId, change: &Change<'_>) -> Result<ChangeUser> {
        let (tenant, audit) = (self.tenant.clone(), change.audit.clone());
        let (now, not_after) = (change.now, change.not_after);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let change = Change { now, not_after, audit: &audit };
                    tx.delete_user(&tenant, id, &change).await
                })
            })
            .await
    }
}

impl Tx {
    async fn disable_user(
        &mut self,
        tenant: &TenantUid,
        id: UserId,
        disabled: bool,
        change: &Change<'_>,
    ) -> Result<ChangeUser> {
        let find = sql!(
            "SELECT is_active FROM users WHERE tenant_uid = ?1 AND id = ?2 AND deleted_at IS NULL",
            tenant,
            id,
        );
        let Some(row) = self.row(find).await? else { return Ok(ChangeUser::Unknown) };
        if row.get::<bool>("is_active")? != disabled {
            return Ok(ChangeUser::Unchanged);
        }
        let set = sql!(
            "UPDATE users SET is_active = ?3, updated_at = ?4 WHERE tenant_uid = ?1 AND id = ?2",
            tenant,
            id,
            !disabled,
            change.now,
        );
        self.run(set).await?;
        if disabled {
            self.end_for_good(tenant, id, change).await?;
        }
        let action = if disabled { Action::UserDisabled } else { Action::UserEnabled };
        let mut audited = record(action, change.now, change.audit);
        audited.user = Some(id);
        self.audit(tenant, &audited).await?;
        Ok(ChangeUser::Changed)
    }

    async fn delete_user(
        &mut self,
        tenant: &TenantUid,
        id: UserId,
        change: &Change<'_>,
    ) -> Result<ChangeUser> {
        // The id stays taken: it is `sub` in tokens and records that others keep.
        let erase =
            sql!(
            "UPDATE users SET email = '', username = NULL, login_email = '', login_username = NULL,
               password_hash = NULL, first_name = NULL, last_name = NULL, display_name = NULL,
               phone = NULL, avatar_url = NULL, last_login_at = NULL, last_login_ip = NULL,
               is_active = 0, is_verified = 0, verified_at = NULL, updated_at = ?3, deleted_at = ?3
             WHERE tenant_uid = ?1 AND id = ?2 AND deleted_at IS NULL",
            tenant, id, change.now,
        );
        if self.run(erase).await? == 0 {
            return Ok(ChangeUser::Unknown);
        }
        self.end_for_good(tenant, id, change).await?;
        let sessions = "DELETE FROM sessions WHERE tenant_uid = ?1 AND user_id = ?2";
        self.run(sql!(sessions, tenant, id)).await?;
        let api_keys = "DELETE FROM api_keys WHERE tenant_uid = ?1 AND user_id = ?2";
        self.run(sql!(api_keys, tenant, id)).await?;
        let consents = "DELETE FROM consents WHERE tenant_uid = ?1 AND user_id = ?2";
        self.run(sql!(consents, tenant, id)).await?;
        let mut audited = record(Action::UserDeleted, change.now, change.audit);
        audited.user = Some(id);
        self.audit(tenant, &audited).await?;
        Ok(ChangeUser::Changed)
    }

    /// Ends all that a user has; one `subject` entry covers it.
    async fn end_for_good(
        &mut self,
        tenant: &TenantUid,
        id: UserId,
        change: &Change<'_>,
    ) -> Result<()> {
        self.end_sessions(tenant, id, None, change.now).await?;
        self.rows(of_user(tenant, id, change.now)).await?;
        let key = RevocationKey::Subject(id.to_string());
        self.revoke(tenant, not_before(key, change.now, change.not_after)).await
    }

    /// Ends every session but `keep`, and every grant, each with its own entry, so that the next
    /// sign-in survives. A session's entry covers the grants that die with it.
    async fn end_one_by_one(
        &mut self,
        tenant: &TenantUid,
        id: UserId,
        keep: Option<SessionId>,
        change: &Change<'_>,
    ) -> Result<()> {
        for session in self.end_sessions(tenant, id, keep, change.now).await? {
            self.revoke(tenant, session_entry(session, change)).await?;
            self.rows(of_session(tenant, session, change.now)).await?;
        }
        let which = of_user(tenant, id, change.now);
        self.revoke_grants(tenant, which, change.now, Some(change.not_after)).await.map(drop)
    }
}

fn read(row: &SqliteRow) -> Result<User> {
    Ok(User {
        id: row.id("id")?,
        username: row.get("username")?,
        email: row.get("email")?,
        email_verified: row.get("is_verified")?,
        name: row.get("display_name")?,
        given_name: row.get("first_name")?,
        family_name: row.get("last_name")?,
        password_hash: row.get::<Option<String>>("password_hash")?.map(Secret::new),
        password_changed_at: row.time("password_changed_at")?,
        disabled: !row.get::<bool>("is_active")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        last_login_at: row.time_opt("last_login_at")?,
    })
}
