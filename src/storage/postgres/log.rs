use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::db::{get, sql, time, time_if, unreadable};
use super::revocations::columns;
use super::{Postgres, Shared};
use crate::base::Timestamp;
use crate::model::{Revocation, RevocationKey, TenantUid};
use crate::storage::{LogCursor, LogEntry, LogPage, Result, RevocationLog, StoreError, Tail};

/// The epoch is recorded when it is first seen, by whichever node looks first.
const EPOCH: &str = "INSERT INTO epochs (epoch, first_seen_at) SELECT revocation_epoch(), $1
     ON CONFLICT DO NOTHING";

/// Entries, epoch and snapshot are of one statement, and so of one state of the log.
const SNAPSHOT: &str =
    "SELECT here.epoch, here.snapshot, r.tenant_uid, r.kind, r.key, r.aud, r.nbf, r.exp, r.at
     FROM (SELECT revocation_epoch() AS epoch, pg_current_snapshot()::text AS snapshot) here
     LEFT JOIN revocations r ON r.exp > $1
     ORDER BY r.seq";

/// What `$1` did not see and `$2` (or else this statement) does, after `$3`. Commit order is not
/// sequence order: a writer that was open at `$1` may have any number. Of the tenant `$5`, or of all.
const TAIL: &str = "SELECT here.epoch, coalesce($2, here.snapshot) AS snapshot, r.seq, r.tenant_uid, r.kind, r.key,
       r.aud, r.nbf, r.exp, r.at
     FROM (SELECT revocation_epoch() AS epoch, pg_current_snapshot()::text AS snapshot) here
     LEFT JOIN LATERAL (
       SELECT * FROM revocations
       WHERE xid >= pg_snapshot_xmin($1::pg_snapshot)
         AND NOT pg_visible_in_snapshot(xid, $1::pg_snapshot)
         AND ($2 IS NULL OR pg_visible_in_snapshot(xid, $2::pg_snapshot))
         AND seq > $3 AND epoch = here.epoch AND ($5 IS NULL OR tenant_uid = $5)
       ORDER BY seq LIMIT $4) r ON true
     ORDER BY r.seq";

/// What the store lacks is written and applied; what it has is left alone.
const REASSERT: &str = "WITH e AS MATERIALIZED (
       SELECT tenant_uid, kind, key, string_to_array(nullif(auds, ''), ' ') AS aud, nbf, exp, at
       FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
         $7::timestamptz[], $8::timestamptz[]) AS a (tenant_uid, kind, key, auds, nbf, exp, at)
       WHERE exp > $1),
     lost AS MATERIALIZED (
       SELECT e.* FROM e JOIN tenants t ON t.uid = e.tenant_uid
       WHERE NOT EXISTS (SELECT 1 FROM revocations r WHERE r.tenant_uid = e.tenant_uid
         AND r.kind = e.kind AND r.key = e.key AND r.nbf IS NOT DISTINCT FROM e.nbf)),
     rev AS (
       INSERT INTO revocations (tenant_uid, kind, key, aud, nbf, exp, at)
       SELECT tenant_uid, kind, key, aud, nbf, exp, at FROM lost),
     g AS (
       UPDATE grants SET state = 'revoked', revoked_at = $1 FROM lost
       WHERE grants.tenant_uid = lost.tenant_uid AND lost.kind = 'grant'
         AND grants.id = CASE WHEN lost.kind = 'grant' THEN lost.key::uuid END
         AND grants.state = 'live'),
     s AS (
       UPDATE sessions SET status = 'terminated', revoked_at = $1, revoke_reason = 'reasserted',
         keep_until = $1 + interval '1 day' FROM lost
       WHERE sessions.tenant_uid = lost.tenant_uid AND lost.kind = 'session'
         AND sessions.session_id = CASE WHEN lost.kind = 'session' THEN lost.key::uuid END
         AND sessions.status = 'active'),
     k AS (
       UPDATE api_keys SET revoked_at = $1,
         keep_until = least(keep_until, $1 + interval '90 days') FROM lost
       WHERE api_keys.tenant_uid = lost.tenant_uid AND lost.kind = 'api_key'
         AND api_keys.id::text = lost.key AND api_keys.revoked_at IS NULL)
     SELECT tenant_uid, kind, key, aud, nbf, exp, at FROM lost";

/// How many entries are written again at once.
const BATCH: usize = 500;

#[async_trait]
impl RevocationLog for Postgres {
    async fn revocation_snapshot(&self, now: Timestamp) -> Result<LogPage> {
        self.0.db.write(sql(EPOCH).at(now)).await?;
        let rows = self.0.db.read(sql(SNAPSHOT).at(now)).await?;
        let first = rows.first().ok_or_else(|| StoreError::unavailable("no snapshot"))?;
        let cursor = LogCursor { epoch: get(first, "epoch")?, place: get(first, "snapshot")? };
        Ok(LogPage { entries: entries(&rows)?, cursor, more: false })
    }

    async fn revocation_tail(&self, cursor: &LogCursor, limit: u32) -> Result<Tail> {
        self.0.tail(None, cursor, limit).await
    }

    async fn revocation_tail_of(
        &self,
        tenant: &TenantUid,
        cursor: &LogCursor,
        limit: u32,
    ) -> Result<Tail> {
        self.0.tail(Some(tenant), cursor, limit).await
    }

    async fn reassert_revocations(&self, entries: &[LogEntry], now: Timestamp) -> Result<u64> {
        let mut written = 0;
        for batch in entries.chunks(BATCH) {
            written += self.0.reassert(batch, now).await?;
        }
        Ok(written)
    }
}

impl Shared {
    async fn tail(
        &self,
        tenant: Option<&TenantUid>,
        cursor: &LogCursor,
        limit: u32,
    ) -> Result<Tail> {
        let Some(place) = Place::parse(&cursor.place) else { return Ok(Tail::Gone) };
        let statement = sql(TAIL)
            .bind(place.seen)
            .bind(place.until)
            .bind(place.after)
            .bind(i64::from(limit).saturating_add(1))
            .bind(tenant.map(TenantUid::as_str));
        let mut rows = self.db.read(statement).await?;
        let first = rows.first().ok_or_else(|| StoreError::unavailable("no snapshot"))?;
        let epoch: String = get(first, "epoch")?;
        if epoch != cursor.epoch {
            return Ok(Tail::Gone);
        }
        let snapshot: String = get(first, "snapshot")?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let cut = rows.len() > limit;
        // Behind a page that was cut before there may be what was committed since the first cut.
        let more = cut || place.until.is_some();
        rows.truncate(limit);
        let place = match rows.last() {
            Some(last) if cut => {
                let after = get::<Option<i64>>(last, "seq")?.unwrap_or_default();
                Place { seen: place.seen, until: Some(&snapshot), after }.to_string()
            }
            _ => snapshot,
        };
        let cursor = LogCursor { epoch, place };
        Ok(Tail::Page(LogPage { entries: entries(&rows)?, cursor, more }))
    }

    async fn reassert(&self, batch: &[LogEntry], now: Timestamp) -> Result<u64> {
        let tenants: Vec<&str> = batch.iter().map(|entry| entry.tenant.as_str()).collect();
        let statement = sql(REASSERT).at(now).bind(tenants);
        let statement = columns(statement, batch.iter().map(|entry| &entry.revocation));
        let lost = entries(&self.db.write(statement).await?)?;
        self.announce(&lost);
        Ok(u64::try_from(lost.len()).unwrap_or(u64::MAX))
    }
}

/// Where a reader is: what it has seen; and within a page that did not fit, up to which state of
/// the log the page goes and the last number it delivered.
struct Place<'c> {
    seen: &'c str,
    until: Option<&'c str>,
    after: i64,
}

impl<'c> Place<'c> {
    fn parse(text: &'c str) -> Option<Self> {
        let mut parts = text.split('/');
        let seen = parts.next().filter(|seen| is_snapshot(seen))?;
        let Some(until) = parts.next() else { return Some(Self { seen, until: None, after: 0 }) };
        let after = parts.next()?.parse().ok()?;
        let whole = parts.next().is_none() && is_snapshot(until);
        whole.then_some(Self { seen, until: Some(until), after })
    }
}

/// Whether Postgres will read it as a `pg_snapshot`: cursors come from readers, and one that it
/// refuses is not to look like a store that is away.
fn is_snapshot(text: &str) -> bool {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // No transaction has a number that a signed one could not hold.
        text.parse().ok().filter(|n: &i64| digits && *n > 0)
    };
    let mut parts = text.split(':');
    let (Some(xmin), Some(xmax), Some(open), None) =
        (parts.next().and_then(number), parts.next().and_then(number), parts.next(), parts.next())
    else {
        return false;
    };
    let mut least = xmin;
    xmin <= xmax
        && (open.is_empty()
            || open.split(',').all(|text| {
                let in_order = number(text).filter(|n| (least..xmax).contains(n));
                in_order.is_some_and(|n| {
                    least = n;
                    true
                })
            }))
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.until {
            None => f.write_str(self.seen),
            Some(until) => write!(f, "{}/{until}/{}", self.seen, self.after),
        }
    }
}

/// The entries of these rows; the row that only says where the log ends has none.
fn entries(rows: &[PgRow]) -> Result<Vec<LogEntry>> {
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(tenant) = get::<Option<&str>>(row, "tenant_uid")? else { continue };
        let tenant = TenantUid::stored(tenant);
        entries.push(LogEntry { tenant, revocation: revocation(row)? });
    }
    Ok(entries)
}

/// The entry of this row of the log.
pub(super) fn revocation(row: &PgRow) -> Result<Revocation> {
    let key = RevocationKey::from_columns(get(row, "kind")?, get(row, "key")?);
    Ok(Revocation {
        key: key.ok_or_else(|| unreadable("revocation"))?,
        audience: get(row, "aud")?,
        not_before: time_if(row, "nbf")?,
        expires_at: time(row, "exp")?,
        at: time(row, "at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_place_reads_back_and_nothing_else_is_one() {
        for text in ["10:20:", "10:20:11,13", "10:20:11/12:30:/77"] {
            assert_eq!(Place::parse(text).map(|place| place.to_string()).as_deref(), Some(text));
        }
        for text in [
            "",
            "7",
            "10:20",
            "10:20:/",
            "10:20:/12:30:",
            "10:20:'/12:30:/1",
            "a:b:c",
            "20:10:",
            "0:10:",
            "10:20:9",
            "10:20:20",
            "10:20:13,11",
            "10:20:11,",
            "+10:20:",
            "1:99999999999999999999999:",
        ] {
            assert!(Place::parse(text).is_none(), "{text:?}");
        }
    }
}
