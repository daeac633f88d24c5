use async_trait::async_trait;

use super::{SqliteTenant, sql};
use crate::base::Timestamp;
use crate::storage::{Jtis, RememberJti, Result};

#[async_trait]
impl Jtis for SqliteTenant {
    async fn remember_jti(
        &self,
        purpose: &str,
        jti: &[u8; 32],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<RememberJti> {
        let remember =
            sql!(
            "INSERT INTO jti_replay (tenant_uid, purpose, jti, expires_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET expires_at = excluded.expires_at
             WHERE jti_replay.expires_at <= ?5",
            &self.tenant, purpose, jti, expires_at, now,
        );
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let fresh = tx.run(remember).await? == 1;
                    Ok(if fresh { RememberJti::Fresh } else { RememberJti::Replayed })
                })
            })
            .await
    }
}
