//! From columns to the model's types.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::db::{get, time, time_if, unreadable};
use crate::base::Digest;
use crate::model::grant::GrantState;
use crate::model::refresh::{Predecessor, RefreshHead};
use crate::model::user::User;
use crate::model::{ClientId, Grant, GrantId, Session, SessionId, UserId};
use crate::storage::{Result, StoreError};

/// `audit_logs.actor_type` where nobody but the user or client concerned acted.
pub(super) const NO_ACTOR: &str = "user";

/// `value` as JSON text.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(StoreError::unavailable)
}

/// From a column of JSON, selected as text.
pub(super) fn from_json<T: DeserializeOwned>(row: &PgRow, column: &'static str) -> Result<T> {
    serde_json::from_str(get(row, column)?).map_err(|_| unreadable(column))
}

/// A column of exactly `N` bytes.
pub(super) fn bytes<const N: usize>(row: &PgRow, column: &'static str) -> Result<[u8; N]> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| unreadable(column))
}

/// A column of exactly `N` bytes, or null.
pub(super) fn bytes_if<const N: usize>(
    row: &PgRow,
    column: &'static str,
) -> Result<Option<[u8; N]>> {
    let bytes = get::<Option<&[u8]>>(row, column)?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| unreadable(column))).transpose()
}

/// A count, which is never negative.
pub(super) fn count(row: &PgRow, column: &'static str) -> Result<u32> {
    u32::try_from(get::<i32>(row, column)?).map_err(|_| unreadable(column))
}

/// A number of more than 31 bits.
fn generation(row: &PgRow, column: &'static str) -> Result<Option<u32>> {
    let number = get::<Option<i64>>(row, column)?;
    number.map(|number| u32::try_from(number).map_err(|_| unreadable(column))).transpose()
}

/// The bytes of a digest, for a `bytea`.
pub(super) fn hash<T>(digest: &Digest<T>) -> &[u8] {
    digest.as_bytes()
}

/// The user of this row.
pub(super) fn user(row: &PgRow) -> Result<User> {
    Ok(User {
        id: UserId(get(row, "id")?),
        username: get(row, "username")?,
        email: get(row, "email")?,
        email_verified: get(row, "is_verified")?,
        name: get(row, "display_name")?,
        given_name: get(row, "first_name")?,
        family_name: get(row, "last_name")?,
        password_hash: get::<Option<String>>(row, "password_hash")?.map(Into::into),
        password_changed_at: time(row, "password_changed_at")?,
        disabled: !get::<bool>(row, "is_active")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        last_login_at: time_if(row, "last_login_at")?,
    })
}

/// The session of this row.
pub(super) fn session(row: &PgRow) -> Result<Session> {
    Ok(Session {
        id: SessionId(get(row, "session_id")?),
        user: UserId(get(row, "user_id")?),
        auth_time: time(row, "auth_time")?,
        amr: get(row, "amr")?,
        acr: get(row, "acr")?,
        created_at: time(row, "created_at")?,
        last_active_at: time(row, "last_activity_at")?,
        idle_expires_at: time(row, "idle_expires_at")?,
        expires_at: time(row, "expires_at")?,
        user_agent: get(row, "user_agent")?,
        ip: get(row, "ip_address")?,
    })
}

/// The grant of this row.
pub(super) fn grant(row: &PgRow) -> Result<Grant> {
    Ok(Grant {
        id: GrantId(get(row, "id")?),
        client: ClientId::new(get(row, "client_id")?),
        user: get::<Option<Uuid>>(row, "user_id")?.map(UserId),
        session: get::<Option<Uuid>>(row, "session_id")?.map(SessionId),
        terms: from_json(row, "terms")?,
        jkt: get(row, "jkt")?,
        offline: get(row, "offline")?,
        state: match get(row, "state")? {
            "live" => GrantState::Live,
            _ => GrantState::Revoked,
        },
        created_at: time(row, "created_at")?,
        idle_expires_at: time(row, "idle_exp")?,
        expires_at: time(row, "abs_exp")?,
        refresh: head(row)?,
    })
}

/// The refresh columns of this row, when there are any.
pub(super) fn head(row: &PgRow) -> Result<Option<RefreshHead>> {
    let Some(head) = generation(row, "head")? else { return Ok(None) };
    let pred = match generation(row, "pred")? {
        Some(generation) => Some(Predecessor { generation, nonce: bytes(row, "pred_nonce")? }),
        None => None,
    };
    let kid = u8::try_from(get::<i16>(row, "head_kid")?).map_err(|_| unreadable("head_kid"))?;
    Ok(Some(RefreshHead {
        salt: bytes(row, "salt")?,
        kid,
        head,
        head_nonce: bytes(row, "head_nonce")?,
        pred,
        rotated_at: time(row, "rotated_at")?,
        replaced_at: time_if(row, "replaced_at")?,
        replacements: count(row, "replacements")?,
        head_seen: get(row, "head_seen")?,
        repeats: count(row, "repeats")?,
        fingerprint: bytes_if(row, "rot_fp")?,
        differs: get(row, "differs")?,
        streak: count(row, "streak")?,
        epoch: get::<Option<String>>(row, "epoch")?.unwrap_or_default(),
    }))
}
