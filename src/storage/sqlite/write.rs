use std::future::Future;
use std::pin::Pin;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Execute as _};

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
///
/// Each statement is a way to the driver's thread and back. So the one that begins goes together with
/// a first that reads, and the one that commits with the audit record, which is written last.
pub(super) struct Tx {
    connection: Lent,
    store: Sqlite,
    begun: bool,
    last: Option<Statement>,
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

    async fn transact<T, F>(&self, connection: Lent, work: F) -> Result<T>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> Work<'t, T>,
    {
        let mut tx = Tx {
            connection,
            store: self.clone(),
            begun: false,
            last: None,
            revoked: Vec::new(),
            hint: false,
            decided: None,
        };
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
        self.write_last().await?;
        self.begin().await?;
        self.store.count(1);
        let done = statement.execute(self.connection.get()).await.map_err(unavailable)?;
        Ok(done.rows_affected())
    }

    /// The row, if there is one.
    pub(super) async fn row(&mut self, statement: Statement) -> Result<Option<SqliteRow>> {
        let statement = self.reading(statement).await?;
        self.store.count(1);
        statement.fetch_optional(self.connection.get()).await.map_err(unavailable)
    }

    /// All rows.
    pub(super) async fn rows(&mut self, statement: Statement) -> Result<Vec<SqliteRow>> {
        let statement = self.reading(statement).await?;
        self.store.count(1);
        statement.fetch_all(self.connection.get()).await.map_err(unavailable)
    }

    /// Runs a statement whose outcome nobody looks at, at the latest with the commit.
    pub(super) async fn run_last(&mut self, statement: Statement) -> Result<()> {
        self.write_last().await?;
        self.begin().await?;
        self.last = Some(statement);
        Ok(())
    }

    async fn write_last(&mut self) -> Result<()> {
        let Some(statement) = self.last.take() else { return Ok(()) };
        self.store.count(1);
        statement.execute(self.connection.get()).await.map(drop).map_err(unavailable)
    }

    /// What changes rows is not sent together with `BEGIN`, after which SQLite still has the count
    /// of rows of the change before.
    async fn begin(&mut self) -> Result<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        self.store.count(1);
        let begin = sqlx::query("BEGIN IMMEDIATE").execute(self.connection.get()).await;
        begin.map(drop).map_err(unavailable)
    }

    async fn reading(&mut self, statement: Statement) -> Result<Statement> {
        self.write_last().await?;
        if std::mem::replace(&mut self.begun, true) {
            return Ok(statement);
        }
        joined("BEGIN IMMEDIATE; ", statement, "")
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
        let Self { mut connection, store, begun, last, revoked, hint, decided } = self;
        if begun {
            store.count(1);
            let commit = match last {
                Some(statement) => joined("", statement, "; COMMIT")?,
                None => sqlx::query("COMMIT"),
            };
            commit.execute(connection.get()).await.map_err(at_commit)?;
        }
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
        let Self { mut connection, store, begun, .. } = self;
        if !begun {
            connection.give_back();
            return;
        }
        store.count(1);
        match sqlx::query("ROLLBACK").execute(connection.get()).await {
            Ok(_) => connection.give_back(),
            Err(error) => tracing::debug!(error = %error, "SQLite had rolled back already"),
        }
    }
}

/// A statement and one without values, sent as one. The texts are constants, and so is what they make.
fn joined(before: &str, mut statement: Statement, after: &str) -> Result<Statement> {
    let arguments = statement.take_arguments().map_err(StoreError::unavailable)?;
    let text = format!("{before}{}{after}", statement.sql().as_str());
    Ok(sqlx::query_with(AssertSqlSafe(text), arguments.unwrap_or_default()))
}
