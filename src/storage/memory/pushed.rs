use async_trait::async_trait;

use super::MemoryTenant;
use crate::base::{Digest, Timestamp};
use crate::storage::{PushedRequest, PushedRequests, Result, StoreError, TakePushed};

#[async_trait]
impl PushedRequests for MemoryTenant {
    async fn push_request(
        &self,
        id: &Digest<PushedRequest>,
        payload: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<()> {
        let cap = self.store.0.caps.pushed_requests;
        self.change(|rows, _| {
            if rows.pushed.len() >= cap {
                rows.pushed.retain(|_, (_, expires_at)| now < *expires_at);
            }
            if rows.pushed.len() >= cap {
                return Err(StoreError::unavailable("too many requests are waiting"));
            }
            if rows.pushed.contains_key(id) {
                return Err(StoreError::unavailable("the request's id is taken"));
            }
            rows.pushed.insert(*id, (payload.to_owned(), expires_at));
            Ok(())
        })
    }

    async fn take_request(&self, id: &Digest<PushedRequest>, now: Timestamp) -> Result<TakePushed> {
        Ok(self.change(|rows, _| match rows.pushed.remove(id) {
            Some((payload, expires_at)) if now < expires_at => TakePushed::Taken(payload),
            _ => TakePushed::Unknown,
        }))
    }
}
