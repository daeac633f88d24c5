use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::base::{Clock, Timestamp};
use crate::storage::Storage;

const SAMPLE: Duration = Duration::from_secs(10);
/// A node further away than this must not serve: windows are seconds long.
const MAX_SKEW: i64 = 2_000;

/// A clock that follows the database's, so that nodes that share one agree what time it is. Sampled
/// off the request's path; it never goes back.
pub struct DisciplinedClock {
    own: Arc<dyn Clock>,
    offset: AtomicI64,
    latest: AtomicI64,
}

impl DisciplinedClock {
    /// A clock that goes by `own` until the first sample.
    pub fn new(own: Arc<dyn Clock>) -> Self {
        Self { own, offset: AtomicI64::new(0), latest: AtomicI64::new(i64::MIN) }
    }

    /// Whether this node's own clock is near enough to the database's.
    pub fn is_near(&self) -> bool {
        self.offset.load(Ordering::Relaxed).abs() <= MAX_SKEW
    }

    /// Asks the database once, if it has a time to follow.
    pub async fn sample(&self, store: &dyn Storage) {
        let before = self.own.now();
        match store.clock().await {
            Ok(Some(theirs)) => self.set(before, theirs, self.own.now()),
            Ok(None) => {}
            Err(error) => warn!(%error, "cannot ask the database what time it is"),
        }
    }

    /// Takes a sample: `theirs` was read somewhere between `before` and `after`.
    fn set(&self, before: Timestamp, theirs: Timestamp, after: Timestamp) {
        let ours = before.millis().midpoint(after.millis());
        let offset = theirs.millis() - ours;
        let was_near = self.is_near();
        self.offset.store(offset, Ordering::Relaxed);
        match (was_near, self.is_near()) {
            (true, false) => error!(
                offset_ms = offset,
                "this node's clock is more than 2 s away from the database's: not ready until it \
                 is mended (is NTP running?)"
            ),
            (false, true) => info!(offset_ms = offset, "this node's clock is near again"),
            _ => {}
        }
    }

    /// Samples every 10 s until `stop`.
    pub async fn run(self: Arc<Self>, store: Arc<dyn Storage>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SAMPLE) => self.sample(&*store).await,
            }
        }
    }
}

impl Clock for DisciplinedClock {
    fn now(&self) -> Timestamp {
        let now = self.own.now().millis().saturating_add(self.offset.load(Ordering::Relaxed));
        Timestamp::from_millis(self.latest.fetch_max(now, Ordering::Relaxed).max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ManualClock;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn it_follows_the_database_and_never_goes_back() {
        let own = ManualClock::at(at(100_000));
        let clock = DisciplinedClock::new(Arc::new(own.clone()));
        clock.set(at(100_000), at(101_510), at(100_020));
        assert_eq!(clock.now(), at(101_500));
        clock.set(at(100_000), at(100_000), at(100_000));
        assert_eq!(clock.now(), at(101_500));
        own.advance(Duration::from_secs(2));
        assert_eq!(clock.now(), at(102_000));
    }

    #[test]
    fn a_node_more_than_two_seconds_away_is_not_near() {
        let clock = DisciplinedClock::new(Arc::new(ManualClock::at(at(0))));
        clock.set(at(0), at(2_000), at(0));
        assert!(clock.is_near());
        clock.set(at(0), at(-2_001), at(0));
        assert!(!clock.is_near());
    }
}
