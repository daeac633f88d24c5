use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::error::unavailable;
use super::file::connect_options;
use crate::storage::{Result, Watch};

/// Looks, on a connection of its own, whether anyone committed anything: `PRAGMA data_version`
/// changes with every commit by another connection, in this process or in another.
pub(super) struct Poller {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Poller {
    pub(super) async fn start(path: &Path, every: Duration, watch: Watch) -> Result<Self> {
        let options = connect_options(path).pragma("query_only", "on");
        let connection = options.connect().await.map_err(unavailable)?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(poll(connection, every, watch, stop.clone()));
        Ok(Self { stop, task: Mutex::new(Some(task)) })
    }

    pub(super) async fn stop(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn poll(
    mut connection: SqliteConnection,
    every: Duration,
    watch: Watch,
    stop: CancellationToken,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let version: sqlx::Result<i64> =
            sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut connection).await;
        match version {
            Ok(version) => {
                watch.set_listening(true);
                if last.replace(version).is_some_and(|seen| seen != version) {
                    watch.hint();
                }
            }
            Err(error) => {
                watch.set_listening(false);
                tracing::debug!(error = %error, "could not look for changes");
            }
        }
    }
    let _ = connection.close().await;
}
