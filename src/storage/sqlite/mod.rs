//! The SQLite engine: one file, nothing to install, durable.
//!
//! One connection writes, a few read (WAL). Writers queue in this process, in the order in which
//! they came, and each change is one `BEGIN IMMEDIATE`: what must happen once is decided and
//! written under that lock, so no `SQLITE_BUSY` of our own making ever surfaces. A change runs in a
//! task of its own, so that a caller who leaves cannot leave it half done. Another process (a
//! command beside the server) is noticed by polling `PRAGMA data_version`.
//!
//! Tables and columns have the names they have on Postgres; times are milliseconds, identifiers and
//! digests are blobs, JSON is text. The schema itself belongs to `migrate/`.

mod access_tokens;
mod api_keys;
mod attempts;
mod audit_log;
mod cleanup;
mod clients;
mod codes;
mod connections;
mod consents;
mod devices;
mod error;
mod file;
mod grants;
mod jtis;
mod keys;
mod peppers;
mod pushed;
mod redeem;
mod refresh;
mod revocations;
mod ring;
mod row;
mod sessions;
mod status_lists;
mod store;
mod tenants;
mod users;
mod value;
mod watch;
mod write;

pub use file::{connect_options, prepare_file};
pub use store::{Sqlite, SqliteOptions};

use store::SqliteTenant;
use value::sql;
use write::Tx;

#[cfg(test)]
mod tests;
