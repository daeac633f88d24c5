//! Where a store of each engine lives during a test, and how a case is run on all of them.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use pmp_auth::base::{Entropy, Secret, SystemEntropy, Timestamp};
use pmp_auth::config::settings::StorageEngine;
use pmp_auth::migrate;
use pmp_auth::model::{Audit, TenantSlug, TenantUid};
use pmp_auth::storage::memory::Memory;
use pmp_auth::storage::postgres::{Postgres, PostgresSettings};
use pmp_auth::storage::sqlite::{self, Sqlite, SqliteOptions};
use pmp_auth::storage::{Engine, Storage, TenantHandle};

use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::sync::OnceCell;

use super::postgres::Database;
use super::race::{RACERS, race};
use super::temp::TempDir;

/// The time at which every store is opened.
pub const OPENED_AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

const FILE: &str = "pmp-auth.db";

/// A place for one store; gone, with the store in it, when dropped.
#[derive(Debug)]
pub enum Place {
    /// In this process.
    Memory,
    /// A file in a directory of its own.
    Sqlite(TempDir),
    /// A database of its own.
    Postgres(Database),
}

/// A store at a place, with its tenants. Dereferences to the store.
pub struct Bed {
    /// Where it lives.
    pub place: Place,
    /// The store.
    pub store: Arc<dyn Storage>,
}

impl Bed {
    /// A fresh store.
    pub async fn new(engine: Engine) -> Self {
        let place = Place::new(engine);
        let store = place.open().await;
        Self { place, store }
    }

    /// Opens the connections that a race will use, so that the racers do not wait for them in turn.
    pub async fn warm(&self) {
        let answers = race(RACERS, |_| {
            let store = Arc::clone(&self.store);
            async move { store.ready().await }
        });
        assert!(answers.await.iter().all(Result::is_ok), "the store is ready");
    }

    /// Closes the store and opens what it left behind.
    pub async fn reopen(&mut self) {
        self.store.close().await;
        self.store = self.place.open().await;
    }

    /// Makes this another timeline of the store, as a restored backup is.
    pub async fn lose_timeline(&mut self) {
        let random = if matches!(self.place, Place::Postgres(_)) {
            "gen_random_uuid()"
        } else {
            "randomblob(16)"
        };
        self.place.sql(&format!("UPDATE store_identity SET id = {random}")).await;
        self.reopen().await;
    }

    /// A tenant of this name.
    pub async fn tenant(&self, slug: &str) -> TenantHandle {
        let uid = self.tenant_uid(slug).await;
        self.store.tenant(&uid)
    }

    /// Its uid.
    pub async fn tenant_uid(&self, slug: &str) -> TenantUid {
        let slug = TenantSlug::parse(slug).expect("a slug");
        let uid = TenantUid::generate(&SystemEntropy);
        let ensured = self.store.ensure_tenant(&slug, &uid, OPENED_AT, &Audit::default()).await;
        ensured.expect("a tenant").uid
    }
}

impl Deref for Bed {
    type Target = dyn Storage;
    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

/// Brings the database at `url` up to date, from outside of any runtime.
pub fn migrate_postgres(url: &str) {
    let url = Secret::new(url.to_owned());
    let migrating = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(migrate::postgres::up(&url)).expect("a migration");
    });
    migrating.join().expect("the template is migrated");
}

/// The bytes of a migrated SQLite file: migrated once, copied for each test.
async fn migrated_file() -> &'static [u8] {
    static FILE: OnceCell<Vec<u8>> = OnceCell::const_new();
    let make = async || {
        let dir = TempDir::new();
        let path = dir.path().join("template.db");
        migrate::sqlite::up(&path).await.expect("a migration");
        std::fs::read(path).expect("the migrated file")
    };
    FILE.get_or_init(make).await
}

/// Runs each case on a fresh store of every engine, in a module named after it.
macro_rules! on_every_engine {
    ($($case:ident)*) => {
        on_engine!(memory, Memory, $($case)*);
        on_engine!(sqlite, Sqlite, $($case)*);
        on_engine!(postgres, Postgres, $($case)*);
    };
}

/// Runs each case, which starts a server of its own, on every engine.
macro_rules! on_every_server {
    ($($case:ident)*) => {
        on_every_server!(@ memory, Memory, $($case)*);
        on_every_server!(@ sqlite, Sqlite, $($case)*);
        on_every_server!(@ postgres, Postgres, $($case)*);
    };
    (@ $module:ident, $engine:ident, $($case:ident)*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(pmp_auth::storage::Engine::$engine).await;
            })*
        }
    };
}

/// Runs each case on the engines that keep what they have across a restart.
macro_rules! on_durable_engines {
    ($($case:ident)*) => {
        mod restart {
            use super::*;
            on_engine!(sqlite, Sqlite, $($case)*);
            on_engine!(postgres, Postgres, $($case)*);
        }
    };
}

/// Runs each case on a fresh store of one engine.
macro_rules! on_engine {
    ($module:ident, $engine:ident, $($case:ident)*) => {
        mod $module {
            use $crate::support::engines::Bed;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                super::$case(Bed::new(pmp_auth::storage::Engine::$engine).await).await;
            })*
        }
    };
}

impl Place {
    /// A place for a store of `engine`.
    pub fn new(engine: Engine) -> Self {
        match engine {
            Engine::Memory => Self::Memory,
            Engine::Sqlite => Self::Sqlite(TempDir::new()),
            Engine::Postgres => Self::Postgres(Database::new()),
        }
    }

    /// The SQLite file, if this is the place of one.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite(dir) => Some(dir.path().join(FILE)),
            Self::Memory | Self::Postgres(_) => None,
        }
    }

    /// Opens the store at this place; a second time, what the first one left behind.
    pub async fn open(&self) -> Arc<dyn Storage> {
        match self {
            Self::Memory => Arc::new(Memory::new(&epoch(), OPENED_AT)),
            Self::Sqlite(_) => {
                let path = self.file().expect("the place of a file");
                if !path.exists() {
                    std::fs::write(&path, migrated_file().await).expect("a copy of the template");
                }
                let (options, entropy) = (SqliteOptions::new(path), Arc::new(SystemEntropy));
                Arc::new(Sqlite::open(&options, entropy, OPENED_AT).await.expect("a store"))
            }
            Self::Postgres(database) => {
                let settings = PostgresSettings {
                    connection: Secret::new(database.url().to_owned()),
                    listen: None,
                    max_connections: 16,
                };
                Arc::new(Postgres::connect(&settings).await.expect("a store"))
            }
        }
    }

    /// Runs SQL by hand, past the store; the first column of each row, as text.
    pub async fn sql(&self, sql: &str) -> Vec<String> {
        match self {
            Self::Memory => panic!("memory speaks no SQL"),
            Self::Postgres(database) => database.psql(sql).lines().map(str::to_owned).collect(),
            Self::Sqlite(_) => {
                let path = self.file().expect("the place of a file");
                let options = sqlite::connect_options(&path);
                let mut connection = options.connect().await.expect("a connection");
                let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
                let rows = statement.fetch_all(&mut connection).await.expect("an answer");
                let texts = rows.iter().map(|row| match row.try_get_unchecked::<String, _>(0) {
                    Ok(text) => text,
                    Err(_) => row.get_unchecked::<i64, _>(0).to_string(),
                });
                let texts = texts.collect();
                connection.close().await.expect("a close");
                texts
            }
        }
    }

    /// What a configuration says of it.
    pub fn settings(&self) -> StorageEngine {
        match self {
            Self::Memory => StorageEngine::Memory,
            Self::Sqlite(dir) => StorageEngine::Sqlite { path: dir.path().join(FILE) },
            Self::Postgres(database) => StorageEngine::Postgres {
                connection: Secret::new(database.url().to_owned()),
                listen: None,
            },
        }
    }
}

fn epoch() -> String {
    let entropy: &dyn Entropy = &SystemEntropy;
    entropy.uuid().to_string()
}
