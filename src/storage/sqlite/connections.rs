use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::unavailable;
use super::file::connect_options;
use crate::storage::{Result, StoreError};

/// How long a caller waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// A few connections to one file, each lent to one caller at a time, in the order in which they
/// came. The library's pool would ask each connection after each use whether it lives; a file does
/// not go away, and a connection that is not given back is closed and replaced.
pub(super) struct Connections {
    options: SqliteConnectOptions,
    size: u32,
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<SqliteConnection>>>,
}

/// A connection in use. Dropping it closes it, which rolls back; [`give_back`](Self::give_back)
/// keeps it.
pub(super) struct Lent {
    connection: SqliteConnection,
    idle: Arc<Mutex<Vec<SqliteConnection>>>,
    // Last: the next caller's turn comes when the connection is closed or back.
    _place: OwnedSemaphorePermit,
}

impl Connections {
    /// `size` connections, the first of them opened now.
    pub(super) async fn open(path: &Path, size: u32, read_only: bool) -> Result<Self> {
        let options = connect_options(path);
        let options = if read_only { options.pragma("query_only", "on") } else { options };
        let connections = Self {
            options,
            size: size.max(1),
            places: Arc::new(Semaphore::new(size.max(1) as usize)),
            idle: Arc::default(),
        };
        connections.get().await?.give_back();
        Ok(connections)
    }

    /// The next free connection; a caller who leaves the queue changes nothing.
    pub(super) async fn get(&self) -> Result<Lent> {
        let turn = timeout(TURN, Arc::clone(&self.places).acquire_owned()).await;
        let turn = turn.map_err(|_| StoreError::unavailable("waited too long for a connection"))?;
        let place = turn.map_err(StoreError::unavailable)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(unavailable)?,
        };
        Ok(Lent { connection, idle: Arc::clone(&self.idle), _place: place })
    }

    /// Waits for those in use, and closes all.
    pub(super) async fn close(&self) {
        let all = timeout(TURN, self.places.acquire_many(self.size)).await;
        self.places.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in idle {
            let _ = connection.close().await;
        }
    }
}

impl Lent {
    /// The connection itself.
    pub(super) fn get(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Keeps the connection for the next caller: nothing is open on it.
    pub(super) fn give_back(self) {
        let Self { connection, idle, _place } = self;
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}
