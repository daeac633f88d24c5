//! Limits that each key brings along: so many times in so long.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use super::{MAX_KEYS, TooOften};
use crate::base::Timestamp;
use crate::model::TenantUid;

/// Counters of this process, each with a limit of its own: a whole window's worth at once, and then
/// as it trickles back (GCRA). A key that is forgotten for lack of room begins anew.
pub struct Windows {
    /// For each key the time, in microseconds, at which it would have all of its window again.
    full_at: Cache<u64, Arc<AtomicI64>>,
    hasher: RandomState,
}

impl Default for Windows {
    fn default() -> Self {
        Self { full_at: Cache::new(MAX_KEYS as u64), hasher: RandomState::new() }
    }
}

impl Windows {
    /// Counts one more by `key`, which may come `limit` times in `window`, or says when to come back.
    pub fn check(
        &self,
        tenant: &TenantUid,
        key: u128,
        (limit, window): (u32, Duration),
        now: Timestamp,
    ) -> Result<(), TooOften> {
        let cell =
            self.full_at.get_with(self.hasher.hash_one((tenant.as_str(), key)), Arc::default);
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX / 4);
        let cost = (window / i64::from(limit.max(1))).max(1);
        let now = now.millis().saturating_mul(1_000);
        let taken = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = full_at.max(now).saturating_add(cost);
            (next.saturating_sub(now) <= window).then_some(next)
        });
        taken.map(|_| ()).map_err(|full_at| {
            let wait = full_at.saturating_add(cost).saturating_sub(now).saturating_sub(window);
            TooOften { retry_after: Duration::from_micros(wait.max(1).unsigned_abs()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_used_up_at_once_and_trickles_back() {
        let (windows, acme) = (Windows::default(), TenantUid::stored("acme"));
        let begin = Timestamp::from_seconds(1_800_000_000);
        let check = |key, seconds| {
            let now = begin.plus(Duration::from_secs(seconds));
            windows.check(&acme, key, (3, Duration::from_mins(1)), now)
        };
        for _ in 0..3 {
            assert_eq!(check(1, 0), Ok(()));
        }
        assert_eq!(check(1, 0), Err(TooOften { retry_after: Duration::from_secs(20) }));
        assert_eq!(check(1, 15), Err(TooOften { retry_after: Duration::from_secs(5) }));
        assert_eq!(check(2, 0), Ok(()));
        assert_eq!(
            windows.check(&TenantUid::stored("other"), 1, (3, Duration::from_mins(1)), begin),
            Ok(())
        );
        assert_eq!(check(1, 20), Ok(()));
        assert!(check(1, 20).is_err());
        assert_eq!((0..9).filter(|_| check(1, 3_600).is_ok()).count(), 3);
    }
}
