use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::row::{Columns, to_json};
use super::{SqliteTenant, sql};
use crate::base::Timestamp;
use crate::model::RevocationKey;
use crate::storage::{PlacesTaken, PlacesWanted, Result, StatusList, StatusLists};

/// Each kind of entry finds its tokens by an index of its own; the kinds that are rare and name many
/// look through the list. `CROSS JOIN` fixes the order.
macro_rules! revoked {
    ($entries:literal) => {
        concat!(
            "WITH r AS MATERIALIZED (",
            $entries,
            ")
     SELECT DISTINCT t.status_idx FROM (
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         CROSS JOIN access_tokens t ON t.tenant_uid = ?1 AND t.status_list = ?2 AND t.jti = r.key
         WHERE r.kind = 'jti'
       UNION ALL
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         CROSS JOIN access_tokens t ON t.tenant_uid = ?1 AND t.status_list = ?2
           AND t.claims ->> 'grant' = r.key
         WHERE r.kind IN ('grant', 'api_key')
       UNION ALL
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         CROSS JOIN access_tokens t ON t.tenant_uid = ?1 AND t.status_list = ?2
           AND t.claims ->> 'grant' = substr(r.key, 1, instr(r.key, '.') - 1)
           AND t.generation = CAST(substr(r.key, instr(r.key, '.') + 1) AS INTEGER)
         WHERE r.kind = 'head'
       UNION ALL
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         CROSS JOIN access_tokens t ON t.tenant_uid = ?1 AND t.status_list = ?2
           AND t.claims ->> 'session' = r.key
         WHERE r.kind = 'session'
       UNION ALL
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         CROSS JOIN access_tokens t ON t.tenant_uid = ?1 AND t.status_list = ?2
           AND t.claims ->> 'user' = r.key
         WHERE r.kind = 'subject'
       UNION ALL
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         CROSS JOIN access_tokens t ON t.tenant_uid = ?1 AND t.status_list = ?2
         WHERE r.kind = 'tenant' OR (r.kind = 'client' AND t.client_id = r.key)
           OR (r.kind = 'kid' AND t.claims -> 'status' ->> 'kid' = r.key)) t
     WHERE (t.nbf IS NULL OR t.created_at <= t.nbf)
       AND (t.aud IS NULL OR EXISTS (
         SELECT 1 FROM json_each(t.claims, '$.audience') a JOIN json_each(t.aud) b
           ON a.value = b.value))"
        )
    };
}

const REVOKED: &str =
    revoked!("SELECT kind, key, aud, nbf FROM revocations WHERE tenant_uid = ?1 AND exp > ?3");

const REVOKED_BY: &str = revoked!(
    "SELECT r.kind, r.key, r.aud, r.nbf FROM json_each(?4) p
       CROSS JOIN revocations r ON r.tenant_uid = ?1
       AND r.kind = p.value ->> 0 AND r.key = p.value ->> 1 AND r.exp > ?3"
);

#[async_trait]
impl StatusLists for SqliteTenant {
    async fn take_places(
        &self,
        wanted: &PlacesWanted,
        now: Timestamp,
    ) -> Result<Option<PlacesTaken>> {
        let new = StatusList { id: wanted.id.clone(), seed: wanted.seed, ends_at: wanted.ends_at };
        let take = sql!(
            "INSERT INTO status_lists (tenant_uid, ends_at, number, id, seed, taken, created_at,
               keep_until)
             SELECT ?1, ?3, ?4, ?5, ?6, ?7, ?2, ?9 WHERE ?7 <= ?8
             ON CONFLICT (tenant_uid, ends_at, number) DO UPDATE SET taken = taken + ?7
               WHERE taken + ?7 <= ?8
             RETURNING id, seed, ends_at, taken - ?7 AS first",
            &self.tenant,
            now,
            wanted.ends_at,
            wanted.number,
            &wanted.id,
            &wanted.seed[..],
            wanted.count,
            wanted.capacity,
            new.keep_until(),
        );
        let row = self.store.write(move |tx| Box::pin(async move { tx.row(take).await })).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(PlacesTaken { list: read(&row)?, first: row.number("first")? }))
    }

    async fn find_status_list(&self, id: &str) -> Result<Option<StatusList>> {
        let find = sql!(
            "SELECT id, seed, ends_at FROM status_lists WHERE tenant_uid = ?1 AND id = ?2",
            &self.tenant,
            id.to_owned(),
        );
        self.store.row(find).await?.as_ref().map(read).transpose()
    }

    async fn list_status_lists(&self, now: Timestamp) -> Result<Vec<StatusList>> {
        let list = sql!(
            "SELECT id, seed, ends_at FROM status_lists WHERE tenant_uid = ?1 AND keep_until > ?2
             ORDER BY ends_at, number",
            &self.tenant,
            now,
        );
        self.store.rows(list).await?.iter().map(read).collect()
    }

    async fn revoked_places(
        &self,
        list: &str,
        among: Option<&[RevocationKey]>,
        now: Timestamp,
    ) -> Result<Vec<u32>> {
        let list = list.to_owned();
        let find = match among {
            None => sql!(REVOKED, &self.tenant, list, now),
            Some(keys) => {
                let pairs: Vec<_> = keys.iter().map(|key| [key.kind(), key.key()]).collect();
                sql!(REVOKED_BY, &self.tenant, list, now, to_json(&pairs)?)
            }
        };
        self.store.rows(find).await?.iter().map(|row| row.number("status_idx")).collect()
    }
}

fn read(row: &SqliteRow) -> Result<StatusList> {
    Ok(StatusList {
        id: row.get::<String>("id")?,
        seed: row.bytes("seed")?,
        ends_at: row.time("ends_at")?,
    })
}
