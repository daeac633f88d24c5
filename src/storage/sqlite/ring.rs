use async_trait::async_trait;

use super::row::Columns;
use super::{Sqlite, sql};
use crate::base::Timestamp;
use crate::storage::{Result, RingCheck, RingChecks};

#[async_trait]
impl RingChecks for Sqlite {
    async fn check_ring_key(&self, id: u8, check: &[u8; 32], now: Timestamp) -> Result<RingCheck> {
        let check = *check;
        self.write(move |tx| {
            Box::pin(async move {
                let add = sql!(
                    "INSERT INTO ring_keys (id, check_value, created_at) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO NOTHING",
                    id,
                    &check,
                    now,
                );
                if tx.run(add).await? == 1 {
                    return Ok(RingCheck::Recorded);
                }
                let known = tx.row(sql!("SELECT check_value FROM ring_keys WHERE id = ?1", id));
                let same =
                    known.await?.is_some_and(|row| row.bytes("check_value").ok() == Some(check));
                Ok(if same { RingCheck::Matches } else { RingCheck::Mismatch })
            })
        })
        .await
    }

    async fn known_ring_keys(&self) -> Result<Vec<u8>> {
        let rows = self.rows(sql!("SELECT id FROM ring_keys ORDER BY id")).await?;
        rows.iter().map(|row| row.number("id")).collect()
    }
}
