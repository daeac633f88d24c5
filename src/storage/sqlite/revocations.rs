use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::api_keys::end_api_key;
use super::audit_log::record;
use super::error::unreadable;
use super::row::{Columns, to_json};
use super::{Sqlite, SqliteTenant, Tx, sql};
use crate::base::Timestamp;
use crate::model::api_key::ApiKeyId;
use crate::model::{Action, Audit, GrantId, Revocation, RevocationKey, SessionId, TenantUid};
use crate::storage::{
    LogCursor, LogEntry, LogPage, Result, RevocationLog, Revocations, Tail, horizon,
};

impl Tx {
    /// Appends to the log; the sink hears of it after the commit.
    pub(super) async fn revoke(&mut self, tenant: &TenantUid, entry: Revocation) -> Result<()> {
        let audience = entry.audience.as_ref().map(to_json).transpose()?;
        let append = sql!(
            "INSERT INTO revocations (tenant_uid, epoch, kind, key, aud, nbf, exp, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            tenant,
            self.store().epoch(),
            entry.key.kind(),
            entry.key.key(),
            audience,
            entry.not_before,
            entry.expires_at,
            entry.at,
        );
        self.run(append).await?;
        self.note_revoked(tenant, entry);
        Ok(())
    }

    /// Whether the log has this entry already.
    pub(super) async fn is_revoked(
        &mut self,
        tenant: &TenantUid,
        key: &RevocationKey,
    ) -> Result<bool> {
        let find = sql!(
            "SELECT 1 FROM revocations WHERE tenant_uid = ?1 AND kind = ?2 AND key = ?3 LIMIT 1",
            tenant,
            key.kind(),
            key.key(),
        );
        self.row(find).await.map(|row| row.is_some())
    }

    /// Whether the entry still matters, is of a tenant that we know, and is not in the log.
    async fn is_lost(&mut self, entry: &LogEntry, now: Timestamp) -> Result<bool> {
        let Revocation { key, not_before, expires_at, .. } = &entry.revocation;
        let find = sql!(
            "SELECT 1 FROM tenants WHERE uid = ?1 AND NOT EXISTS (SELECT 1 FROM revocations
               WHERE tenant_uid = ?1 AND kind = ?2 AND key = ?3 AND nbf IS ?4)",
            &entry.tenant,
            key.kind(),
            key.key(),
            *not_before,
        );
        Ok(now < *expires_at && self.row(find).await?.is_some())
    }

    /// Applies an entry to the rows that it kills, without writing it again.
    async fn apply(&mut self, entry: &LogEntry, now: Timestamp) -> Result<()> {
        let LogEntry { tenant, revocation } = entry;
        match &revocation.key {
            RevocationKey::Grant(gid) => {
                let Ok(grant) = gid.parse::<GrantId>() else { return Ok(()) };
                self.run(sql!(
                    "UPDATE grants SET state = 'revoked', revoked_at = ?3
                     WHERE tenant_uid = ?1 AND id = ?2 AND state = 'live'",
                    tenant,
                    grant,
                    now,
                ))
                .await?;
            }
            RevocationKey::Session(sid) => {
                let Ok(session) = sid.parse::<SessionId>() else { return Ok(()) };
                self.run(sql!(
                    "UPDATE sessions SET status = 'terminated', revoked_at = ?3,
                       revoke_reason = 'reasserted', keep_until = ?4
                     WHERE tenant_uid = ?1 AND session_id = ?2 AND status = 'active'",
                    tenant,
                    session,
                    now,
                    horizon::ended_session(now),
                ))
                .await?;
            }
            RevocationKey::ApiKey(id) => {
                let Ok(id) = id.parse::<ApiKeyId>() else { return Ok(()) };
                self.run(end_api_key(tenant, id, now)).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// An entry that covers what was issued up to ten seconds after the change.
pub(super) fn not_before(key: RevocationKey, now: Timestamp, expires_at: Timestamp) -> Revocation {
    let not_before = Some(now.plus(horizon::NOT_BEFORE_AHEAD));
    Revocation { key, audience: None, not_before, expires_at, at: now }
}

/// `CROSS JOIN` fixes the order: for each pair one look-up, and not the tenant's whole log.
pub(super) const MATCHING: &str =
    "SELECT r.* FROM json_each(?2) p CROSS JOIN revocations r ON r.tenant_uid = ?1
       AND r.kind = p.value ->> 0 AND r.key = p.value ->> 1 AND r.exp > ?3";

#[async_trait]
impl Revocations for SqliteTenant {
    async fn append_revocations(
        &self,
        entries: &[Revocation],
        now: Timestamp,
        audit: &Audit,
    ) -> Result<()> {
        let (tenant, entries, audit) = (self.tenant.clone(), entries.to_vec(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    for entry in entries {
                        let raised = raises_not_before(&entry.key);
                        let mut audited = record(Action::NotBeforeRaised, now, &audit);
                        audited.resource = Some((entry.key.kind(), entry.key.key().to_owned()));
                        tx.revoke(&tenant, entry).await?;
                        if raised {
                            tx.audit(&tenant, &audited).await?;
                        }
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn matching_revocations(
        &self,
        keys: &[RevocationKey],
        now: Timestamp,
    ) -> Result<Vec<Revocation>> {
        let pairs: Vec<_> = keys.iter().map(|key| [key.kind(), key.key()]).collect();
        let find = sql!(MATCHING, &self.tenant, to_json(&pairs)?, now);
        self.store.rows(find).await?.iter().map(read).collect()
    }
}

fn raises_not_before(key: &RevocationKey) -> bool {
    matches!(key, RevocationKey::Subject(_) | RevocationKey::Client(_) | RevocationKey::Tenant)
}

#[async_trait]
impl RevocationLog for Sqlite {
    async fn revocation_snapshot(&self, now: Timestamp) -> Result<LogPage> {
        // One statement sees one state of the log: its last number is where to go on, even when the
        // entries of that number have expired.
        let all = sql!(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'revocations'), 0) AS last,
               r.* FROM (SELECT 1) LEFT JOIN revocations r ON r.exp > ?1 ORDER BY r.seq",
            now,
        );
        let rows = self.rows(all).await?;
        let last: i64 = rows.first().map_or(Ok(0), |row| row.get("last"))?;
        let entries = rows.iter().filter_map(|row| read_entry(row).transpose());
        Ok(LogPage {
            entries: entries.collect::<Result<_>>()?,
            cursor: self.cursor(last),
            more: false,
        })
    }

    async fn revocation_tail(&self, cursor: &LogCursor, limit: u32) -> Result<Tail> {
        let place = cursor.place.parse::<i64>().ok().filter(|_| cursor.epoch == self.epoch());
        let Some(place) = place else { return Ok(Tail::Gone) };
        let next = sql!(
            "SELECT * FROM revocations WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            place,
            i64::from(limit) + 1,
        );
        self.page(self.rows(next).await?, place, limit)
    }

    async fn revocation_tail_of(
        &self,
        tenant: &TenantUid,
        cursor: &LogCursor,
        limit: u32,
    ) -> Result<Tail> {
        let place = cursor.place.parse::<i64>().ok().filter(|_| cursor.epoch == self.epoch());
        let Some(place) = place else { return Ok(Tail::Gone) };
        let next = sql!(
            "SELECT * FROM revocations WHERE tenant_uid = ?3 AND seq > ?1 ORDER BY seq LIMIT ?2",
            place,
            i64::from(limit) + 1,
            tenant,
        );
        self.page(self.rows(next).await?, place, limit)
    }

    async fn reassert_revocations(&self, entries: &[LogEntry], now: Timestamp) -> Result<u64> {
        let entries = entries.to_vec();
        self.write(move |tx| {
            Box::pin(async move {
                let mut written = 0;
                for entry in entries {
                    if !tx.is_lost(&entry, now).await? {
                        continue;
                    }
                    tx.apply(&entry, now).await?;
                    tx.revoke(&entry.tenant, entry.revocation).await?;
                    written += 1;
                }
                Ok(written)
            })
        })
        .await
    }
}

impl Sqlite {
    /// What was read after `place`, of which one row more than `limit` was asked for.
    fn page(&self, mut rows: Vec<SqliteRow>, place: i64, limit: u32) -> Result<Tail> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().map_or(Ok(place), |row| row.get("seq"))?;
        let entries = rows.iter().filter_map(|row| read_entry(row).transpose());
        let entries = entries.collect::<Result<_>>()?;
        Ok(Tail::Page(LogPage { entries, cursor: self.cursor(last), more }))
    }

    fn cursor(&self, seq: i64) -> LogCursor {
        LogCursor { epoch: self.epoch().to_owned(), place: seq.to_string() }
    }
}

/// The entry of a row of the log; none for the row that only says where the log ends.
fn read_entry(row: &SqliteRow) -> Result<Option<LogEntry>> {
    let Some(tenant) = row.get::<Option<&str>>("tenant_uid")? else { return Ok(None) };
    Ok(Some(LogEntry { tenant: TenantUid::stored(tenant), revocation: read(row)? }))
}

fn read(row: &SqliteRow) -> Result<Revocation> {
    let key = RevocationKey::from_columns(row.get("kind")?, row.get("key")?);
    Ok(Revocation {
        key: key.ok_or_else(|| unreadable("kind"))?,
        audience: row.json_opt("aud")?,
        not_before: row.time_opt("nbf")?,
        expires_at: row.time("exp")?,
        at: row.time("at")?,
    })
}
