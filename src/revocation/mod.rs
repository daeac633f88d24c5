//! skeleton
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, Timestamp};
use crate::model::token::AccessClaims;
use crate::model::{ClientId, UserId};
use crate::storage::{LogEntry, Result, Sink, Storage};
use crate::tenant::Tenant;

/// This node's view of the revocation log.
pub struct View {}

/// Whether a token that verifies is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Standing {
    /// Nothing in the log matches it.
    Live,
    /// Something does.
    Revoked,
}

impl View {
    /// An empty view, never fresh until [`sync`](Self::sync)ed; becomes the store's sink.
    pub fn new(store: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Arc<Self> {
        todo!()
    }
    /// Follows the log once, to its end.
    pub async fn sync(&self) -> Result<()> {
        todo!()
    }
    /// Syncs at least every 500 ms, and on hints, until `stop`.
    pub async fn run(self: Arc<Self>, stop: tokio_util::sync::CancellationToken) {
        todo!()
    }
    /// Whether a verified token is revoked. `kid` is that of its header.
    pub async fn standing(
        &self,
        tenant: &Tenant,
        claims: &AccessClaims,
        kid: Option<&str>,
        now: Timestamp,
    ) -> Result<Standing> {
        todo!()
    }
    /// How long nothing may be minted for this user or client: a not-before covers it.
    pub async fn minting_blocked(
        &self,
        tenant: &Tenant,
        user: Option<UserId>,
        client: &ClientId,
        now: Timestamp,
    ) -> Result<Option<Duration>> {
        todo!()
    }
    /// Whether the view may answer at `now`.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        todo!()
    }
}

impl Sink for View {
    fn revoked(&self, entries: &[LogEntry]) {
        todo!()
    }
}
