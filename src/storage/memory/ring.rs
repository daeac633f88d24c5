use std::collections::btree_map::Entry;

use async_trait::async_trait;

use super::Memory;
use crate::base::Timestamp;
use crate::storage::{Result, RingCheck, RingChecks};

#[async_trait]
impl RingChecks for Memory {
    async fn check_ring_key(&self, id: u8, check: &[u8; 32], _now: Timestamp) -> Result<RingCheck> {
        Ok(match self.lock().ring.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert(*check);
                RingCheck::Recorded
            }
            Entry::Occupied(entry) if entry.get() == check => RingCheck::Matches,
            Entry::Occupied(_) => RingCheck::Mismatch,
        })
    }

    async fn known_ring_keys(&self) -> Result<Vec<u8>> {
        Ok(self.lock().ring.keys().copied().collect())
    }
}
