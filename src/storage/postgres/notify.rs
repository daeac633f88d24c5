//! Hints to other nodes. `NOTIFY` takes a lock of the whole cluster at commit, so it is sent by a
//! task of its own, after the fact and at most every 50 ms. What it says is only "look": at what
//! was changed, or, on a channel of its own, at devices that were decided about.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::db::sql;
use crate::base::{Digest, base64url};
use crate::model::device::DeviceCode;
use crate::storage::Watch;

const CHANNEL: &str = "pmp_auth";
const DEVICES: &str = "pmp_auth_devices";
const COALESCE: Duration = Duration::from_millis(50);
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// A connection on which nothing was heard for so long is asked whether it lives: one that was lost
/// on the way says nothing, ever.
const DOUBT_AFTER: Duration = Duration::from_secs(5);
/// How long it has for the answer.
const PING: Duration = Duration::from_secs(2);

/// So many digests go into one payload, of which a server takes less than 8,000 bytes.
const DIGESTS: usize = 180;
/// More decisions than that are not told one by one.
const MANY: usize = 10 * DIGESTS;

/// The two tasks: one sends, one listens.
#[derive(Default)]
pub(super) struct Notifier {
    queue: Arc<Queue>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What is to be sent next.
#[derive(Default)]
struct Queue {
    wake: Notify,
    news: Mutex<News>,
}

#[derive(Default)]
struct News {
    changed: bool,
    decided: Vec<Digest<DeviceCode>>,
}

impl Notifier {
    /// Starts both; they end with the store.
    pub(super) fn start(&self, shared: &Arc<Shared>, listen: PgConnectOptions) {
        let sender = tokio::spawn(send(Arc::downgrade(shared), Arc::clone(&self.queue)));
        let listener = tokio::spawn(listen_for_ever(Arc::downgrade(shared), listen));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.extend([sender.abort_handle(), listener.abort_handle()]);
    }

    /// Something was committed that other nodes should look at.
    pub(super) fn poke(&self) {
        self.queue.add(|news| news.changed = true);
    }

    /// A user's decision about a device was committed.
    pub(super) fn decided(&self, device: Digest<DeviceCode>) {
        self.queue.add(|news| {
            // One more than that is enough to know that there were too many.
            if news.decided.len() <= MANY {
                news.decided.push(device);
            }
        });
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

impl Queue {
    fn add(&self, add: impl FnOnce(&mut News)) {
        add(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    fn take(&self) -> News {
        std::mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl News {
    /// Channels and payloads, side by side.
    fn messages(&self) -> (Vec<&'static str>, Vec<String>) {
        let payloads = if self.decided.len() > MANY {
            vec![String::new()]
        } else {
            self.decided.chunks(DIGESTS).map(payload).collect()
        };
        let changed = self.changed.then(|| (CHANNEL, String::new()));
        let decided = payloads.into_iter().map(|payload| (DEVICES, payload));
        changed.into_iter().chain(decided).unzip()
    }
}

fn payload(devices: &[Digest<DeviceCode>]) -> String {
    let spelt: Vec<_> = devices.iter().map(|device| base64url::encode(device.as_bytes())).collect();
    spelt.join(",")
}

/// The devices that a payload names; none in place of what names none. Whoever may send
/// notifications may send anything: it is a reason to look, no more.
fn devices(payload: &str) -> Vec<Option<Digest<DeviceCode>>> {
    let device = |text: &str| Digest::from_slice(&base64url::decode(text).ok()?);
    payload.split(',').take(DIGESTS).map(device).collect()
}

async fn send(shared: Weak<Shared>, queue: Arc<Queue>) {
    loop {
        queue.wake.notified().await;
        let Some(shared) = shared.upgrade() else { return };
        let (channels, payloads) = queue.take().messages();
        if !channels.is_empty() {
            // Lost, it costs the others the rest of their polling interval.
            let text = "SELECT pg_notify(channel, payload)
                 FROM unnest($1::text[], $2::text[]) AS m (channel, payload)";
            let _ = shared.db.notify(sql(text).bind(channels).bind(payloads)).await;
        }
        drop(shared);
        sleep(COALESCE).await;
    }
}

async fn listen_for_ever(shared: Weak<Shared>, options: PgConnectOptions) {
    loop {
        let connected = connect(&options).await;
        let again = if connected.is_ok() { COALESCE } else { LISTEN_AGAIN };
        if let Ok(mut listener) = connected {
            let mut heard = None;
            // What was sent while nobody listened is lost: look.
            loop {
                let Some(shared) = shared.upgrade() else { return };
                shared.watch.set_listening(true);
                tell(&shared.watch, heard.as_ref());
                drop(shared);
                match hear(&mut listener).await {
                    Some(notification) => heard = Some(notification),
                    None => break,
                }
            }
        }
        let Some(shared) = shared.upgrade() else { return };
        if shared.watch.listening() {
            shared.watch.lost();
        }
        shared.watch.set_listening(false);
        drop(shared);
        sleep(again).await;
    }
}

/// The next notification; none when the connection is gone.
async fn hear(listener: &mut PgListener) -> Option<PgNotification> {
    loop {
        // Reading may be broken off: what has arrived by then stays in the connection's buffer.
        if let Ok(heard) = timeout(DOUBT_AFTER, listener.try_recv()).await {
            return heard.ok().flatten();
        }
        let asked = timeout(PING, sqlx::query("SELECT 1").execute(&mut *listener)).await;
        asked.ok()?.ok()?;
    }
}

fn tell(watch: &Watch, heard: Option<&PgNotification>) {
    match heard {
        Some(decision) if decision.channel() == DEVICES => {
            for device in devices(decision.payload()) {
                watch.decided(device);
            }
        }
        Some(_) => watch.hint(),
        None => {
            watch.hint();
            watch.decided(None);
        }
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(options.clone().application_name("pmp-auth-listen"))
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    // A connection that is lost is to be seen as such, not made anew behind our back.
    listener.eager_reconnect(false);
    listener.listen_all([CHANNEL, DEVICES]).await?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(count: usize) -> News {
        let decided = (0..count).map(|n| Digest::of(&n.to_be_bytes())).collect();
        News { changed: false, decided }
    }

    #[test]
    fn every_decision_is_told_in_payloads_that_a_server_takes() {
        let news = decided(DIGESTS + 1);
        let (channels, payloads) = news.messages();
        assert_eq!(channels, [DEVICES; 2]);
        assert!(payloads.iter().all(|payload| payload.len() < 8000));
        let told: Vec<_> = payloads.iter().flat_map(|payload| devices(payload)).collect();
        assert_eq!(told, news.decided.iter().copied().map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn too_many_decisions_are_told_as_one_that_names_none() {
        assert_eq!(decided(MANY).messages().1.len(), 10);
        let (_, payloads) = decided(MANY + 1).messages();
        assert_eq!(devices(&payloads[0]), [None]);
        assert_eq!(payloads.len(), 1);
    }

    #[test]
    fn what_names_no_device_is_none() {
        for payload in ["", "AAAA", "!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
            assert_eq!(devices(payload), [None], "{payload:?}");
        }
        let many = ",".repeat(8000);
        assert_eq!(devices(&many).len(), DIGESTS);
    }

    #[test]
    fn a_change_and_a_decision_go_on_their_own_channels() {
        assert_eq!(News { changed: true, ..decided(1) }.messages().0, [CHANNEL, DEVICES]);
        assert_eq!(News { changed: true, ..decided(0) }.messages().0, [CHANNEL]);
    }
}
