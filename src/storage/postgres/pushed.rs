use async_trait::async_trait;

use super::View;
use super::db::{get, time};
use super::rows::hash;
use crate::base::{Digest, Timestamp};
use crate::storage::{PushedRequest, PushedRequests, Result, TakePushed};

#[async_trait]
impl PushedRequests for View {
    async fn push_request(
        &self,
        id: &Digest<PushedRequest>,
        payload: &str,
        expires_at: Timestamp,
        _now: Timestamp,
    ) -> Result<()> {
        let statement = self
            .sql(
                "INSERT INTO par_requests (tenant_uid, request_hash, payload, expires_at)
                 VALUES ($1, $2, $3, $4)",
            )
            .bind(hash(id))
            .bind(payload)
            .at(expires_at);
        self.db().write(statement).await.map(drop)
    }

    async fn take_request(&self, id: &Digest<PushedRequest>, now: Timestamp) -> Result<TakePushed> {
        let statement = self
            .sql(
                "DELETE FROM par_requests WHERE tenant_uid = $1 AND request_hash = $2
                 RETURNING payload, expires_at",
            )
            .bind(hash(id));
        match self.db().write_one(statement).await? {
            Some(row) if now < time(&row, "expires_at")? => {
                Ok(TakePushed::Taken(get(&row, "payload")?))
            }
            _ => Ok(TakePushed::Unknown),
        }
    }
}
