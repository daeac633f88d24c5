use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Run, cleanup};
use crate::base::{Clock, Timestamp};
use crate::storage::{Cleaned, Result, Storage};

/// The name of the lease.
const LEASE: &str = "cleanup";

/// How long the lead lasts unless it is renewed, batch by batch.
const LEAD: Duration = Duration::from_secs(50);

/// As much of a store as the worker needs.
#[async_trait]
pub(super) trait Sweeper: Send + Sync {
    /// Takes or keeps the lead until `until`.
    async fn lead(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool>;
    /// One batch.
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<Cleaned>;
}

#[async_trait]
impl Sweeper for Arc<dyn Storage> {
    async fn lead(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool> {
        self.lease(LEASE, holder, now, until).await
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<Cleaned> {
        self.cleanup_expired_data(now, limit, false).await
    }
}

/// Runs what is due, one at a time.
pub(super) struct Worker {
    pub(super) sweeper: Arc<dyn Sweeper>,
    pub(super) batch: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) holder: String,
    pub(super) report: watch::Sender<(u64, Run)>,
    pub(super) stop: CancellationToken,
}

impl Worker {
    pub(super) async fn work(self, mut due: mpsc::Receiver<()>) {
        let mut leads = false;
        while let Some(Some(())) = self.stop.run_until_cancelled(due.recv()).await {
            let run = match self.run().await {
                Ok(run) => run,
                Err(error) => {
                    tracing::warn!(error = %error, "cleanup failed; the next tick tries again");
                    Run::Failed
                }
            };
            leads = matches!(run, Run::Cleaned(_));
            self.report.send_modify(|(runs, last)| {
                *runs += 1;
                *last = run;
            });
        }
        if leads {
            self.step_down().await;
        }
    }

    /// Batches until there is no more to delete, another node leads, or we are to stop.
    async fn run(&self) -> Result<Run> {
        let mut all = Cleaned::default();
        loop {
            let now = self.clock.now();
            if !self.sweeper.lead(&self.holder, now, now.plus(LEAD)).await? {
                tracing::debug!("another node cleans up");
                return Ok(Run::NotLeader);
            }
            let cleaned = self.sweeper.sweep(now, self.batch).await?;
            let more = cleaned.more;
            cleanup::add(&mut all, cleaned);
            if !more || self.stop.is_cancelled() {
                log(&all);
                return Ok(Run::Cleaned(all));
            }
        }
    }

    /// Leaves the lead to whoever asks next.
    async fn step_down(&self) {
        let now = self.clock.now();
        if let Err(error) = self.sweeper.lead(&self.holder, now, now).await {
            tracing::debug!(error = %error, "the lease runs out by itself");
        }
    }
}

fn log(all: &Cleaned) {
    let deleted = all.counts.iter().filter(|(_, count)| *count > 0);
    let by_kind: Vec<String> =
        deleted.map(|(kind, count)| format!("{}={count}", kind.as_str())).collect();
    if by_kind.is_empty() {
        tracing::debug!("nothing to clean up");
    } else {
        let (deleted, more) = (all.total(), all.more);
        tracing::info!(deleted, more, kinds = %by_kind.join(" "), "cleaned up expired data");
    }
}
