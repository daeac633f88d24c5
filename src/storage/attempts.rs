use async_trait::async_trait;

use super::Result;
use crate::base::{Digest, Timestamp};
use crate::model::limit::{Attempt, LimitKey, LimitRule};

/// Shared counters: sign-ins per account and address, guesses at secrets.
#[async_trait]
pub trait Attempts: Send + Sync {
    /// Counts an attempt under `key` before it is evaluated, or refuses it uncounted. Atomic: of any
    /// number of callers at once, no more are allowed than the rule says. The window begins with
    /// the first attempt; delays count from the last allowed one; times never move backwards.
    async fn attempt(
        &self,
        key: &Digest<LimitKey>,
        rule: &LimitRule,
        now: Timestamp,
    ) -> Result<Attempt>;

    /// Takes one counted attempt back: it turned out to be none. The others stay counted, and the
    /// window stays as it is.
    async fn uncount(&self, key: &Digest<LimitKey>) -> Result<()>;

    /// Forgets what was counted: the attempt succeeded.
    async fn forgive(&self, key: &Digest<LimitKey>) -> Result<()>;
}
