//! Which tenants this node serves, and how they are found.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Tenant, VerifiedTokens};
use crate::base::{Clock, Entropy, Timestamp};
use crate::config::settings::Settings;
use crate::keys::{RELOAD, Ring};
use crate::model::tenant::{TenantRecord, TenantStatus};
use crate::model::{Audit, ClientId, TenantSlug, TenantUid};
use crate::storage::{Result, Storage, StoreError};

/// How often statuses are read, hints or none.
const TICK: Duration = Duration::from_secs(1);
/// Hints in a row are answered no more often than this.
const COALESCE: Duration = Duration::from_millis(100);

/// Why the tenants cannot be loaded.
#[derive(Debug, Error)]
pub enum TenantFault {
    /// A run-time client has the id of a client of the configuration.
    #[error(
        "tenants.{tenant}.clients: the client `{client}` was also created at run time; delete one"
    )]
    ClientTwice {
        /// The tenant.
        tenant: TenantSlug,
        /// The client.
        client: ClientId,
    },
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The tenants that this node serves: those of its configuration that are active in storage.
pub struct Registry {
    settings: Settings,
    store: Arc<dyn Storage>,
    ring: Arc<Ring>,
    entropy: Arc<dyn Entropy>,
    verified: VerifiedTokens,
    index: RwLock<Arc<Index>>,
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Index {
    /// Every tenant of the configuration, active or not, so that one that is resumed has its caches.
    known: HashMap<TenantUid, Arc<Tenant>>,
    by_uid: HashMap<TenantUid, Arc<Tenant>>,
    by_name: BTreeMap<String, Arc<Tenant>>,
    by_host: HashMap<String, Arc<Tenant>>,
}

impl Registry {
    /// Loads every tenant of the configuration, making those that storage does not know.
    pub async fn load(
        settings: &Settings,
        store: Arc<dyn Storage>,
        ring: Arc<Ring>,
        entropy: Arc<dyn Entropy>,
        now: Timestamp,
    ) -> std::result::Result<Arc<Self>, TenantFault> {
        let registry = Self {
            settings: settings.clone(),
            store,
            ring,
            entropy,
            verified: VerifiedTokens::default(),
            index: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
        };
        let audit = Audit { actor: Some("config"), ..Audit::default() };
        let mut records = Vec::new();
        for slug in registry.settings.tenants.keys() {
            let uid = TenantUid::generate(&*registry.entropy);
            records.push(registry.store.ensure_tenant(slug, &uid, now, &audit).await?);
        }
        registry.place(&records);
        for tenant in registry.index().known.values() {
            check_clients(tenant).await?;
            tenant.clients.refresh(&tenant.store).await?;
        }
        Ok(Arc::new(registry))
    }

    /// Reads everything again now: statuses, client states, keys.
    pub async fn refresh(&self, now: Timestamp) -> Result<()> {
        self.read(true, Duration::ZERO, now).await
    }

    /// Reads statuses every second and on hints, and what tenants in use keep in memory, until
    /// `stop`.
    pub async fn run(self: Arc<Self>, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let mut hints = self.store.watch().hints();
        let mut failing = false;
        // A round that a hint brought may find what it is about read too lately to read it again:
        // the round after it looks once more.
        let mut owed = false;
        loop {
            let hinted = tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => false,
                hint = hints.recv() => match hint {
                    Ok(()) | Err(RecvError::Lagged(_)) => true,
                    Err(RecvError::Closed) => return,
                },
            };
            let age = if hinted || owed { TICK } else { RELOAD };
            owed = hinted;
            // What is read now answers every hint so far, and none that comes later.
            while hints.try_recv().is_ok() {}
            let began = Instant::now();
            let read = self.read(false, age, clock.now()).await;
            if let Err(error) = &read
                && !failing
            {
                warn!(error = %error, "cannot read tenants; what is known stays in force");
            }
            failing = read.is_err();
            if hinted {
                // With very many tenants, looking must not become all that the node does.
                let pause = (began.elapsed() * 10).clamp(COALESCE, TICK);
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
            }
        }
    }

    /// The active tenant served under `/t/{slug}`; none that has a host of its own.
    pub fn by_slug(&self, slug: &str) -> Option<Arc<Tenant>> {
        let index = self.index();
        index.by_name.get(slug).filter(|tenant| tenant.settings.host.is_none()).cloned()
    }

    /// The active tenant whose own host this is (lower case, with a port if one is configured).
    pub fn by_host(&self, host: &str) -> Option<Arc<Tenant>> {
        self.index().by_host.get(host).cloned()
    }

    /// The active tenant of this identity.
    pub fn by_uid(&self, uid: &TenantUid) -> Option<Arc<Tenant>> {
        self.index().by_uid.get(uid).cloned()
    }

    /// The active tenant of this name, however it is reached: for commands and pages of our own.
    pub fn named(&self, slug: &str) -> Option<Arc<Tenant>> {
        self.index().by_name.get(slug).cloned()
    }

    /// Every active tenant, by slug.
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        self.index().by_name.values().cloned().collect()
    }

    async fn read(&self, idle: bool, age: Duration, now: Timestamp) -> Result<()> {
        let _one_at_a_time = self.refreshing.lock().await;
        self.place(&self.store.list_tenants().await?);
        for tenant in self.index().by_uid.values() {
            tenant.refresh(idle, age, now).await?;
        }
        Ok(())
    }

    /// Makes the index from what storage says. A record whose slug is not in the configuration is
    /// not served here; a slug that storage lost (deleted) is not served either.
    fn place(&self, records: &[TenantRecord]) {
        let old = self.index();
        let mut new = Index::default();
        for record in records {
            let Some(settings) = self.settings.tenants.get(&record.slug) else { continue };
            let known = old.known.get(&record.uid).cloned();
            let tenant = known.unwrap_or_else(|| {
                Arc::new(Tenant::new(
                    record,
                    Arc::new(settings.clone()),
                    self.store.tenant(&record.uid),
                    Arc::clone(&self.ring),
                    Arc::clone(&self.entropy),
                    self.verified.clone(),
                ))
            });
            new.known.insert(record.uid.clone(), Arc::clone(&tenant));
            if record.status == TenantStatus::Active {
                new.by_uid.insert(record.uid.clone(), Arc::clone(&tenant));
                if let Some(host) = &tenant.settings.host {
                    new.by_host.insert(host.to_ascii_lowercase(), Arc::clone(&tenant));
                }
                new.by_name.insert(record.slug.as_str().to_owned(), tenant);
            }
        }
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }

    fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A client of the configuration and one made at run time must not share an id.
async fn check_clients(tenant: &Tenant) -> std::result::Result<(), TenantFault> {
    let runtime = tenant.store.list_clients().await?;
    let twice = runtime
        .into_iter()
        .find(|client| tenant.settings.clients.iter().any(|configured| configured.id == client.id));
    match twice {
        Some(client) => {
            Err(TenantFault::ClientTwice { tenant: tenant.slug.clone(), client: client.id })
        }
        None => Ok(()),
    }
}
