use async_trait::async_trait;

use super::View;
use crate::base::Timestamp;
use crate::storage::{Jtis, RememberJti, Result};

/// A forgotten identifier whose row still stands is as good as new.
const REMEMBER: &str =
    "INSERT INTO jti_replay (tenant_uid, purpose, jti, expires_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT (tenant_uid, purpose, jti) DO UPDATE SET expires_at = excluded.expires_at
       WHERE jti_replay.expires_at <= $5
     RETURNING 1";

#[async_trait]
impl Jtis for View {
    async fn remember_jti(
        &self,
        purpose: &str,
        jti: &[u8; 32],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<RememberJti> {
        let statement =
            self.sql(REMEMBER).bind(purpose).bind(jti.as_slice()).at(expires_at).at(now);
        Ok(match self.db().write_one(statement).await? {
            Some(_) => RememberJti::Fresh,
            None => RememberJti::Replayed,
        })
    }
}
