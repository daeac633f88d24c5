use async_trait::async_trait;

use super::Result;
use crate::model::audit::AuditRecord;

/// The audit log.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Appends records of events that changed nothing else.
    async fn record_audit(&self, records: &[AuditRecord]) -> Result<()>;

    /// The newest `limit` records, newest first.
    async fn list_audit(&self, limit: u32) -> Result<Vec<AuditRecord>>;
}
