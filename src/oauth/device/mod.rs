//! The device flow (RFC 8628): a device asks (`request`), its user decides (`decision`, in the
//! order of `steps`, within the limits of `guesses`), and the device learns of it by polling
//! (`grants/device_code`, with its pace in `pace` and long polls in `wait`).

/// What a user code leads to, and what its user decides.
pub mod decision;
pub mod guesses;
mod pace;
pub mod request;
mod steps;
mod wait;

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(in crate::oauth) use pace::Arrival;
use pace::Pace;
pub use steps::{Step, next};
pub(in crate::oauth) use wait::Woken;
pub use wait::{LONGEST_WAIT, Patience};

use crate::base::Clock;
use crate::keys::{Purpose, Ring};
use crate::model::TenantUid;
use crate::model::device::{UserCode, UserCodeDigest};
use crate::storage::{Storage, Watch};
use crate::tenant::Registry;
use wait::Waiters;

/// What a node remembers of devices that poll and wait.
pub struct Devices {
    pub(in crate::oauth) pace: Pace,
    pub(in crate::oauth) waiters: Arc<Waiters>,
    /// For what is issued after a wait.
    pub(in crate::oauth) clock: Arc<dyn Clock>,
    registry: OnceLock<Arc<Registry>>,
}

impl Devices {
    /// Nothing remembered yet; hears of decisions by `watch`.
    pub fn new(watch: &Watch, clock: &Arc<dyn Clock>) -> Self {
        Self {
            pace: Pace::new(watch.decisions()),
            waiters: Arc::default(),
            clock: Arc::clone(clock),
            registry: OnceLock::new(),
        }
    }

    /// Says which tenants there are: some may share the short address.
    pub fn know(&self, registry: Arc<Registry>) {
        let _ = self.registry.set(registry);
    }

    /// The tenants whose codes are typed at the short address.
    pub fn at_short_address(&self) -> Vec<TenantUid> {
        let all = self.registry.get().map(|registry| registry.all()).unwrap_or_default();
        let short = all.iter().filter(|tenant| tenant.settings.device.short_url);
        short.map(|tenant| tenant.uid.clone()).collect()
    }

    /// Wakes those that wait, as decisions are announced or found, until `stop`.
    pub fn watch(
        &self,
        store: Arc<dyn Storage>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (waiters, announced) = (Arc::clone(&self.waiters), store.watch().decisions());
        async move { waiters.run(&*store, announced, stop).await }
    }

    /// How many long polls are held.
    pub fn waiting(&self) -> usize {
        self.waiters.count()
    }

    /// Answers all that wait: the process is about to stop.
    pub fn begin_stop(&self) {
        self.waiters.stop();
    }

    /// Writes what only this node's memory knew of too early polls.
    pub async fn flush(&self, store: &dyn Storage) {
        for (tenant, slower) in self.pace.take_slower() {
            if let Err(error) = store.tenant(&tenant).slow_devices(&slower).await {
                warn!(tenant = %tenant, %error, "{} devices are not slowed down", slower.len());
            }
        }
    }
}

/// The digests of a user code within a tenant, one for each key of the ring, newest first.
pub fn user_code_digests(ring: &Ring, tenant: &TenantUid, code: &UserCode) -> Vec<UserCodeDigest> {
    let parts = [tenant.as_str().as_bytes(), code.letters().as_bytes()];
    let digest = |kid| Some(UserCodeDigest { kid, mac: ring.mac(Purpose::UserCode, kid, &parts)? });
    ring.ids().into_iter().filter_map(digest).collect()
}
