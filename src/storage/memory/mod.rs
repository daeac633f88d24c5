//! The memory engine: everything in this process, gone with it.
//!
//! One lock guards all state; each method takes it once, decides, writes and lets go, and never
//! waits while it holds it. What a method revoked and recorded is collected in a `Change` and
//! becomes visible with the rest; the sink hears of it after the lock is gone and before the
//! method returns. Maps that strangers can fill are bounded: past the bound the answer is
//! `Unavailable`, and nothing that was promised is forgotten.

mod access_tokens;
mod api_keys;
mod attempts;
mod audit_log;
mod cleanup;
mod clients;
mod codes;
mod consents;
mod devices;
mod grants;
mod jtis;
mod keys;
mod log;
mod peppers;
mod pushed;
mod revocations;
mod ring;
mod rows;
mod sessions;
mod state;
mod status_lists;
mod tenants;
mod users;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::verdict::Epoch;
use super::{Cleaned, Engine, Result, Storage, TenantHandle, Watch};
use crate::base::Timestamp;
use crate::model::TenantUid;
use log::Log;
use rows::Rows;
use state::{Change, State};

/// How much strangers may make a tenant of the memory engine remember.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Requests under a one-time id.
    pub pushed_requests: usize,
    /// Device codes.
    pub devices: usize,
    /// Counters.
    pub attempts: usize,
    /// Used identifiers.
    pub jtis: usize,
    /// Audit records; past it, events that changed nothing are refused, and at twice the number
    /// the oldest records make room.
    pub audit_records: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            pushed_requests: 20_000,
            devices: 200_000,
            attempts: 200_000,
            jtis: 200_000,
            audit_records: 100_000,
        }
    }
}

/// A store in memory. Clones share their state.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    watch: Watch,
    epoch: String,
    started_at: Timestamp,
    caps: Caps,
}

/// One tenant's part of it.
struct MemoryTenant {
    store: Memory,
    uid: TenantUid,
}

impl Memory {
    /// An empty store. `epoch` is drawn at random at each start: nothing of an earlier process is
    /// known to this one.
    pub fn new(epoch: &str, started_at: Timestamp) -> Self {
        Self::with_caps(epoch, started_at, Caps::default())
    }

    /// As [`new`](Self::new), with other bounds.
    pub fn with_caps(epoch: &str, started_at: Timestamp, caps: Caps) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            watch: Watch::default(),
            epoch: epoch.to_owned(),
            started_at,
            caps,
        }))
    }

    fn epoch(&self) -> Epoch<'_> {
        Epoch { current: &self.0.epoch, since: self.0.started_at }
    }

    /// The state. A panic under the lock cannot have left it half changed in a way that matters
    /// more than serving nobody: the lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on the rows of one tenant, in sight of the log, as one change; tells of it.
    fn change<T>(
        &self,
        uid: &TenantUid,
        work: impl FnOnce(&mut Rows, &Log, &mut Change) -> T,
    ) -> T {
        let (outcome, revoked, notable) = {
            let mut state = self.lock();
            let mut change = Change::default();
            let (rows, log) = state.tenant_and_log(uid);
            let outcome = work(rows, log, &mut change);
            let notable = change.is_notable();
            (outcome, state.commit(uid, change, self.0.caps.audit_records), notable)
        };
        self.0.watch.revoked(&revoked);
        if notable {
            self.0.watch.hint();
        }
        outcome
    }
}

impl MemoryTenant {
    fn change<T>(&self, work: impl FnOnce(&mut Rows, &mut Change) -> T) -> T {
        self.store.change(&self.uid, |rows, _, change| work(rows, change))
    }

    /// Reads the tenant's rows; `none` when there are none.
    fn read<T: Default>(&self, work: impl FnOnce(&Rows) -> T) -> T {
        self.store.lock().existing(&self.uid).map(work).unwrap_or_default()
    }
}

#[async_trait]
impl Storage for Memory {
    fn engine(&self) -> Engine {
        Engine::Memory
    }

    fn tenant(&self, tenant: &TenantUid) -> TenantHandle {
        TenantHandle::new(Arc::new(MemoryTenant { store: self.clone(), uid: tenant.clone() }))
    }

    async fn cleanup_expired_data(
        &self,
        now: Timestamp,
        limit: u32,
        dry_run: bool,
    ) -> Result<Cleaned> {
        Ok(cleanup::run(&mut self.lock(), now, limit, dry_run))
    }

    async fn ready(&self) -> Result<()> {
        Ok(())
    }

    async fn clock(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    async fn lease(
        &self,
        _name: &str,
        _holder: &str,
        _now: Timestamp,
        _until: Timestamp,
    ) -> Result<bool> {
        Ok(true)
    }

    fn watch(&self) -> &Watch {
        &self.0.watch
    }

    fn round_trips(&self) -> u64 {
        0
    }

    async fn close(&self) {}
}
