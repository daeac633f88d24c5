//! skeleton
use std::sync::Arc;

use thiserror::Error;

use crate::base::{Clock, Entropy, Timestamp};
use crate::config::settings;
use crate::keys::{Ring, TenantKeys};
use crate::model::{Client, ClientId, TenantSlug, TenantUid};
use crate::storage::{Result, Storage, StoreError, TenantHandle};

/// One tenant at run time.
pub struct Tenant {
    /// Its identity.
    pub uid: TenantUid,
    /// Its label.
    pub slug: TenantSlug,
    /// What the configuration says about it.
    pub settings: Arc<settings::Tenant>,
    /// Its part of the store.
    pub store: TenantHandle,
    /// Its signing keys.
    pub keys: TenantKeys,
}

impl Tenant {
    /// The issuer, byte for byte as in tokens.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }
    /// The client of this id, from YAML or made at run time; `enabled` says whether it is now.
    pub async fn client(&self, id: &ClientId) -> Result<Option<Arc<Client>>> {
        todo!()
    }
}

/// The tenants that this node serves.
pub struct Registry {}

/// Why the tenants cannot be loaded.
#[derive(Debug, Error)]
pub enum TenantFault {
    /// A run-time client has the id of a client of the configuration.
    #[error("tenants.{tenant}.clients: a client `{client}` was also created at run time")]
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

impl Registry {
    /// Loads every tenant of the configuration, making those that storage does not know.
    pub async fn load(
        settings: &settings::Settings,
        store: Arc<dyn Storage>,
        ring: Arc<Ring>,
        entropy: Arc<dyn Entropy>,
        now: Timestamp,
    ) -> std::result::Result<Arc<Self>, TenantFault> {
        todo!()
    }
    /// Reads statuses (and client states, keys of tenants in use) again.
    pub async fn refresh(&self, now: Timestamp) -> Result<()> {
        todo!()
    }
    /// Refreshes at least once a second, and on hints, until `stop`.
    pub async fn run(
        self: Arc<Self>,
        clock: Arc<dyn Clock>,
        stop: tokio_util::sync::CancellationToken,
    ) {
        todo!()
    }
    /// The active tenant served under `/t/{slug}`; none that has a host of its own.
    pub fn by_slug(&self, slug: &str) -> Option<Arc<Tenant>> {
        todo!()
    }
    /// The active tenant whose own host this is (lower case, with a port where configured so).
    pub fn by_host(&self, host: &str) -> Option<Arc<Tenant>> {
        todo!()
    }
    /// The active tenant of this identity.
    pub fn by_uid(&self, uid: &TenantUid) -> Option<Arc<Tenant>> {
        todo!()
    }
    /// The active tenant of this name, however it is reached; for commands.
    pub fn named(&self, slug: &TenantSlug) -> Option<Arc<Tenant>> {
        todo!()
    }
    /// Every active tenant, by slug.
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        todo!()
    }
}
