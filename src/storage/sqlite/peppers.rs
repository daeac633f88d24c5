use async_trait::async_trait;

use super::row::Columns;
use super::{Sqlite, sql};
use crate::base::Timestamp;
use crate::storage::{KnownPepper, PepperCheck, Peppers, Result};

#[async_trait]
impl Peppers for Sqlite {
    async fn check_pepper(&self, id: u8, check: &[u8; 32], now: Timestamp) -> Result<PepperCheck> {
        let check = *check;
        self.write(move |tx| {
            Box::pin(async move {
                let find = "SELECT check_value, retired_at FROM api_key_peppers WHERE id = ?1";
                let Some(known) = tx.row(sql!(find, id)).await? else {
                    tx.run(sql!(
                        "INSERT INTO api_key_peppers (id, check_value, created_at) VALUES (?1, ?2, ?3)",
                        id,
                        &check,
                        now,
                    ))
                    .await?;
                    return Ok(PepperCheck::Recorded);
                };
                Ok(match known.time_opt("retired_at")? {
                    _ if known.bytes("check_value").ok() != Some(check) => PepperCheck::Mismatch,
                    Some(_) => PepperCheck::Retired,
                    None => PepperCheck::Matches,
                })
            })
        })
        .await
    }

    async fn known_peppers(&self) -> Result<Vec<KnownPepper>> {
        let rows =
            self.rows(sql!("SELECT id, retired_at FROM api_key_peppers ORDER BY id")).await?;
        let known = rows.iter().map(|row| {
            Ok(KnownPepper { id: row.number("id")?, retired_at: row.time_opt("retired_at")? })
        });
        known.collect()
    }

    async fn retire_pepper(&self, id: u8, now: Timestamp) -> Result<bool> {
        let retire = sql!(
            "UPDATE api_key_peppers SET retired_at = coalesce(retired_at, ?2) WHERE id = ?1",
            id,
            now,
        );
        self.write(move |tx| {
            Box::pin(async move {
                tx.hint();
                Ok(tx.run(retire).await? == 1)
            })
        })
        .await
    }
}
