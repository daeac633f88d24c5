use async_trait::async_trait;

use super::MemoryTenant;
use crate::base::Timestamp;
use crate::storage::{Jtis, RememberJti, Result, StoreError};

#[async_trait]
impl Jtis for MemoryTenant {
    async fn remember_jti(
        &self,
        purpose: &str,
        jti: &[u8; 32],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<RememberJti> {
        let cap = self.store.0.caps.jtis;
        let key = (purpose.to_owned(), *jti);
        self.change(|rows, _| {
            if rows.jtis.get(&key).is_some_and(|until| now < *until) {
                return Ok(RememberJti::Replayed);
            }
            if rows.jtis.len() >= cap {
                return Err(StoreError::unavailable("too many identifiers to remember"));
            }
            rows.jtis.insert(key, expires_at);
            Ok(RememberJti::Fresh)
        })
    }
}
