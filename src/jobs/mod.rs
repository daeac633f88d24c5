//! What happens by the clock: the cleanup of expired data.
//!
//! The cron scheduler is only a clock here. It neither prevents a job from running twice at once nor
//! waits for it at shutdown, so its tick does nothing but put a word into a channel of one place,
//! from which a worker of our own takes it: runs never overlap, ticks during a run come to one run
//! after it, and [`Jobs::stop`] returns when the worker has. Among nodes one leads, by a lease in
//! the store; the others' runs end at once.
//!
//! What may be deleted, and in which order, is the store's to know (`storage/cleanup.rs`).

pub mod cleanup;
pub mod schedule;
mod worker;

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::base::{Clock, Entropy};
use crate::config::settings;
use crate::storage::{Cleaned, Storage};
use schedule::InvalidSchedule;
use worker::{Sweeper, Worker};

/// How the last run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// None was due yet.
    Never,
    /// This node led, and this is what it deleted.
    Cleaned(Cleaned),
    /// Another node leads.
    NotLeader,
    /// The store could not answer; the next tick tries again.
    Failed,
}

/// Why jobs could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// `jobs.cleanup` is no schedule.
    #[error("jobs.cleanup: {0}")]
    Schedule(#[from] InvalidSchedule),
    /// The scheduler did not start.
    #[error("the job scheduler did not start: {0}")]
    Scheduler(#[from] JobSchedulerError),
}

/// The jobs of this node, running until [`stop`](Self::stop).
pub struct Jobs {
    clock: Option<JobScheduler>,
    wake: mpsc::Sender<()>,
    runs: watch::Receiver<(u64, Run)>,
    stop: CancellationToken,
    worker: JoinHandle<()>,
}

/// Starts the jobs that `settings` asks for.
pub async fn start(
    store: Arc<dyn Storage>,
    settings: &settings::Jobs,
    clock: Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Result<Jobs, StartError> {
    let mut jobs = Jobs::idle(store, settings.cleanup_batch, Arc::clone(&clock), entropy);
    if let Some(cron) = &settings.cleanup {
        let next = schedule::validate(cron, clock.now())?;
        jobs.clock = Some(tick(cron, jobs.wake.clone()).await?);
        tracing::info!(schedule = %cron, next = %next, "cleanup is scheduled");
    }
    Ok(jobs)
}

/// A clock that does nothing but say that it is time.
async fn tick(cron: &str, wake: mpsc::Sender<()>) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    let job = Job::new(schedule::with_seconds(cron), move |_, _| {
        // A place that is taken means that a run is due already.
        let _ = wake.try_send(());
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

impl Jobs {
    /// Jobs that no clock wakes: only [`wake`](Self::wake) does.
    pub fn idle(
        store: Arc<dyn Storage>,
        batch: u32,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> Self {
        Self::with(Arc::new(store), batch, clock, entropy.uuid().to_string())
    }

    fn with(sweeper: Arc<dyn Sweeper>, batch: u32, clock: Arc<dyn Clock>, holder: String) -> Self {
        let (wake, due) = mpsc::channel(1);
        let (report, runs) = watch::channel((0, Run::Never));
        let stop = CancellationToken::new();
        let worker = Worker { sweeper, batch, clock, holder, report, stop: stop.clone() };
        Self { clock: None, wake, runs, stop, worker: tokio::spawn(worker.work(due)) }
    }

    /// Asks for a run now; false when one is due already.
    pub fn wake(&self) -> bool {
        self.wake.try_send(()).is_ok()
    }

    /// How many runs there were, and how the last one ended.
    pub fn runs(&self) -> watch::Receiver<(u64, Run)> {
        self.runs.clone()
    }

    /// Stops the clock, and returns when the batch that is under way is done.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(mut clock) = self.clock.take()
            && let Err(error) = clock.shutdown().await
        {
            tracing::warn!(error = %error, "the job scheduler did not stop");
        }
        if let Err(error) = self.worker.await {
            tracing::error!(error = %error, "the job worker ended early");
        }
    }
}

#[cfg(test)]
mod tests;
