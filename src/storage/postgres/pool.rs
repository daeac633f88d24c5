//! Connections. A small pool of our own: a pooled connection is used by one statement or one
//! transaction and comes back ready, so it is not asked again after each use whether it lives;
//! what did not end well is closed, not returned.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::storage::{Result, StoreError};

/// How long a caller waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(2);
/// A connection that was idle for so long is asked whether it lives.
const DOUBT_AFTER: Duration = Duration::from_secs(5);
/// How long it has for the answer.
const PING: Duration = Duration::from_millis(500);
/// A connection is not used longer, so that the server's memory for it comes back.
const LIFETIME: Duration = Duration::from_mins(30);

/// What every session is told. The server gives up just before the client does: its answer says that
/// nothing happened, silence does not.
const SESSION: [(&str, &str); 8] = [
    ("statement_timeout", "2800"),
    ("lock_timeout", "1000"),
    ("idle_in_transaction_session_timeout", "5000"),
    ("default_transaction_isolation", "read committed"),
    ("timezone", "UTC"),
    ("jit", "off"),
    // Every statement finds its rows by key: one plan does for all values, and making it costs more
    // than carrying it out. It is kept for as long as its statement: one that was made while a table
    // was small, and reads it whole, would still be used when it is large.
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
];

/// The pool.
pub(super) struct Pool {
    options: PgConnectOptions,
    permits: Semaphore,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Pooled>,
    /// Connections made before are not used again: the server they lead to is no primary any more.
    not_before: Option<Instant>,
}

struct Pooled {
    connection: PgConnection,
    born: Instant,
    used: Instant,
}

/// A connection on loan. Dropping it closes it; [`Lease::give_back`] returns it.
pub(super) struct Lease<'p> {
    pool: &'p Pool,
    pooled: Pooled,
    _permit: SemaphorePermit<'p>,
}

impl Pool {
    /// A pool of at most `size` connections; none is made yet.
    pub(super) fn new(options: PgConnectOptions, size: u32) -> Self {
        let options = options
            .application_name("pmp-auth")
            .statement_cache_capacity(256)
            .options(SESSION)
            .disable_statement_logging();
        Self {
            options,
            permits: Semaphore::new(usize::try_from(size.max(1)).unwrap_or(1)),
            idle: Mutex::default(),
        }
    }

    /// A connection, or the news that there is none to be had.
    pub(super) async fn acquire(&self) -> Result<Lease<'_>> {
        timeout(ACQUIRE, self.lease())
            .await
            .map_err(|_| StoreError::unavailable("no database connection within 2 s"))?
    }

    async fn lease(&self) -> Result<Lease<'_>> {
        let permit = self.permits.acquire().await.map_err(StoreError::unavailable)?;
        while let Some(mut pooled) = self.take_idle() {
            if pooled.used.elapsed() < DOUBT_AFTER || pooled.answers().await {
                return Ok(Lease { pool: self, pooled, _permit: permit });
            }
        }
        let pooled = self.connect().await?;
        Ok(Lease { pool: self, pooled, _permit: permit })
    }

    fn take_idle(&self) -> Option<Pooled> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let not_before = idle.not_before;
        while let Some(pooled) = idle.connections.pop() {
            let old = pooled.born.elapsed() > LIFETIME;
            if !old && not_before.is_none_or(|from| pooled.born > from) {
                return Some(pooled);
            }
        }
        None
    }

    async fn connect(&self) -> Result<Pooled> {
        let born = Instant::now();
        let mut connection =
            self.options.connect().await.map_err(|e| StoreError::unavailable(describe(e)))?;
        let row = sqlx::query("SELECT pg_is_in_recovery()")
            .persistent(false)
            .fetch_one(&mut connection)
            .await
            .map_err(StoreError::unavailable)?;
        if row.try_get(0).map_err(StoreError::unavailable)? {
            return Err(StoreError::unavailable("the database server is a standby"));
        }
        Ok(Pooled { connection, born, used: born })
    }

    /// Uses no connection made until now any more: they lead to a server that only reads.
    pub(super) fn drop_all(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.not_before = Some(Instant::now());
        idle.connections.clear();
    }

    /// Closes what is idle and lets nobody in any more.
    pub(super) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(
            &mut self.idle.lock().unwrap_or_else(PoisonError::into_inner).connections,
        );
        for pooled in idle {
            let _ = timeout(PING, pooled.connection.close()).await;
        }
    }
}

impl Pooled {
    async fn answers(&mut self) -> bool {
        matches!(timeout(PING, self.connection.ping()).await, Ok(Ok(())))
    }
}

impl Lease<'_> {
    /// The connection.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.pooled.connection
    }

    /// Returns the connection, which must be idle and outside a transaction.
    pub(super) fn give_back(mut self) {
        self.pooled.used = Instant::now();
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.not_before.is_none_or(|from| self.pooled.born > from)
            && !self.pool.permits.is_closed()
        {
            idle.connections.push(self.pooled);
        }
    }
}

/// An error of connecting, without the connection string.
fn describe(error: sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(_) => "storage.connection_string cannot be read".to_owned(),
        other => format!("connecting to the database: {other}"),
    }
}
