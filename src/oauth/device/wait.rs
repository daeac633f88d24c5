//! Long polls (`Prefer: wait=N`, RFC 7240 §4.3): a poll of a pending device is answered when its user
//! has decided. A waiter holds no database connection; announcements wake it, and one query for all
//! of them, now and then, finds what no announcement told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::base::Digest;
use crate::model::ClientId;
use crate::model::device::DeviceCode;
use crate::storage::{Engine, Storage};
use crate::tenant::Tenant;

/// No poll waits longer, whatever it prefers.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often everything that waits is looked for where other nodes decide, too.
const SWEEP_SHARED: Duration = Duration::from_millis(400);
/// … and where only this process does.
const SWEEP_ALONE: Duration = Duration::from_secs(5);
/// After a sweep that an announcement asked for, so long until the next one.
const COALESCE: Duration = Duration::from_millis(50);
/// Devices in one query.
const BATCH: usize = 1000;

/// What a poll prefers: to be answered at the decision, if that comes in time.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How long it waits at most.
    pub wait: Duration,
    /// Cancelled when nobody is there any more to take an answer.
    pub gone: CancellationToken,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in crate::oauth) enum Woken {
    /// Somebody may have decided: ask storage.
    Look,
    /// Its time is over.
    TimedOut,
    /// A newer poll waits in its place.
    Replaced,
    /// The process stops, or the caller is gone.
    Ended,
}

struct Waiter {
    id: u64,
    tenant: Arc<Tenant>,
    client: ClientId,
    wake: oneshot::Sender<Woken>,
}

/// Everything that waits on this node.
#[derive(Default)]
pub(in crate::oauth) struct Waiters {
    waiting: Mutex<HashMap<Digest<DeviceCode>, Vec<Waiter>>>,
    ids: AtomicU64,
    stopping: AtomicBool,
}

/// A place among those that wait; given up when it is dropped.
pub(in crate::oauth) struct Place<'a> {
    waiters: &'a Waiters,
    device: Digest<DeviceCode>,
    id: u64,
    woken: oneshot::Receiver<Woken>,
}

impl Waiters {
    /// Takes a place, before storage is asked, so that no decision falls between. An older waiter of
    /// the same client for the same device is told that it is replaced.
    pub(in crate::oauth) fn place(
        &self,
        tenant: &Arc<Tenant>,
        client: &ClientId,
        device: Digest<DeviceCode>,
    ) -> Place<'_> {
        let (wake, woken) = oneshot::channel();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let new = Waiter { id, tenant: Arc::clone(tenant), client: client.clone(), wake };
        let mut waiting = self.lock();
        let here = waiting.entry(device).or_default();
        let same = |old: &Waiter| old.client == *client && old.tenant.uid == tenant.uid;
        if let Some(at) = here.iter().position(same) {
            let _ = here.swap_remove(at).wake.send(Woken::Replaced);
        }
        here.push(new);
        Place { waiters: self, device, id, woken }
    }

    /// Wakes those that wait for `device`.
    pub(in crate::oauth) fn wake(&self, device: &Digest<DeviceCode>) {
        let woken = self.lock().remove(device);
        for waiter in woken.into_iter().flatten() {
            let _ = waiter.wake.send(Woken::Look);
        }
    }

    /// Answers all that wait, and whoever wants to wait from now on: the process stops.
    pub(in crate::oauth) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let all = std::mem::take(&mut *self.lock());
        for waiter in all.into_values().flatten() {
            let _ = waiter.wake.send(Woken::Ended);
        }
    }

    /// How many wait.
    pub(in crate::oauth) fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Wakes what is decided, as it is announced or found, until `stop`.
    pub(in crate::oauth) async fn run(
        &self,
        store: &dyn Storage,
        mut announced: Receiver<Option<Digest<DeviceCode>>>,
        stop: CancellationToken,
    ) {
        let mut next = Instant::now();
        let mut last = next;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                decision = announced.recv() => match decision {
                    Ok(Some(device)) => self.wake(&device),
                    Ok(None) | Err(RecvError::Lagged(_)) => next = next.min(last + COALESCE),
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(next) => {
                    self.sweep().await;
                    last = Instant::now();
                    let shared = store.engine() == Engine::Postgres || !store.watch().listening();
                    next = last + if shared { SWEEP_SHARED } else { SWEEP_ALONE };
                }
            }
        }
    }

    /// Asks storage about all that wait, and wakes those about whom was decided.
    async fn sweep(&self) {
        let mut by_tenant = HashMap::<_, (Arc<Tenant>, Vec<Digest<DeviceCode>>)>::new();
        for (device, waiters) in &*self.lock() {
            for waiter in waiters {
                let uid = waiter.tenant.uid.clone();
                let entry = by_tenant.entry(uid);
                entry.or_insert_with(|| (Arc::clone(&waiter.tenant), Vec::new())).1.push(*device);
            }
        }
        for (tenant, devices) in by_tenant.into_values() {
            for batch in devices.chunks(BATCH) {
                match tenant.store.decided_devices(batch).await {
                    Ok(decided) => decided.iter().for_each(|device| self.wake(device)),
                    // They go on waiting; the next sweep may find them.
                    Err(error) => debug!(%error, "cannot look for decided devices"),
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest<DeviceCode>, Vec<Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Waits until someone decides, until `deadline`, or until `gone`.
    pub(in crate::oauth) async fn wait(
        mut self,
        deadline: Instant,
        gone: &CancellationToken,
    ) -> Woken {
        if self.waiters.stopping.load(Ordering::SeqCst) {
            return Woken::Ended;
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            () = gone.cancelled() => Woken::Ended,
            woken = timeout(remaining, &mut self.woken) => match woken {
                Ok(woken) => woken.unwrap_or(Woken::Ended),
                Err(_) => Woken::TimedOut,
            },
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        if let Some(here) = waiting.get_mut(&self.device) {
            here.retain(|waiter| waiter.id != self.id);
            if here.is_empty() {
                waiting.remove(&self.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::testing::{House, TWO};

    const CODE: Digest<DeviceCode> = Digest::from_bytes([1; 32]);
    const OTHER: Digest<DeviceCode> = Digest::from_bytes([2; 32]);

    fn in_seconds(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    fn app() -> ClientId {
        ClientId::new("app")
    }

    #[tokio::test]
    async fn a_waiter_hears_of_its_own_decision_alone() {
        let house = House::new(TWO).await;
        let (waiters, gone) = (Waiters::default(), CancellationToken::new());
        let place = waiters.place(&house.tenant("acme"), &app(), CODE);
        waiters.wake(&OTHER);
        let began = Instant::now();
        let (woken, ()) = tokio::join!(place.wait(in_seconds(30), &gone), async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            waiters.wake(&CODE);
        });
        assert_eq!(woken, Woken::Look);
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(waiters.count(), 0);
    }

    #[tokio::test]
    async fn a_decision_between_place_and_wait_is_not_lost() {
        let house = House::new(TWO).await;
        let waiters = Waiters::default();
        let place = waiters.place(&house.tenant("acme"), &app(), CODE);
        waiters.wake(&CODE);
        assert_eq!(place.wait(in_seconds(30), &CancellationToken::new()).await, Woken::Look);
    }

    #[tokio::test]
    async fn the_newest_waits_and_another_client_takes_nobodys_place() {
        let house = House::new(TWO).await;
        let (acme, gone) = (house.tenant("acme"), CancellationToken::new());
        let waiters = Waiters::default();
        let older = waiters.place(&acme, &app(), CODE);
        let stranger = waiters.place(&acme, &ClientId::new("other"), CODE);
        let newer = waiters.place(&acme, &app(), CODE);
        assert_eq!(older.wait(in_seconds(30), &gone).await, Woken::Replaced);
        assert_eq!(waiters.count(), 2);
        drop(stranger);
        assert_eq!(newer.wait(Instant::now(), &gone).await, Woken::TimedOut);
        assert_eq!(waiters.count(), 0);
    }

    #[tokio::test]
    async fn a_caller_that_is_gone_and_a_process_that_stops_end_a_wait_at_once() {
        let house = House::new(TWO).await;
        let (acme, gone) = (house.tenant("acme"), CancellationToken::new());
        let waiters = Waiters::default();
        let place = waiters.place(&acme, &app(), CODE);
        gone.cancel();
        assert_eq!(place.wait(in_seconds(30), &gone).await, Woken::Ended);
        let (here, began) = (CancellationToken::new(), Instant::now());
        let place = waiters.place(&acme, &app(), CODE);
        waiters.stop();
        assert_eq!(place.wait(in_seconds(30), &here).await, Woken::Ended);
        let late = waiters.place(&acme, &app(), CODE);
        assert_eq!(late.wait(in_seconds(30), &here).await, Woken::Ended);
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn what_was_not_announced_is_found_by_looking() {
        let house = House::new(TWO).await;
        let (waiters, stop) = (Waiters::default(), CancellationToken::new());
        // There is no such device, which is as good as decided.
        let place = waiters.place(&house.tenant("acme"), &app(), CODE);
        let announced = house.store.watch().decisions();
        let woken = tokio::select! {
            woken = place.wait(in_seconds(30), &stop) => woken,
            () = waiters.run(&house.store, announced, stop.clone()) => Woken::Ended,
        };
        assert_eq!(woken, Woken::Look);
    }
}
