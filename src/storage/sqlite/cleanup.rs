use sqlx::AssertSqlSafe;

use super::row::Columns;
use super::{Sqlite, Tx, sql};
use crate::base::Timestamp;
use crate::storage::{Cleaned, Horizon, KINDS, Result};

/// One run: at most `limit` rows of each kind, each kind a change of its own, so that requests get
/// their turn in between.
pub(super) async fn cleanup(
    store: &Sqlite,
    now: Timestamp,
    limit: u32,
    dry_run: bool,
) -> Result<Cleaned> {
    let mut cleaned = Cleaned { at: Some(now), ..Cleaned::default() };
    for kind in KINDS {
        let count = if dry_run {
            count(store, kind, now, limit).await?
        } else {
            delete(store, kind, now, limit).await?
        };
        cleaned.more |= count >= u64::from(limit);
        cleaned.counts.push((kind.kind, count));
    }
    if !dry_run && cleaned.total() > 0 {
        store.give_back_pages().await;
    }
    Ok(cleaned)
}

async fn count(store: &Sqlite, kind: &Horizon, now: Timestamp, limit: u32) -> Result<u64> {
    let text = AssertSqlSafe(format!("SELECT count(*) AS n FROM ({})", doomed(kind, "1")));
    match store.row(sql!(text, now, limit)).await? {
        Some(row) => row.number("n"),
        None => Ok(0),
    }
}

async fn delete(store: &Sqlite, kind: &Horizon, now: Timestamp, limit: u32) -> Result<u64> {
    let (table, key) = (kind.table, key_of(kind.table));
    let text = format!("DELETE FROM {table} WHERE ({key}) IN ({})", doomed(kind, key));
    let delete = sql!(AssertSqlSafe(text), now, limit);
    store.write(move |tx: &mut Tx| Box::pin(async move { tx.run(delete).await })).await
}

/// The rows that may go; the words come from [`KINDS`] and from here, never from outside.
fn doomed(kind: &Horizon, columns: &str) -> String {
    let condition = kind.condition.replace(":now", "?1");
    format!("SELECT {columns} FROM {} WHERE {condition} LIMIT ?2", kind.table)
}

fn key_of(table: &str) -> &'static str {
    match table {
        "authorization_codes" => "tenant_uid, code_hash",
        "access_tokens" => "tenant_uid, token_hash",
        "jti_replay" => "tenant_uid, purpose, jti",
        "par_requests" => "tenant_uid, request_hash",
        "login_limits" => "tenant_uid, key_hash",
        "device_codes" => "tenant_uid, device_code_hash",
        "status_lists" => "tenant_uid, id",
        "leases" => "name",
        _ => "rowid",
    }
}

impl Sqlite {
    /// Gives some free pages back to the file system; what is left waits for the next time.
    async fn give_back_pages(&self) {
        let Ok(mut writer) = self.writer().get().await else { return };
        let vacuum = sqlx::query("PRAGMA incremental_vacuum(512)").execute(writer.get()).await;
        match vacuum {
            Ok(_) => writer.give_back(),
            Err(error) => tracing::warn!(error = %error, "free pages were not given back"),
        }
    }
}
