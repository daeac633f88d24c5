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

/// The kinds of resource that audit records name.
const RESOURCES: &[&str] = &[
    "api_key",
    "client",
    "code",
    "consent",
    "device_code",
    "grant",
    "key",
    "request",
    "session",
    "subject",
    "tenant",
    "token",
    "user",
];

/// The kind of resource that was stored; `other` when no version of ours wrote it.
pub fn resource_kind(stored: &str) -> &'static str {
    RESOURCES.iter().find(|kind| **kind == stored).copied().unwrap_or("other")
}
