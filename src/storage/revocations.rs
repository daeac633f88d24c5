use async_trait::async_trait;

use super::Result;
use crate::base::Timestamp;
use crate::model::{Audit, Revocation, TenantUid};

/// One tenant's part in the revocation log.
#[async_trait]
pub trait Revocations: Send + Sync {
    /// Appends entries that no other method writes on its own (operators, key compromise). Audits
    /// `revocation.not_before` for subject, client and tenant entries.
    async fn append_revocations(
        &self,
        entries: &[Revocation],
        now: Timestamp,
        audit: &Audit,
    ) -> Result<()>;

    /// Whether any entry live at `now` matches one of the (kind, key) pairs: for tenants with
    /// `revocation: strict`, and for a node whose view is too old. One query.
    async fn matching_revocations(
        &self,
        keys: &[crate::model::RevocationKey],
        now: Timestamp,
    ) -> Result<Vec<Revocation>>;
}

/// The whole log, as a node follows it. Commit order is not sequence order, so a cursor is not a
/// number: it is the engine's own, and only the engine reads it.
#[async_trait]
pub trait RevocationLog: Send + Sync {
    /// All entries that are live at `now`, of every tenant, and the cursor from which to follow.
    async fn revocation_snapshot(&self, now: Timestamp) -> Result<LogPage>;

    /// What was committed after `cursor`, at most `limit` entries. Every entry is delivered at
    /// least once, whatever the order in which transactions commit.
    async fn revocation_tail(&self, cursor: &LogCursor, limit: u32) -> Result<Tail>;

    /// The same for the entries of one tenant: for a reader whose cursor this node does not know.
    async fn revocation_tail_of(
        &self,
        tenant: &TenantUid,
        cursor: &LogCursor,
        limit: u32,
    ) -> Result<Tail>;

    /// Writes again what the store lost (a fail-over that lost its tail) and applies it: a `grant`
    /// entry sets its state, a `session` entry ends it. Entries that are there are left alone.
    async fn reassert_revocations(&self, entries: &[LogEntry], now: Timestamp) -> Result<u64>;
}

/// Where a reader of the log is: `epoch` and the engine's place in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogCursor {
    /// Identifies one timeline of the store.
    pub epoch: String,
    /// The place; opaque outside the engine.
    pub place: String,
}

/// An entry and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The tenant.
    pub tenant: TenantUid,
    /// The entry.
    pub revocation: Revocation,
}

/// Some entries of the log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// The entries.
    pub entries: Vec<LogEntry>,
    /// Where to go on.
    pub cursor: LogCursor,
    /// Whether there was more than fitted.
    pub more: bool,
}

/// The answer to a reader.
#[derive(Debug, Clone)]
#[must_use]
pub enum Tail {
    /// What came since.
    Page(LogPage),
    /// The cursor is of another epoch: take a snapshot.
    Gone,
}
