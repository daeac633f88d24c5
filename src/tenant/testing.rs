//! Tenants on the memory engine, for the tests of this and later modules.

use std::path::Path;
use std::sync::Arc;

use super::{Registry, Tenant};
use crate::base::{ManualClock, Secret, SystemEntropy, Timestamp};
use crate::config::settings::RingKey;
use crate::config::{self, Environment, Settings};
use crate::keys::Ring;
use crate::storage::Storage;
use crate::storage::memory::Memory;

/// When tests happen.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Two tenants, a public and a confidential client each.
pub(crate) const TWO: &str = "
server: { public_url: 'https://id.example' }
tenants:
  acme:
    clients:
      - { client_id: app, type: public, redirect_uris: ['https://app.example/cb'] }
      - { client_id: other, type: public, redirect_uris: ['https://other.example/cb'] }
  globex:
    clients:
      - { client_id: app, type: public, redirect_uris: ['https://app.example/cb'] }
";

/// A store with the tenants of a configuration.
pub(crate) struct House {
    pub(crate) store: Memory,
    pub(crate) clock: ManualClock,
    pub(crate) settings: Settings,
    pub(crate) registry: Arc<Registry>,
}

impl House {
    pub(crate) async fn new(yaml: &str) -> Self {
        Self::on(Memory::new("e1", NOW), yaml).await
    }

    pub(crate) async fn on(store: Memory, yaml: &str) -> Self {
        let settings = read(yaml);
        let registry = load(&store, &settings).await.unwrap();
        Self { store, clock: ManualClock::at(NOW), settings, registry }
    }

    pub(crate) fn tenant(&self, slug: &str) -> Arc<Tenant> {
        self.registry.named(slug).unwrap()
    }
}

pub(crate) fn read(yaml: &str) -> Settings {
    config::parse("test.yaml", Path::new(""), yaml, &Environment::empty())
        .unwrap_or_else(|faults| panic!("{faults}"))
}

pub(crate) async fn load(
    store: &Memory,
    settings: &Settings,
) -> Result<Arc<Registry>, super::TenantFault> {
    let store: Arc<dyn Storage> = Arc::new(store.clone());
    Registry::load(settings, store, ring(), Arc::new(SystemEntropy), NOW).await
}

/// The same ring every time.
pub(crate) fn ring() -> Arc<Ring> {
    Arc::new(Ring::new(vec![RingKey { id: 1, secret: Secret::new(vec![7; 32]) }]))
}
