use async_trait::async_trait;

use super::Postgres;
use super::db::{get, sql, unreadable};
use crate::base::Timestamp;
use crate::storage::{Result, RingCheck, RingChecks, StoreError};

#[async_trait]
impl RingChecks for Postgres {
    async fn check_ring_key(&self, id: u8, check: &[u8; 32], now: Timestamp) -> Result<RingCheck> {
        let record = sql("INSERT INTO ring_keys (id, check_value, created_at) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO NOTHING RETURNING 1")
        .bind(i16::from(id))
        .bind(check.as_slice())
        .at(now);
        if self.0.db.write_one(record).await?.is_some() {
            return Ok(RingCheck::Recorded);
        }
        let known = sql("SELECT check_value FROM ring_keys WHERE id = $1").bind(i16::from(id));
        let row = self.0.db.read_one(known).await?;
        let row = row.ok_or_else(|| StoreError::unavailable("a ring key vanished"))?;
        let same = get::<&[u8]>(&row, "check_value")? == check.as_slice();
        Ok(if same { RingCheck::Matches } else { RingCheck::Mismatch })
    }

    async fn known_ring_keys(&self) -> Result<Vec<u8>> {
        let rows = self.0.db.read(sql("SELECT id FROM ring_keys ORDER BY id")).await?;
        rows.iter()
            .map(|row| u8::try_from(get::<i16>(row, "id")?).map_err(|_| unreadable("ring key")))
            .collect()
    }
}
