use async_trait::async_trait;

use super::Result;
use crate::base::{Digest, Timestamp};

/// Marks the digest of a one-time request id.
#[derive(Debug)]
pub enum PushedRequest {}

/// Authorization requests kept under a one-time id: a cross-site POST on its way to the same
/// endpoint by GET, which carries the cookies.
#[async_trait]
pub trait PushedRequests: Send + Sync {
    /// Keeps `payload` until `expires_at`. Where room is bounded, what has expired by `now` makes
    /// room; past that the answer is `Unavailable`.
    async fn push_request(
        &self,
        id: &Digest<PushedRequest>,
        payload: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<()>;

    /// Takes it: one winner among any number of callers.
    async fn take_request(&self, id: &Digest<PushedRequest>, now: Timestamp) -> Result<TakePushed>;
}

/// The outcome of [`PushedRequests::take_request`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum TakePushed {
    /// The payload; it is gone now.
    Taken(String),
    /// Unknown, taken or expired.
    Unknown,
}
