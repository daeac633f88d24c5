use async_trait::async_trait;

use super::Result;
use crate::base::Timestamp;

/// Check values of the key ring's keys: a node with another secret under a known id must not start.
#[async_trait]
pub trait RingChecks: Send + Sync {
    /// Records the check value of ring key `id` if none is recorded, and says what is there.
    async fn check_ring_key(&self, id: u8, check: &[u8; 32], now: Timestamp) -> Result<RingCheck>;

    /// The ids that storage knows.
    async fn known_ring_keys(&self) -> Result<Vec<u8>>;
}

/// The outcome of [`RingChecks::check_ring_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RingCheck {
    /// Recorded now.
    Recorded,
    /// The same as recorded.
    Matches,
    /// Another secret was recorded under this id.
    Mismatch,
}
