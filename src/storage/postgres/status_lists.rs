use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::View;
use super::db::{get, time, unreadable};
use super::rows::bytes;
use crate::base::Timestamp;
use crate::model::RevocationKey;
use crate::storage::{PlacesTaken, PlacesWanted, Result, StatusList, StatusLists};

const TAKE: &str =
    "INSERT INTO status_lists AS l (tenant_uid, ends_at, number, id, seed, taken, created_at, keep_until)
     SELECT $1, $3, $4, $5, $6, $7, $2, $9 WHERE $7 <= $8
     ON CONFLICT (tenant_uid, ends_at, number) DO UPDATE SET taken = l.taken + $7
       WHERE l.taken + $7 <= $8
     RETURNING id, seed, ends_at, taken - $7 AS first";

const FIND: &str = "SELECT id, seed, ends_at FROM status_lists WHERE tenant_uid = $1 AND id = $2";

const LIST: &str =
    "SELECT id, seed, ends_at FROM status_lists WHERE tenant_uid = $1 AND keep_until > $2
     ORDER BY ends_at, number";

/// Each kind of entry finds its tokens by an index of its own; the kinds that are rare and name many
/// look through the list.
macro_rules! revoked {
    ($entries:literal) => {
        concat!(
            "WITH r AS MATERIALIZED (",
            $entries,
            ")
     SELECT DISTINCT t.status_idx FROM (
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         JOIN access_tokens t ON t.tenant_uid = $1 AND t.status_list = $2 AND t.jti = r.key
         WHERE r.kind = 'jti'
       UNION ALL
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         JOIN access_tokens t ON t.tenant_uid = $1 AND t.status_list = $2
           AND t.claims ->> 'grant' = split_part(r.key, '.', 1)
         WHERE r.kind IN ('grant', 'api_key')
           OR (r.kind = 'head' AND t.generation::text = split_part(r.key, '.', 2))
       UNION ALL
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         JOIN access_tokens t ON t.tenant_uid = $1 AND t.status_list = $2
           AND t.claims ->> 'session' = r.key
         WHERE r.kind = 'session'
       UNION ALL
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         JOIN access_tokens t ON t.tenant_uid = $1 AND t.status_list = $2
           AND t.claims ->> 'user' = r.key
         WHERE r.kind = 'subject'
       UNION ALL
       SELECT t.status_idx, t.claims, t.created_at, r.aud, r.nbf FROM r
         JOIN access_tokens t ON t.tenant_uid = $1 AND t.status_list = $2
         WHERE r.kind = 'tenant' OR (r.kind = 'client' AND t.client_id = r.key)
           OR (r.kind = 'kid' AND t.claims -> 'status' ->> 'kid' = r.key)) t
     WHERE (t.nbf IS NULL OR t.created_at <= t.nbf)
       AND (t.aud IS NULL OR EXISTS (
         SELECT 1 FROM json_array_elements_text(t.claims -> 'audience') a WHERE a = ANY (t.aud)))"
        )
    };
}

const REVOKED: &str =
    revoked!("SELECT kind, key, aud, nbf FROM revocations WHERE tenant_uid = $1 AND exp > $3");

const REVOKED_BY: &str = revoked!(
    "SELECT r.kind, r.key, r.aud, r.nbf FROM unnest($4::text[], $5::text[]) AS k (kind, key)
       JOIN revocations r ON r.tenant_uid = $1 AND r.kind = k.kind AND r.key = k.key
       WHERE r.exp > $3"
);

#[async_trait]
impl StatusLists for View {
    async fn take_places(
        &self,
        wanted: &PlacesWanted,
        now: Timestamp,
    ) -> Result<Option<PlacesTaken>> {
        let new = StatusList { id: wanted.id.clone(), seed: wanted.seed, ends_at: wanted.ends_at };
        let statement = self
            .sql(TAKE)
            .at(now)
            .at(wanted.ends_at)
            .bind(number(wanted.number))
            .bind(wanted.id.as_str())
            .bind(wanted.seed.as_slice())
            .bind(number(wanted.count))
            .bind(number(wanted.capacity))
            .at(new.keep_until());
        let Some(row) = self.db().write_one(statement).await? else { return Ok(None) };
        Ok(Some(PlacesTaken { list: list(&row)?, first: index(&row, "first")? }))
    }

    async fn find_status_list(&self, id: &str) -> Result<Option<StatusList>> {
        self.db().read_one(self.sql(FIND).bind(id)).await?.as_ref().map(list).transpose()
    }

    async fn list_status_lists(&self, now: Timestamp) -> Result<Vec<StatusList>> {
        self.db().read(self.sql(LIST).at(now)).await?.iter().map(list).collect()
    }

    async fn revoked_places(
        &self,
        list: &str,
        among: Option<&[RevocationKey]>,
        now: Timestamp,
    ) -> Result<Vec<u32>> {
        let statement = match among {
            None => self.sql(REVOKED).bind(list).at(now),
            Some(keys) => {
                let kinds: Vec<&str> = keys.iter().map(RevocationKey::kind).collect();
                let names: Vec<&str> = keys.iter().map(RevocationKey::key).collect();
                self.sql(REVOKED_BY).bind(list).at(now).bind(kinds).bind(names)
            }
        };
        let rows = self.db().read(statement).await?;
        rows.iter().map(|row| index(row, "status_idx")).collect()
    }
}

fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn index(row: &PgRow, column: &'static str) -> Result<u32> {
    u32::try_from(get::<i32>(row, column)?).map_err(|_| unreadable(column))
}

fn list(row: &PgRow) -> Result<StatusList> {
    Ok(StatusList {
        id: get(row, "id")?,
        seed: bytes(row, "seed")?,
        ends_at: time(row, "ends_at")?,
    })
}
