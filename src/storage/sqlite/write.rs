use std::future::Future;
use std::pin::Pin;

use sqlx::sqlite::SqliteRow;

use super::connections::Lent;
use super::error::{at_commit, unavailable};
use super::store::Sqlite;
use super::value::Statement;
use crate::base::Digest;
use crate::model::device::DeviceCode;
use crate::model::{Revocation, TenantUid};
use crate::storage::{LogEntry, Result, StoreError};

/// What a change does, once it is its turn.
pub(super) type Work<'t, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 't>>;

/// A change under way: the only writer, until it commits.
///
/// The statements that begin and end it are our own. After an error such as a full disk SQLite has
/// rolled back already, and whoever keeps count of transactions beside it is out of step for good:
/// a connection that did not end its transaction cleanly is closed, which rolls back, and replaced.
pub(super) struct Tx {
    connection: Lent,
    store: Sqlite,
    revoked: Vec<LogEntry>,
    hint: bool,
    decided: Option<Digest<DeviceCode>>,
}

impl Sqlite {
    /// Runs `work` as one `BEGIN IMMEDIATE`; what it returns is committed, its error rolls back.
    /// Once begun it comes to its end, whatever becomes of the caller.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T> + Send + 'static,
    {
        let connection = self.writer().get().await?;
        let store = self.clone();
        let task = tokio::spawn(async move { store.transact(connection, work).await });
        task.await.map_err(StoreError::unknown)?
    }

    async fn transact<T, F>(&self, mut connection: Lent, work: F) -> Result<T>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T>,
    {
        self.count(1);
        let begin = sqlx::query("BEGIN IMMEDIATE").execute(connection.get()).await;
        begin.map_err(unavailable)?;
        let mut tx =
            Tx { connection, store: self.clone(), revoked: Vec::new(), hint: false, decided: None };
        match work(&mut tx).await {
            Ok(outcome) => tx.commit().await.map(|()| outcome),
            Err(error) => {
                tx.rollback().await;
                Err(error)
            }
        }
    }
}

impl Tx {
    /// The store that is being changed.
    pub(super) fn store(&self) -> &Sqlite {
        &self.store
    }

    /// Runs a statement; how many rows it changed.
    pub(super) async fn run(&mut self, statement: Statement) -> Result<u64> {
        self.store.count(1);
        let done = statement.execute(self.connection.get()).await.map_err(unavailable)?;
        Ok(done.rows_affected())
    }

    /// The row, if there is one.
    pub(super) async fn row(&mut self, statement: Statement) -> Result<Option<SqliteRow>> {
        self.store.count(1);
        statement.fetch_optional(self.connection.get()).await.map_err(unavailable)
    }

    /// All rows.
    pub(super) async fn rows(&mut self, statement: Statement) -> Result<Vec<SqliteRow>> {
        self.store.count(1);
        statement.fetch_all(self.connection.get()).await.map_err(unavailable)
    }

    /// Remembers what the sink is to hear of once this is committed.
    pub(super) fn note_revoked(&mut self, tenant: &TenantUid, revocation: Revocation) {
        self.revoked.push(LogEntry { tenant: tenant.clone(), revocation });
    }

    /// Something that nodes cache has changed: their readers are told once this is committed.
    pub(super) fn hint(&mut self) {
        self.hint = true;
    }

    /// A user decided about this device: who waits for it is told once this is committed.
    pub(super) fn note_decided(&mut self, device: Digest<DeviceCode>) {
        self.decided = Some(device);
    }

    async fn commit(self) -> Result<()> {
        let Self { mut connection, store, revoked, hint, decided } = self;
        store.count(1);
        sqlx::query("COMMIT").execute(connection.get()).await.map_err(at_commit)?;
        connection.give_back();
        // Before the method returns: what this node revoked, this node refuses at once.
        store.events().revoked(&revoked);
        if hint || !revoked.is_empty() {
            store.events().hint();
        }
        if decided.is_some() {
            store.events().decided(decided);
        }
        Ok(())
    }

    async fn rollback(self) {
        let Self { mut connection, store, .. } = self;
        store.count(1);
        match sqlx::query("ROLLBACK").execute(connection.get()).await {
            Ok(_) => connection.give_back(),
            Err(error) => tracing::debug!(error = %error, "SQLite had rolled back already"),
        }
    }
}
