use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::connections::Connections;
use super::error::unavailable;
use super::file::prepare_file;
use super::row::Columns;
use super::value::Statement;
use super::watch::Poller;
use super::{cleanup, sql};
use crate::base::{Entropy, Timestamp, hex};
use crate::model::TenantUid;
use crate::storage::{Cleaned, Engine, Result, Storage, StoreError, TenantHandle, Watch, schema};

/// How a SQLite store is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file; made, readable by its owner only, when it is not there.
    pub path: PathBuf,
    /// Connections that read.
    pub readers: u32,
    /// How often to look for changes by other processes.
    pub poll_every: Duration,
}

impl SqliteOptions {
    /// The file at `path`, four readers, a look every 250 ms.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), readers: 4, poll_every: Duration::from_millis(250) }
    }
}

/// A store in one SQLite file. Clones share it.
#[derive(Clone)]
pub struct Sqlite(Arc<Inner>);

struct Inner {
    path: PathBuf,
    writer: Connections,
    readers: Connections,
    entropy: Arc<dyn Entropy>,
    epoch: String,
    opened_at: Timestamp,
    watch: Watch,
    poller: Poller,
    statements: AtomicU64,
}

/// One tenant's view of it.
#[derive(Clone)]
pub(super) struct SqliteTenant {
    pub(super) store: Sqlite,
    pub(super) tenant: TenantUid,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the store; its schema must be there by then. `now` is when this process's epoch began.
    pub async fn open(
        options: &SqliteOptions,
        entropy: Arc<dyn Entropy>,
        now: Timestamp,
    ) -> Result<Self> {
        prepare_file(&options.path).await.map_err(|error| {
            StoreError::unavailable(format!("{}: {error}", options.path.display()))
        })?;
        let writer = Connections::open(&options.path, 1, false).await?;
        let readers = Connections::open(&options.path, options.readers, true).await?;
        let watch = Watch::default();
        let poller = Poller::start(&options.path, options.poll_every, watch.clone()).await?;
        let epoch = hex(&entropy.bytes::<8>());
        Ok(Self(Arc::new(Inner {
            path: options.path.clone(),
            writer,
            readers,
            entropy,
            epoch,
            opened_at: now,
            watch,
            poller,
            statements: AtomicU64::new(0),
        })))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The one connection that writes.
    pub(super) fn writer(&self) -> &Connections {
        &self.0.writer
    }

    pub(super) fn entropy(&self) -> &dyn Entropy {
        &*self.0.entropy
    }

    /// Names this process's timeline of the store.
    pub(super) fn epoch(&self) -> &str {
        &self.0.epoch
    }

    /// When that timeline began.
    pub(super) fn opened_at(&self) -> Timestamp {
        self.0.opened_at
    }

    pub(super) fn events(&self) -> &Watch {
        &self.0.watch
    }

    pub(super) fn count(&self, statements: u64) {
        self.0.statements.fetch_add(statements, Ordering::Relaxed);
    }

    /// Reads at most one row.
    pub(super) async fn row(&self, statement: Statement) -> Result<Option<SqliteRow>> {
        self.count(1);
        let mut reader = self.0.readers.get().await?;
        let row = statement.fetch_optional(reader.get()).await;
        reader.give_back();
        row.map_err(unavailable)
    }

    /// Reads all rows.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<SqliteRow>> {
        self.count(1);
        let mut reader = self.0.readers.get().await?;
        let rows = statement.fetch_all(reader.get()).await;
        reader.give_back();
        rows.map_err(unavailable)
    }
}

#[async_trait]
impl Storage for Sqlite {
    fn engine(&self) -> Engine {
        Engine::Sqlite
    }

    fn tenant(&self, tenant: &TenantUid) -> TenantHandle {
        TenantHandle::new(Arc::new(SqliteTenant { store: self.clone(), tenant: tenant.clone() }))
    }

    async fn cleanup_expired_data(
        &self,
        now: Timestamp,
        limit: u32,
        dry_run: bool,
    ) -> Result<Cleaned> {
        cleanup::cleanup(self, now, limit, dry_run).await
    }

    async fn ready(&self) -> Result<()> {
        let newest =
            sql!("SELECT CAST(max(sort_key) AS INTEGER) AS version FROM schema_migrations");
        let found = match self.row(newest).await {
            Ok(row) => row.map_or(Ok(None), |row| row.get::<Option<i64>>("version"))?,
            // A file without tables is a fresh one; whether it can be read, another look tells.
            Err(_) => self.row(sql!("SELECT 1 FROM sqlite_schema")).await.map(|_| None)?,
        };
        if found == Some(schema::VERSION) {
            return Ok(());
        }
        Err(StoreError::unavailable(schema::mismatch(found)))
    }

    async fn clock(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool> {
        let take = sql!(
            "INSERT INTO leases (name, holder, expires_at) VALUES (?1, ?2, ?4)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
             WHERE leases.holder = excluded.holder OR leases.expires_at <= ?3",
            name, holder, now, until,
        );
        self.write(move |tx| Box::pin(async move { Ok(tx.run(take).await? == 1) })).await
    }

    fn watch(&self) -> &Watch {
        &self.0.watch
    }

    fn round_trips(&self) -> u64 {
        self.0.statements.load(Ordering::Relaxed)
    }

    async fn close(&self) {
        self.0.poller.stop().await;
        // Readers first: a checkpoint waits for them.
        self.0.readers.close().await;
        if let Ok(mut writer) = self.0.writer.get().await {
            let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
            if let Err(error) = checkpoint.execute(writer.get()).await {
                tracing::warn!(error = %error, "the write-ahead log was not folded into the file");
            }
            writer.give_back();
        }
        self.0.writer.close().await;
    }
}
