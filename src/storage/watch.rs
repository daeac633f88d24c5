use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;

use super::LogEntry;
use crate::base::Digest;
use crate::model::device::DeviceCode;

/// Takes revocations of this process the moment they are committed, before the method that wrote
/// them returns: what this node revoked, this node refuses at once.
pub trait Sink: Send + Sync {
    /// Applies committed entries. Must not block.
    fn revoked(&self, entries: &[LogEntry]);
}

/// How a store tells its process of changes.
#[derive(Clone)]
pub struct Watch {
    sink: Arc<OnceLock<Arc<dyn Sink>>>,
    hints: broadcast::Sender<()>,
    decisions: broadcast::Sender<Option<Digest<DeviceCode>>>,
    deaf: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            sink: Arc::default(),
            hints: broadcast::Sender::new(16),
            decisions: broadcast::Sender::new(1024),
            deaf: Arc::default(),
            lost: Arc::default(),
        }
    }
}

impl Watch {
    /// Sets the sink; the first one stays.
    pub fn set_sink(&self, sink: Arc<dyn Sink>) {
        let _ = self.sink.set(sink);
    }

    /// For engines: `entries` were just committed by this process.
    pub fn revoked(&self, entries: &[LogEntry]) {
        if let Some(sink) = self.sink.get()
            && !entries.is_empty()
        {
            sink.revoked(entries);
        }
    }

    /// For engines: something changed, here or elsewhere; readers may look sooner than planned.
    pub fn hint(&self) {
        let _ = self.hints.send(());
    }

    /// For engines: whether hints of other processes arrive now. While they do not, readers expect
    /// less of their own view's age.
    pub fn set_listening(&self, listening: bool) {
        self.deaf.store(!listening, Ordering::Relaxed);
    }

    /// For engines: hints of other processes may have been lost just now.
    pub fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was so.
    pub fn times_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether hints of other processes arrive; true unless an engine said otherwise.
    pub fn listening(&self) -> bool {
        !self.deaf.load(Ordering::Relaxed)
    }

    /// For engines: a user decided about this device, here or elsewhere; none: about some that are
    /// not known.
    pub fn decided(&self, device: Option<Digest<DeviceCode>>) {
        let _ = self.decisions.send(device);
    }

    /// Decisions about devices from now on. As little to be trusted as hints: look at the device; at
    /// none, and after a lag, at all that wait.
    pub fn decisions(&self) -> broadcast::Receiver<Option<Digest<DeviceCode>>> {
        self.decisions.subscribe()
    }

    /// Hints from now on. They are never to be trusted: a lost one costs time, not correctness.
    pub fn hints(&self) -> broadcast::Receiver<()> {
        self.hints.subscribe()
    }
}
