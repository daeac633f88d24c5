use async_trait::async_trait;

use super::Postgres;
use super::db::{get, sql, time_if, unreadable};
use crate::base::Timestamp;
use crate::storage::{KnownPepper, PepperCheck, Peppers, Result, StoreError};

#[async_trait]
impl Peppers for Postgres {
    async fn check_pepper(&self, id: u8, check: &[u8; 32], now: Timestamp) -> Result<PepperCheck> {
        let record = sql("INSERT INTO api_key_peppers (id, check_value, created_at)
             VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING RETURNING 1")
        .bind(i16::from(id))
        .bind(check.as_slice())
        .at(now);
        if self.0.db.write_one(record).await?.is_some() {
            return Ok(PepperCheck::Recorded);
        }
        let known = sql("SELECT check_value, retired_at FROM api_key_peppers WHERE id = $1");
        let row = self.0.db.read_one(known.bind(i16::from(id))).await?;
        let row = row.ok_or_else(|| StoreError::unavailable("a pepper vanished"))?;
        Ok(match time_if(&row, "retired_at")? {
            _ if get::<&[u8]>(&row, "check_value")? != check.as_slice() => PepperCheck::Mismatch,
            Some(_) => PepperCheck::Retired,
            None => PepperCheck::Matches,
        })
    }

    async fn known_peppers(&self) -> Result<Vec<KnownPepper>> {
        let all = sql("SELECT id, retired_at FROM api_key_peppers ORDER BY id");
        let rows = self.0.db.read(all).await?;
        let known = rows.iter().map(|row| {
            let id = u8::try_from(get::<i16>(row, "id")?).map_err(|_| unreadable("pepper"))?;
            Ok(KnownPepper { id, retired_at: time_if(row, "retired_at")? })
        });
        known.collect()
    }

    async fn retire_pepper(&self, id: u8, now: Timestamp) -> Result<bool> {
        let retire = sql("UPDATE api_key_peppers SET retired_at = coalesce(retired_at, $2)
             WHERE id = $1 RETURNING 1");
        let known = self.0.db.write_one(retire.bind(i16::from(id)).at(now)).await?.is_some();
        if known {
            self.0.changed();
        }
        Ok(known)
    }
}
