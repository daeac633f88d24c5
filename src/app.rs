//! The composition root: settings become a running application.
//!
//! Owns the order in which parts start and stop, and whether the whole is ready. Decides nothing
//! of the protocol.

mod clock;
mod readiness;
mod start;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use clock::DisciplinedClock;
pub use readiness::Readiness;
pub use start::{FirstStart, StartError, Surroundings, open_store};

use crate::base::{Clock, Entropy};
use crate::config::Settings;
use crate::identity::Passwords;
use crate::keys::Ring;
use crate::oauth::Services;
use crate::rp::demo::Demo;
use crate::storage::Storage;
use crate::telemetry::Metrics;
use crate::tenant::Registry;

/// A running application, without its listeners: `http::serve` and tests have those.
pub struct App {
    /// The settings, complete.
    pub settings: Arc<Settings>,
    /// Where `now` comes from; asked once a request.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub entropy: Arc<dyn Entropy>,
    /// The store.
    pub store: Arc<dyn Storage>,
    /// The key ring.
    pub ring: Arc<Ring>,
    /// The tenants.
    pub registry: Arc<Registry>,
    /// What the protocol's endpoints share.
    pub services: Services,
    /// The password pool.
    pub passwords: Arc<Passwords>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The demo app, with `server.demo`.
    pub demo: Option<Demo>,
    /// What was made at this start and is to be shown once.
    pub first_start: FirstStart,
    /// Where the public listener is, once there is one.
    pub listening: OnceLock<SocketAddr>,
    discipline: Option<Arc<DisciplinedClock>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    stopping: CancellationToken,
}

impl App {
    /// Whether a shutdown has begun: not ready any more.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Is cancelled when a shutdown begins: for what would otherwise go on for long.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Begins a shutdown: readiness goes first, so that nobody sends more; who waits is answered.
    pub fn begin_stop(&self) {
        self.stopping.cancel();
        self.services.devices.begin_stop();
    }

    /// Runs `work` beside the requests, until it ends or the application stops.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Stops background work, writes what waits to be written, and closes the store. To be called
    /// when no request is under way any more.
    pub async fn stop(&self) {
        self.begin_stop();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.services.devices.flush(&*self.store).await;
        self.services.api_keys.flush(&*self.store).await;
        self.services.recorder.flush().await;
        self.store.close().await;
    }

    /// Brings metrics that others count up to date.
    pub fn observe(&self) {
        let (view, now) = (&self.services.revocations, self.clock.now());
        let fresh = view.is_fresh(now);
        let watch = self.store.watch();
        self.metrics.notified(watch.listening(), watch.times_lost());
        self.metrics.feed_lags(now.since(view.as_of()));
        self.metrics.observe(self.store.round_trips(), self.services.recorder.dropped(), fresh);
    }
}
