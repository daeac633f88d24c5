use std::collections::btree_map::Entry;

use async_trait::async_trait;

use super::Memory;
use crate::base::Timestamp;
use crate::storage::{KnownPepper, PepperCheck, Peppers, Result};

#[async_trait]
impl Peppers for Memory {
    async fn check_pepper(&self, id: u8, check: &[u8; 32], _now: Timestamp) -> Result<PepperCheck> {
        Ok(match self.lock().peppers.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert((*check, None));
                PepperCheck::Recorded
            }
            Entry::Occupied(entry) => match entry.get() {
                (known, _) if known != check => PepperCheck::Mismatch,
                (_, Some(_)) => PepperCheck::Retired,
                (_, None) => PepperCheck::Matches,
            },
        })
    }

    async fn known_peppers(&self) -> Result<Vec<KnownPepper>> {
        let state = self.lock();
        let known = state.peppers.iter();
        Ok(known
            .map(|(id, (_, retired_at))| KnownPepper { id: *id, retired_at: *retired_at })
            .collect())
    }

    async fn retire_pepper(&self, id: u8, now: Timestamp) -> Result<bool> {
        let known = match self.lock().peppers.get_mut(&id) {
            Some((_, retired_at)) => {
                retired_at.get_or_insert(now);
                true
            }
            None => false,
        };
        if known {
            self.0.watch.hint();
        }
        Ok(known)
    }
}
