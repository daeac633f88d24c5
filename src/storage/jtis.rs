use async_trait::async_trait;

use super::Result;
use crate::base::Timestamp;

/// Identifiers that may be used once: of client assertions, proofs, pushed requests.
#[async_trait]
pub trait Jtis: Send + Sync {
    /// Remembers `jti` for `purpose` until `expires_at`; one winner among any number of callers.
    async fn remember_jti(
        &self,
        purpose: &str,
        jti: &[u8; 32],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<RememberJti>;
}

/// The outcome of [`Jtis::remember_jti`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RememberJti {
    /// Never seen before.
    Fresh,
    /// Seen, and not yet forgotten.
    Replayed,
}
