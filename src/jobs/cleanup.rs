//! `cleanup_expired_data` in a loop: what the schedule and `pmp-auth cleanup` both call.

use crate::base::{Clock, Timestamp};
use crate::storage::{Cleaned, Result, Storage};

/// Deletes everything that nothing needs any more, `batch` rows of each kind at a time.
pub async fn run(store: &dyn Storage, clock: &dyn Clock, batch: u32) -> Result<Cleaned> {
    let mut all = Cleaned::default();
    loop {
        let cleaned = store.cleanup_expired_data(clock.now(), batch, false).await?;
        let more = cleaned.more;
        add(&mut all, cleaned);
        if !more {
            return Ok(all);
        }
    }
}

/// Counts what [`run`] would delete at `now`.
pub async fn dry_run(store: &dyn Storage, now: Timestamp) -> Result<Cleaned> {
    store.cleanup_expired_data(now, u32::MAX, true).await
}

/// Adds up what several batches deleted.
pub(super) fn add(all: &mut Cleaned, batch: Cleaned) {
    all.at = batch.at;
    all.more = batch.more;
    for (kind, count) in batch.counts {
        match all.counts.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => *sum += count,
            None => all.counts.push((kind, count)),
        }
    }
}
