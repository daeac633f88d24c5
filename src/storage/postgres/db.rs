//! Sends statements: each with a time limit of its own, counted, tried again where two
//! transactions were in each other's way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::encode::Encode;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::types::Type;
use sqlx::{Arguments as _, Row as _, SqlSafeStr, SqlStr};
use tokio::time::timeout;

use super::failure::{Effect, Failure};
use super::pool::{Lease, Pool};
use crate::base::{Entropy, SystemEntropy, Timestamp};
use crate::storage::{Result, StoreError};

/// How long a statement has for its answer; its connection is closed when it does not come.
const ANSWER: Duration = Duration::from_secs(3);
/// How often a statement that met another one is sent again.
const RETRIES: u32 = 3;

/// A statement and its arguments.
#[derive(Clone)]
pub(super) struct Sql {
    text: SqlStr,
    arguments: PgArguments,
    unfit: Option<String>,
}

/// A statement without arguments yet.
pub(super) fn sql(text: impl SqlSafeStr) -> Sql {
    Sql { text: text.into_sql_str(), arguments: PgArguments::default(), unfit: None }
}

impl Sql {
    /// Adds the next argument.
    pub(super) fn bind<'t, T: Encode<'t, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        if let Err(error) = self.arguments.add(value) {
            self.unfit = Some(error.to_string());
        }
        self
    }

    /// Adds a time.
    pub(super) fn at(self, at: Timestamp) -> Self {
        self.bind(at.to_chrono())
    }

    /// Adds a time, or null.
    pub(super) fn at_if(self, at: Option<Timestamp>) -> Self {
        self.bind(at.map(Timestamp::to_chrono))
    }
}

/// The pool and the counter of round trips.
pub(super) struct Db {
    pub(super) pool: Pool,
    round_trips: AtomicU64,
}

impl Db {
    /// Over `pool`.
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, round_trips: AtomicU64::new(0) }
    }

    /// Statements sent so far.
    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// The rows of a statement that only reads.
    pub(super) async fn read(&self, statement: Sql) -> Result<Vec<PgRow>> {
        self.alone(statement, Effect::None).await
    }

    /// The first row of a statement that only reads.
    pub(super) async fn read_one(&self, statement: Sql) -> Result<Option<PgRow>> {
        Ok(self.read(statement).await?.into_iter().next())
    }

    /// The rows of a statement that is a transaction of its own.
    pub(super) async fn write(&self, statement: Sql) -> Result<Vec<PgRow>> {
        self.alone(statement, Effect::Commits).await
    }

    /// The first row of a statement that is a transaction of its own.
    pub(super) async fn write_one(&self, statement: Sql) -> Result<Option<PgRow>> {
        Ok(self.write(statement).await?.into_iter().next())
    }

    /// The one row of a statement that always has one.
    pub(super) async fn decide(&self, statement: Sql) -> Result<PgRow> {
        self.write_one(statement).await?.ok_or_else(|| StoreError::unavailable("no verdict"))
    }

    /// A statement that answers no request and is not counted as one.
    pub(super) async fn notify(&self, statement: Sql) -> Result<()> {
        let mut lease = self.pool.acquire().await?;
        match self.sent(&mut lease, statement, Effect::Commits).await {
            Ok(_) => lease.give_back(),
            Err(failure) => self.sort_out(lease, &failure),
        }
        Ok(())
    }

    async fn alone(&self, statement: Sql, effect: Effect) -> Result<Vec<PgRow>> {
        let mut round = 0;
        loop {
            let mut lease = self.pool.acquire().await?;
            let failure = match self.send(&mut lease, statement.clone(), effect).await {
                Ok(rows) => {
                    lease.give_back();
                    return Ok(rows);
                }
                Err(failure) => failure,
            };
            self.sort_out(lease, &failure);
            self.pause_or_fail(failure, &mut round).await?;
        }
    }

    /// `lock`, then `then`, in one transaction at READ COMMITTED: what `then` sees was committed
    /// after the lock was got. The rows of both.
    pub(super) async fn lock_then(&self, lock: Sql, then: Sql) -> Result<(Vec<PgRow>, Vec<PgRow>)> {
        let mut round = 0;
        loop {
            let mut lease = self.pool.acquire().await?;
            let failure = match self.transaction(&mut lease, &lock, &then).await {
                Ok(rows) => {
                    lease.give_back();
                    return Ok(rows);
                }
                Err(failure) => failure,
            };
            // The transaction is open still: closing the connection is the surest way to end it.
            drop(lease);
            if failure.read_only {
                self.pool.drop_all();
            }
            self.pause_or_fail(failure, &mut round).await?;
        }
    }

    async fn transaction(
        &self,
        lease: &mut Lease<'_>,
        lock: &Sql,
        then: &Sql,
    ) -> std::result::Result<(Vec<PgRow>, Vec<PgRow>), Failure> {
        self.send(lease, sql("BEGIN"), Effect::None).await?;
        let locked = self.send(lease, lock.clone(), Effect::None).await?;
        let rows = self.send(lease, then.clone(), Effect::None).await?;
        self.send(lease, sql("COMMIT"), Effect::Commits).await?;
        Ok((locked, rows))
    }

    async fn send(
        &self,
        lease: &mut Lease<'_>,
        statement: Sql,
        effect: Effect,
    ) -> std::result::Result<Vec<PgRow>, Failure> {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        self.sent(lease, statement, effect).await
    }

    async fn sent(
        &self,
        lease: &mut Lease<'_>,
        statement: Sql,
        effect: Effect,
    ) -> std::result::Result<Vec<PgRow>, Failure> {
        if let Some(why) = statement.unfit {
            return Err(Failure::of(sqlx::Error::Encode(why.into()), Effect::None));
        }
        let query = sqlx::query_with(statement.text, statement.arguments);
        match timeout(ANSWER, query.fetch_all(lease.connection())).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(Failure::of(error, effect)),
            Err(_) => Err(Failure::timed_out(effect)),
        }
    }

    fn sort_out(&self, lease: Lease<'_>, failure: &Failure) {
        if failure.read_only {
            self.pool.drop_all();
        } else if !failure.broken {
            lease.give_back();
        }
    }

    /// Waits a little and lets the caller try again, or says that this is the end of it.
    async fn pause_or_fail(&self, failure: Failure, round: &mut u32) -> Result<()> {
        if !failure.retry || *round == RETRIES {
            return Err(failure.error);
        }
        *round += 1;
        let [chance] = (&SystemEntropy as &dyn Entropy).bytes::<1>();
        let millis = u64::from(5_u32 << *round) + u64::from(chance) / 16;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(())
    }
}

/// The value of a column.
pub(super) fn get<'r, T>(row: &'r PgRow, column: &str) -> Result<T>
where
    T: sqlx::Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(column).map_err(StoreError::unavailable)
}

/// The value of a column of times.
pub(super) fn time(row: &PgRow, column: &str) -> Result<Timestamp> {
    Ok(Timestamp::from_chrono(get(row, column)?))
}

/// The value of a column of times that may be null.
pub(super) fn time_if(row: &PgRow, column: &str) -> Result<Option<Timestamp>> {
    Ok(get::<Option<_>>(row, column)?.map(Timestamp::from_chrono))
}

/// A row that cannot be what we wrote.
pub(super) fn unreadable(what: &'static str) -> StoreError {
    StoreError::unavailable(format!("a stored {what} cannot be read"))
}
