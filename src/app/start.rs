use std::io;
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{App, DisciplinedClock};
use crate::audit::Recorder;
use crate::base::{Clock, Entropy, SystemClock, SystemEntropy, hex};
use crate::config::generated::{self, ClientSecretKept, GenerateError, Generated, NewPassword};
use crate::config::settings::{MigrateMode, Settings, StorageEngine};
use crate::identity::{Nursery, PasswordCost, Passwords, SeedError, Seeded, seed_users};
use crate::keys::{PepperFault, Peppers, Ring, RingFault, ring_checks};
use crate::limits::Limiter;
use crate::migrate::{self, MigrateError};
use crate::model::client::GrantType;
use crate::model::{Audit, TenantSlug};
use crate::oauth::Services;
use crate::revocation::View;
use crate::rp::builtin;
use crate::rp::demo::Demo;
use crate::storage::memory::Memory;
use crate::storage::postgres::{Postgres, PostgresSettings};
use crate::storage::sqlite::{Sqlite, SqliteOptions};
use crate::storage::{Engine, Storage, StoreError};
use crate::telemetry::{BuildLabels, Metrics};
use crate::tenant::{Registry, TenantFault};

/// What an application takes from outside beside its settings.
pub struct Surroundings {
    /// Where `now` comes from.
    pub clock: Arc<dyn Clock>,
    /// Whether the clock is to follow the database's, where that has one.
    pub follow_database_time: bool,
    /// Where randomness comes from.
    pub entropy: Arc<dyn Entropy>,
    /// What new password hashes cost.
    pub password_cost: PasswordCost,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            follow_database_time: true,
            entropy: Arc::new(SystemEntropy),
            password_cost: PasswordCost::DEFAULT,
        }
    }
}

/// What was made at this start: secrets among it are shown this once.
#[derive(Debug, Default)]
pub struct FirstStart {
    /// Client secrets that the configuration leaves to us, new or kept.
    pub client_secrets: Vec<ClientSecretKept>,
    /// Passwords that `serve --dev` made for its users; kept nowhere.
    pub passwords: Vec<NewPassword>,
    /// Users that were created now.
    pub users: Vec<(TenantSlug, Seeded)>,
}

/// Why the application does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A generated secret cannot be kept or read.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The store does not answer, or has a schema that this build does not know.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The schema cannot be brought up to date.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The ring is not the one that the store was written under.
    #[error(transparent)]
    Ring(#[from] RingFault),
    /// The peppers are not those that the store was written under.
    #[error(transparent)]
    Pepper(#[from] PepperFault),
    /// The tenants cannot be loaded.
    #[error(transparent)]
    Tenant(#[from] TenantFault),
    /// A configured user cannot be created.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The threads for password hashing cannot be started.
    #[error("cannot start the threads for password hashing: {0}")]
    Threads(#[from] io::Error),
}

impl App {
    /// Starts everything but the listeners. When this returns, requests can be answered.
    pub async fn start(
        mut settings: Settings,
        surroundings: Surroundings,
    ) -> Result<Arc<Self>, StartError> {
        let Surroundings { clock, follow_database_time, entropy, password_cost } = surroundings;
        let postgres = matches!(settings.storage.engine, StorageEngine::Postgres { .. });
        let Generated { client_secrets, passwords: new_passwords } =
            generated::complete(&mut settings, &*entropy)?;
        let demo = demo(&mut settings, &*entropy);
        let ring = Arc::new(Ring::new(settings.server.secret_keys.clone()));
        let store = open_store(&settings, &clock, &entropy).await?;
        let (clock, discipline) =
            discipline(clock, follow_database_time && postgres, &*store).await;
        let missing = ring_checks(&ring, &*store, clock.now()).await?;
        if !missing.is_empty() {
            warn!(ids = ?missing, "the store knows ring keys that this node lacks");
        }
        let peppers = Peppers::new(settings.server.api_key_peppers.clone());
        let missing = peppers.check(&*store, clock.now()).await?;
        if !missing.is_empty() {
            warn!(ids = ?missing, "there are API keys under peppers that this node lacks");
        }
        let passwords =
            Passwords::new(password_cost, settings.server.hash_memory, Arc::clone(&entropy))?;
        let registry = Registry::load(
            &settings,
            Arc::clone(&store),
            Arc::clone(&ring),
            Arc::clone(&entropy),
            clock.now(),
        )
        .await?;
        let view = View::new(Arc::clone(&store), Arc::clone(&clock));
        view.sync().await?;
        let services = Services::new(
            Arc::clone(&entropy),
            Arc::clone(&ring),
            view,
            Arc::new(Limiter::new(Arc::clone(&clock))),
            Recorder::start(Arc::clone(&store)),
            Arc::clone(&store),
        )
        .with_peppers(peppers);
        services.devices.know(Arc::clone(&registry));
        let version = env!("CARGO_PKG_VERSION");
        let app = Arc::new(Self {
            metrics: Metrics::new(BuildLabels { version, engine: store.engine().as_str() }),
            first_start: FirstStart {
                client_secrets,
                passwords: new_passwords,
                users: seed(&settings, &registry, &passwords, &*clock, &*entropy).await?,
            },
            settings: Arc::new(settings),
            clock,
            entropy,
            store,
            ring,
            registry,
            services,
            passwords: Arc::new(passwords),
            demo,
            listening: OnceLock::new(),
            discipline,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            stopping: CancellationToken::new(),
        });
        app.passwords.report_to(Arc::clone(&app.metrics));
        app.services.revocations.report_to(Arc::clone(&app.metrics));
        app.start_tasks();
        Ok(app)
    }

    fn start_tasks(&self) {
        let registry = Arc::clone(&self.registry);
        self.tasks.spawn(registry.run(Arc::clone(&self.clock), self.stop.clone()));
        let view = Arc::clone(&self.services.revocations);
        self.tasks.spawn(view.run(self.stop.clone()));
        let devices = self.services.devices.watch(Arc::clone(&self.store), self.stop.clone());
        self.tasks.spawn(devices);
        let api_keys = Arc::clone(&self.services.api_keys);
        self.tasks.spawn(api_keys.run(Arc::clone(&self.store), self.stop.clone()));
        if let Some(discipline) = &self.discipline {
            let store = Arc::clone(&self.store);
            self.tasks.spawn(Arc::clone(discipline).run(store, self.stop.clone()));
        }
    }
}

/// Opens the store that the settings name; its schema is current when this returns.
pub async fn open_store(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Arc<dyn Storage>, StartError> {
    let now = clock.now();
    let store: Arc<dyn Storage> = match &settings.storage.engine {
        StorageEngine::Memory => Arc::new(Memory::new(&hex(&entropy.bytes::<8>()), now)),
        StorageEngine::Sqlite { path } => {
            if settings.storage.migrate == MigrateMode::Auto {
                migrate::sqlite::up(path).await?;
            }
            let mut options = SqliteOptions::new(path);
            options.readers = settings.storage.max_connections;
            Arc::new(Sqlite::open(&options, Arc::clone(entropy), now).await?)
        }
        StorageEngine::Postgres { connection, listen } => {
            if settings.storage.migrate == MigrateMode::Auto {
                migrate::postgres::up(connection).await?;
            }
            let settings = PostgresSettings {
                connection: connection.clone(),
                listen: listen.clone(),
                max_connections: settings.storage.max_connections,
            };
            Arc::new(Postgres::connect(&settings).await?)
        }
    };
    if settings.storage.migrate != MigrateMode::Off {
        store.ready().await?;
    }
    Ok(store)
}

/// The clock to go by: the database's, where there is one to follow.
async fn discipline(
    own: Arc<dyn Clock>,
    follow: bool,
    store: &dyn Storage,
) -> (Arc<dyn Clock>, Option<Arc<DisciplinedClock>>) {
    if !follow || store.engine() != Engine::Postgres {
        return (own, None);
    }
    let clock = Arc::new(DisciplinedClock::new(own));
    clock.sample(store).await;
    (Arc::clone(&clock) as _, Some(clock))
}

/// The demo app, registered as a client in every tenant; and beside it the built-in devices, where
/// the tenant serves the device flow.
fn demo(settings: &mut Settings, entropy: &dyn Entropy) -> Option<Demo> {
    if !settings.server.demo {
        return None;
    }
    let demo = Demo::new(settings.server.public_url.as_str(), entropy);
    for tenant in settings.tenants.values_mut() {
        let scopes = tenant.all_scopes();
        tenant.clients.push(demo.client(&scopes));
        if tenant.grants.contains(&GrantType::DeviceCode) {
            tenant.clients.extend(builtin::device_clients(&scopes));
        }
    }
    Some(demo)
}

async fn seed(
    settings: &Settings,
    registry: &Registry,
    passwords: &Passwords,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Vec<(TenantSlug, Seeded)>, SeedError> {
    let audit = Audit { actor: Some("config"), ..Audit::default() };
    let mut made = Vec::new();
    for tenant in registry.all() {
        let nursery = Nursery {
            store: &tenant.store,
            slug: &tenant.slug,
            passwords,
            entropy,
            data_dir: &settings.server.data_dir,
        };
        let users = &tenant.settings.users;
        let seeded = seed_users(&nursery, users, clock.now(), &audit).await?;
        made.extend(seeded.into_iter().map(|user| (tenant.slug.clone(), user)));
    }
    Ok(made)
}
