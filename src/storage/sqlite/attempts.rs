use async_trait::async_trait;

use super::row::Columns;
use super::{SqliteTenant, sql};
use crate::base::{Digest, Timestamp};
use crate::model::limit::{Attempt, LimitKey, LimitRule};
use crate::storage::horizon::{Counter, count_attempt};
use crate::storage::{Attempts, Result};

#[async_trait]
impl Attempts for SqliteTenant {
    async fn attempt(
        &self,
        key: &Digest<LimitKey>,
        rule: &LimitRule,
        now: Timestamp,
    ) -> Result<Attempt> {
        let (tenant, key, rule) = (self.tenant.clone(), *key, *rule);
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let counter = tx.row(sql!(
                        "SELECT attempts, first_at, last_at, expires_at FROM login_limits
                     WHERE tenant_uid = ?1 AND key_hash = ?2",
                        &tenant,
                        &key,
                    ));
                    let counter = match counter.await? {
                        Some(row) => Some(Counter {
                            count: row.number("attempts")?,
                            first_at: row.time("first_at")?,
                            last_at: row.time("last_at")?,
                            expires_at: row.time("expires_at")?,
                        }),
                        None => None,
                    };
                    let (answer, counted) = count_attempt(counter, &rule, now);
                    if let Some(counted) = counted {
                        tx.run(sql!(
                            "INSERT OR REPLACE INTO login_limits
                           (tenant_uid, key_hash, attempts, first_at, last_at, expires_at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                            &tenant,
                            &key,
                            counted.count,
                            counted.first_at,
                            counted.last_at,
                            counted.expires_at,
                        ))
                        .await?;
                    }
                    Ok(answer)
                })
            })
            .await
    }

    async fn uncount(&self, key: &Digest<LimitKey>) -> Result<()> {
        let less = sql!(
            "UPDATE login_limits SET attempts = attempts - 1
             WHERE tenant_uid = ?1 AND key_hash = ?2 AND attempts > 0",
            &self.tenant,
            key,
        );
        self.store.write(move |tx| Box::pin(async move { tx.run(less).await.map(drop) })).await
    }

    async fn forgive(&self, key: &Digest<LimitKey>) -> Result<()> {
        let forget = sql!(
            "DELETE FROM login_limits WHERE tenant_uid = ?1 AND key_hash = ?2",
            &self.tenant,
            key,
        );
        self.store.write(move |tx| Box::pin(async move { tx.run(forget).await.map(drop) })).await
    }
}
