use super::db::{Db, get, sql};
use crate::base::Timestamp;
use crate::storage::{Cleaned, Horizon, KINDS, Result};

/// One run: at most `limit` rows of each kind, those that another node holds left alone.
pub(super) async fn run(db: &Db, now: Timestamp, limit: u32, dry_run: bool) -> Result<Cleaned> {
    let mut cleaned = Cleaned { at: Some(now), ..Cleaned::default() };
    for horizon in KINDS {
        let text = if dry_run { count(horizon) } else { delete(horizon) };
        let statement = sql(sqlx::AssertSqlSafe(text)).bind(i64::from(limit)).at(now);
        let row =
            if dry_run { db.read_one(statement).await? } else { db.write_one(statement).await? };
        let gone = row.map_or(Ok(0), |row| get::<i64>(&row, "gone"))?;
        cleaned.more |= gone >= i64::from(limit);
        cleaned.counts.push((horizon.kind, u64::try_from(gone).unwrap_or(0)));
    }
    Ok(cleaned)
}

fn condition(horizon: &Horizon) -> String {
    horizon.condition.replace(":now", "$2")
}

fn delete(horizon: &Horizon) -> String {
    let (table, condition) = (horizon.table, condition(horizon));
    format!(
        "WITH gone AS (DELETE FROM {table} WHERE ctid = ANY (ARRAY(
           SELECT ctid FROM {table} WHERE {condition} LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1)
         SELECT count(*) AS gone FROM gone"
    )
}

fn count(horizon: &Horizon) -> String {
    let (table, condition) = (horizon.table, condition(horizon));
    format!(
        "SELECT count(*) AS gone FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT $1) doomed"
    )
}

#[cfg(test)]
mod tests {
    use super::KINDS;

    /// The SQL function lists tables and columns for itself; it must be the same list.
    #[test]
    fn the_sql_function_deletes_what_the_server_deletes() {
        let schema = include_str!("../../../migrations/postgres/004_status_lists.up.sql");
        let lines = schema.lines().map(str::trim);
        let listed: Vec<String> = lines
            .filter(|line| line.starts_with("['"))
            .map(|line| line.replace(['[', ']', '\'', ','], ""))
            .collect();
        let kinds: Vec<String> = KINDS
            .iter()
            .map(|kind| format!("{} {}", kind.table, kind.condition.replace(" <= :now", "")))
            .collect();
        assert_eq!(listed, kinds);
    }
}
