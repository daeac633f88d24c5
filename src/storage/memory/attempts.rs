use async_trait::async_trait;

use super::MemoryTenant;
use crate::base::{Digest, Timestamp};
use crate::model::limit::{Attempt, LimitKey, LimitRule};
use crate::storage::{Attempts, Result, StoreError, horizon};

#[async_trait]
impl Attempts for MemoryTenant {
    async fn attempt(
        &self,
        key: &Digest<LimitKey>,
        rule: &LimitRule,
        now: Timestamp,
    ) -> Result<Attempt> {
        let cap = self.store.0.caps.attempts;
        self.change(|rows, _| {
            let counter = rows.attempts.get(key).copied();
            if counter.is_none() && rows.attempts.len() >= cap {
                return Err(StoreError::unavailable("too many counters"));
            }
            let (attempt, counted) = horizon::count_attempt(counter, rule, now);
            if let Some(counter) = counted {
                rows.attempts.insert(*key, counter);
            }
            Ok(attempt)
        })
    }

    async fn uncount(&self, key: &Digest<LimitKey>) -> Result<()> {
        self.change(|rows, _| {
            if let Some(counter) = rows.attempts.get_mut(key) {
                counter.count = counter.count.saturating_sub(1);
            }
        });
        Ok(())
    }

    async fn forgive(&self, key: &Digest<LimitKey>) -> Result<()> {
        self.change(|rows, _| rows.attempts.remove(key));
        Ok(())
    }
}
