use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::View;
use super::db::{get, time};
use super::rows::{count, hash};
use crate::base::{Digest, Timestamp};
use crate::model::limit::{Attempt, LimitKey, LimitRule};
use crate::storage::horizon::{Counter, count_attempt};
use crate::storage::{Attempts, Result, StoreError};

/// `horizon::count_attempt` where it allows: a refusal writes and returns nothing.
const COUNT: &str =
    "INSERT INTO login_limits AS l (tenant_uid, key_hash, attempts, first_at, last_at, expires_at)
     VALUES ($1, $2, 1, $3, $3, $3 + $4 * interval '1 millisecond')
     ON CONFLICT (tenant_uid, key_hash) DO UPDATE SET
       attempts = CASE WHEN $3 >= l.first_at + $4 * interval '1 millisecond' THEN 1
         ELSE l.attempts + 1 END,
       first_at = CASE WHEN $3 >= l.first_at + $4 * interval '1 millisecond' THEN $3
         ELSE l.first_at END,
       last_at = CASE WHEN $3 >= l.first_at + $4 * interval '1 millisecond' THEN $3
         ELSE greatest($3, l.last_at) END,
       expires_at = $4 * interval '1 millisecond'
         + CASE WHEN $3 >= l.first_at + $4 * interval '1 millisecond' THEN $3 ELSE l.first_at END
     WHERE $3 >= l.first_at + $4 * interval '1 millisecond'
       OR (l.attempts < $5 AND $3 >= l.last_at + interval '1 millisecond' * CASE
         WHEN l.attempts <= $6 THEN 0
         ELSE least($8::float8, $7::float8 * power(2, least(l.attempts - $6 - 1, 60))) END)
     RETURNING attempts";

const FIND: &str = "SELECT attempts, first_at, last_at, expires_at FROM login_limits
     WHERE tenant_uid = $1 AND key_hash = $2";

#[async_trait]
impl Attempts for View {
    async fn attempt(
        &self,
        key: &Digest<LimitKey>,
        rule: &LimitRule,
        now: Timestamp,
    ) -> Result<Attempt> {
        // Between the count that refused and the look at the counter somebody may have been
        // forgiven: then it is counted once more.
        for _ in 0..8 {
            if rule.hard > 0
                && let Some(count) = self.count(key, rule, now).await?
            {
                return Ok(Attempt::Allowed { count });
            }
            let row = self.db().read_one(self.sql(FIND).bind(hash(key))).await?;
            let counter = row.as_ref().map(counter).transpose()?;
            if let (refused @ Attempt::Refused { .. }, _) = count_attempt(counter, rule, now) {
                return Ok(refused);
            }
        }
        Err(StoreError::unavailable("a counter that does not stand still"))
    }

    async fn uncount(&self, key: &Digest<LimitKey>) -> Result<()> {
        let statement = self
            .sql(
                "UPDATE login_limits SET attempts = attempts - 1
                 WHERE tenant_uid = $1 AND key_hash = $2 AND attempts > 0",
            )
            .bind(hash(key));
        self.db().write(statement).await.map(drop)
    }

    async fn forgive(&self, key: &Digest<LimitKey>) -> Result<()> {
        let statement = self
            .sql("DELETE FROM login_limits WHERE tenant_uid = $1 AND key_hash = $2")
            .bind(hash(key));
        self.db().write(statement).await.map(drop)
    }
}

impl View {
    async fn count(
        &self,
        key: &Digest<LimitKey>,
        rule: &LimitRule,
        now: Timestamp,
    ) -> Result<Option<u32>> {
        let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let statement = self
            .sql(COUNT)
            .bind(hash(key))
            .at(now)
            .bind(millis(rule.window))
            .bind(number(rule.hard))
            .bind(number(rule.free))
            .bind(millis(rule.first_delay))
            .bind(millis(rule.max_delay));
        let row = self.db().write_one(statement).await?;
        row.map(|row| count(&row, "attempts")).transpose()
    }
}

fn counter(row: &PgRow) -> Result<Counter> {
    Ok(Counter {
        count: u32::try_from(get::<i32>(row, "attempts")?).unwrap_or_default(),
        first_at: time(row, "first_at")?,
        last_at: time(row, "last_at")?,
        expires_at: time(row, "expires_at")?,
    })
}
