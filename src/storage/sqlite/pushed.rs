use async_trait::async_trait;

use super::row::Columns;
use super::{SqliteTenant, sql};
use crate::base::{Digest, Timestamp};
use crate::storage::{PushedRequest, PushedRequests, Result, TakePushed};

#[async_trait]
impl PushedRequests for SqliteTenant {
    async fn push_request(
        &self,
        id: &Digest<PushedRequest>,
        payload: &str,
        expires_at: Timestamp,
        _now: Timestamp,
    ) -> Result<()> {
        let push = sql!(
            "INSERT INTO par_requests (tenant_uid, request_hash, payload, expires_at)
             VALUES (?1, ?2, ?3, ?4)",
            &self.tenant,
            id,
            payload,
            expires_at,
        );
        self.store.write(move |tx| Box::pin(async move { tx.run(push).await.map(drop) })).await
    }

    async fn take_request(&self, id: &Digest<PushedRequest>, now: Timestamp) -> Result<TakePushed> {
        let take = sql!(
            "DELETE FROM par_requests WHERE tenant_uid = ?1 AND request_hash = ?2
             RETURNING payload, expires_at",
            &self.tenant,
            id,
        );
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let Some(row) = tx.row(take).await? else { return Ok(TakePushed::Unknown) };
                    if row.time("expires_at")? <= now {
                        return Ok(TakePushed::Unknown);
                    }
                    Ok(TakePushed::Taken(row.get("payload")?))
                })
            })
            .await
    }
}
