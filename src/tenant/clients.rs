//! The clients of one tenant, in memory.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::sync::Cache;

use crate::model::{Client, ClientId};
use crate::storage::{Result, TenantHandle};

/// The background reads states every second; a request does so itself when it has not.
const STALE: Duration = Duration::from_secs(3);
/// How long a run-time client, or the news that there is none, is believed.
const RUNTIME: Duration = Duration::from_secs(1);
const RUNTIME_CLIENTS: u64 = 10_000;

/// Finds clients without a query: those of the configuration always, others while remembered.
pub(super) struct Directory {
    configured: HashMap<ClientId, Arc<Client>>,
    states: RwLock<States>,
    runtime: Cache<ClientId, Option<Arc<Client>>>,
    used: AtomicBool,
    reading: tokio::sync::Mutex<()>,
}

/// Which clients are disabled, and the configured ones as that makes them.
#[derive(Clone)]
struct States {
    disabled: Arc<HashSet<ClientId>>,
    configured: Arc<HashMap<ClientId, Arc<Client>>>,
    read_at: Option<Instant>,
}

impl States {
    fn is_stale(&self) -> bool {
        self.read_at.is_none_or(|at| at.elapsed() >= STALE)
    }
}

impl Directory {
    pub(super) fn new(configured: &[Client]) -> Self {
        let configured: HashMap<_, _> =
            configured.iter().map(|client| (client.id.clone(), Arc::new(client.clone()))).collect();
        Self {
            states: RwLock::new(States {
                disabled: Arc::default(),
                configured: Arc::new(configured.clone()),
                read_at: None,
            }),
            configured,
            runtime: Cache::builder().max_capacity(RUNTIME_CLIENTS).time_to_live(RUNTIME).build(),
            used: AtomicBool::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// The client of this id; `enabled` folds in whether it was disabled at run time.
    pub(super) async fn find(
        &self,
        id: &ClientId,
        store: &TenantHandle,
    ) -> Result<Option<Arc<Client>>> {
        self.used.store(true, Ordering::Relaxed);
        let mut states = self.states();
        if states.is_stale() {
            let _one_reader = self.reading.lock().await;
            if self.states().is_stale() {
                self.refresh(store).await?;
            }
            states = self.states();
        }
        if let Some(client) = states.configured.get(id) {
            return Ok(Some(Arc::clone(client)));
        }
        if let Some(known) = self.runtime.get(id) {
            return Ok(known);
        }
        let found = store.find_client(id).await?.map(|client| with_state(client, &states.disabled));
        self.runtime.insert(id.clone(), found.clone());
        Ok(found)
    }

    /// Whether anyone asked for a client since the last refresh.
    pub(super) fn in_use(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Reads again which clients are disabled, and forgets run-time clients.
    pub(super) async fn refresh(&self, store: &TenantHandle) -> Result<()> {
        self.used.store(false, Ordering::Relaxed);
        let read_at = Some(Instant::now());
        let disabled: HashSet<_> =
            store.client_states().await?.into_iter().map(|state| state.client).collect();
        self.runtime.invalidate_all();
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        if *states.disabled != disabled {
            let configured = self.configured.iter().map(|(id, client)| {
                let client = if disabled.contains(id) {
                    with_state(Client::clone(client), &disabled)
                } else {
                    Arc::clone(client)
                };
                (id.clone(), client)
            });
            states.configured = Arc::new(configured.collect());
            states.disabled = Arc::new(disabled);
        }
        states.read_at = read_at;
        Ok(())
    }

    fn states(&self) -> States {
        self.states.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn with_state(mut client: Client, disabled: &HashSet<ClientId>) -> Arc<Client> {
    client.enabled &= !disabled.contains(&client.id);
    Arc::new(client)
}
