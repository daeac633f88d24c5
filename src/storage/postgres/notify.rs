//! Hints to other nodes. `NOTIFY` takes a lock of the whole cluster at commit, so it is sent by a
//! task of its own, after the fact and at most every 50 ms; what it says is only "look".

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::Shared;
use super::db::sql;

const CHANNEL: &str = "pmp_auth";
const COALESCE: Duration = Duration::from_millis(50);
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The two tasks: one sends, one listens.
#[derive(Default)]
pub(super) struct Notifier {
    wake: Arc<Notify>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Notifier {
    /// Starts both; they end with the store.
    pub(super) fn start(&self, shared: &Arc<Shared>, listen: PgConnectOptions) {
        let sender = tokio::spawn(send(Arc::downgrade(shared), Arc::clone(&self.wake)));
        let listener = tokio::spawn(listen_for_ever(Arc::downgrade(shared), listen));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.extend([sender.abort_handle(), listener.abort_handle()]);
    }

    /// Something was committed that other nodes should look at.
    pub(super) fn poke(&self) {
        self.wake.notify_one();
    }

    /// Ends both tasks.
    pub(super) fn stop(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn send(shared: Weak<Shared>, wake: Arc<Notify>) {
    loop {
        wake.notified().await;
        let Some(shared) = shared.upgrade() else { return };
        // Lost, it costs the others the rest of their polling interval.
        let _ = shared.db.notify(sql("SELECT pg_notify($1, '')").bind(CHANNEL)).await;
        drop(shared);
        sleep(COALESCE).await;
    }
}

async fn listen_for_ever(shared: Weak<Shared>, options: PgConnectOptions) {
    let hint = || shared.upgrade().map(|shared| shared.watch.hint());
    let listening = |does| {
        if let Some(shared) = shared.upgrade() {
            shared.watch.set_listening(does);
        }
    };
    loop {
        if let Ok(mut listener) = connect(&options).await {
            listening(true);
            // What was sent while nobody listened is lost: look.
            if hint().is_none() {
                return;
            }
            // `Ok(None)` is a lost connection that will be made anew.
            while listener.try_recv().await.is_ok() {
                if hint().is_none() {
                    return;
                }
            }
        }
        listening(false);
        sleep(LISTEN_AGAIN).await;
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(options.clone().application_name("pmp-auth-listen"))
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(true);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
