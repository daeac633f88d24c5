use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::exit::Failure;
use crate::app;
use crate::base::{Clock, Entropy, SystemClock, SystemEntropy, Timestamp};
use crate::config::settings::{self, Settings, StorageEngine};
use crate::config::{self, Environment, generated};
use crate::keys::Ring;
use crate::model::tenant::TenantRecord;
use crate::model::{Audit, TenantSlug};
use crate::storage::{Change, Storage, TenantHandle};
use crate::tenant::{Registry, Tenant};

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub(super) struct ConfigArg {
    /// The configuration file
    #[arg(
        long,
        global = true,
        env = "PMP_AUTH_CONFIG",
        default_value = "config.yaml",
        value_name = "FILE"
    )]
    pub(super) config: PathBuf,
}

impl ConfigArg {
    /// Reads and checks it.
    pub(super) fn load(&self) -> Result<Settings, Failure> {
        config::load(&self.config, &Environment::of_process()).map_err(Failure::Configuration)
    }
}

/// What every command that works on the store has at hand.
pub(super) struct Desk {
    /// The checked configuration.
    pub(super) settings: Settings,
    /// The store, opened beside whatever server runs on it.
    pub(super) store: Arc<dyn Storage>,
    /// Randomness.
    pub(super) entropy: Arc<dyn Entropy>,
    /// The one `now` of the command.
    pub(super) now: Timestamp,
    /// For audit records.
    pub(super) audit: Audit,
}

impl Desk {
    /// Opens the store of the configuration. With memory there is none to open: that of a running
    /// server cannot be reached.
    pub(super) async fn open(config: &ConfigArg) -> Result<Self, Failure> {
        let mut settings = config.load()?;
        if matches!(settings.storage.engine, StorageEngine::Memory) {
            return Err(Failure::because(
                "storage is `memory`, which no command can reach; set `storage.type` to `sqlite` or `postgres`",
            ));
        }
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        generated::complete(&mut settings, &*entropy)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = app::open_store(&settings, &clock, &entropy).await?;
        let now = store.clock().await?.unwrap_or_else(|| clock.now());
        let audit = Audit { actor: Some("cli"), ..Audit::default() };
        Ok(Self { settings, store, entropy, now, audit })
    }

    /// The tenant of this slug, as storage knows it.
    pub(super) async fn tenant(&self, slug: &str) -> Result<(TenantRecord, TenantHandle), Failure> {
        let parsed = TenantSlug::parse(slug)?;
        let record = self.store.find_tenant(&parsed).await?.ok_or_else(|| {
            let hint = if self.settings.tenants.contains_key(&parsed) {
                "it is in the configuration; start the server once, then it is there"
            } else {
                "`pmp-auth tenants list` shows those there are"
            };
            Failure::because(format!("there is no tenant `{slug}`: {hint}"))
        })?;
        let handle = self.store.tenant(&record.uid);
        Ok((record, handle))
    }

    /// The tenant of this slug with its keys and clients, as a server would have it.
    pub(super) async fn running(&self, slug: &str) -> Result<Arc<Tenant>, Failure> {
        let ring = Arc::new(Ring::new(self.settings.server.secret_keys.clone()));
        let registry = Registry::load(
            &self.settings,
            Arc::clone(&self.store),
            ring,
            Arc::clone(&self.entropy),
            self.now,
        )
        .await?;
        let tenant = registry.named(slug);
        tenant.ok_or_else(|| {
            Failure::because(format!("no tenant `{slug}` is served: is it suspended, or misspelt?"))
        })
    }

    /// A change now, whose revocations outlive every token that `tenant` can have issued.
    pub(super) fn change(&self, tenant: &TenantSlug) -> Change<'_> {
        let longest =
            self.settings.tenants.get(tenant).map_or(Duration::from_hours(24), |tenant| {
                settings::Tenant::longest_access_token(tenant)
            });
        let not_after = self.now.plus(longest).plus(Duration::from_mins(2));
        Change { now: self.now, not_after, audit: &self.audit }
    }

    /// Lets go of the store.
    pub(super) async fn close(self) {
        self.store.close().await;
    }
}
