//! Brings a database to the schema of this build, and says how far it is.
//!
//! Migrations are the files in `migrations/`, compiled in; they are only ever added to. Each runs in
//! one transaction together with its row in `schema_migrations`, so it is there whole or not at
//! all. One runner works at a time: on Postgres under an advisory lock that is polled for (a
//! blocking one deadlocks with `CREATE INDEX CONCURRENTLY`), on SQLite under a lock on a file beside
//! the database. This module knows nothing of what the tables mean; that is `storage/`.

mod files;
mod plan;
pub mod postgres;
pub mod sqlite;

use std::time::Duration;

use thiserror::Error;

pub use files::Migration;

/// How long a runner waits for another one by default.
pub const LOCK_WAIT: Duration = Duration::from_mins(1);

/// The version that a database has when nothing is pending.
pub const fn expected_version() -> i64 {
    crate::storage::schema::VERSION
}

/// What is applied and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What was there before, in order.
    pub present: Vec<String>,
    /// What this run applied, and how long each took.
    pub applied: Vec<(String, Duration)>,
    /// What is still to be applied.
    pub pending: Vec<String>,
}

impl Report {
    /// Whether the schema is the one that this build knows.
    pub fn is_current(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Why a schema was not migrated. Nothing of the migration concerned was left behind.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// The database cannot be reached, or its ledger cannot be read.
    #[error("the database cannot be reached: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection leads somewhere where migrations cannot run.
    #[error("{0}")]
    Unfit(&'static str),
    /// Another runner did not finish in time.
    #[error("another migration is running ({holder}); wait for it, or end it, and try again")]
    Busy {
        /// Who holds the lock, as far as can be told.
        holder: String,
    },
    /// A migration that was applied is not the file of this build.
    #[error(
        "migration {name} was changed after it was applied: the database has {found}, this build \
         {expected}; install the release that applied it, or restore the file"
    )]
    Changed {
        /// Which.
        name: String,
        /// Its checksum in this build.
        expected: String,
        /// Its checksum in the ledger.
        found: String,
    },
    /// The database has a migration that this build does not know.
    #[error("the schema is newer than this build (it has {0}); install a newer `pmp-auth`")]
    Newer(String),
    /// A migration that works in steps stopped half way.
    #[error("migration {0} is incomplete")]
    Incomplete(String),
    /// A pending migration is older than one that is applied.
    #[error("migration {0} is missing, although a newer one is applied")]
    Gap(String),
    /// A migration failed; its transaction was rolled back.
    #[error("migration {name} failed and was rolled back: {cause}")]
    Failed {
        /// Which.
        name: String,
        /// What the database said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MigrateError {
    fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}
