use async_trait::async_trait;

use super::MemoryTenant;
use super::rows::AuditRow;
use crate::model::audit::AuditRecord;
use crate::storage::{AuditLog, Result, StoreError};

#[async_trait]
impl AuditLog for MemoryTenant {
    async fn record_audit(&self, records: &[AuditRecord]) -> Result<()> {
        let cap = self.store.0.caps.audit_records;
        self.change(|rows, _| {
            if rows.audits.len().saturating_add(records.len()) > cap {
                return Err(StoreError::unavailable("too many audit records"));
            }
            rows.audits.extend(records.iter().cloned().map(AuditRow::new));
            Ok(())
        })
    }

    async fn list_audit(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        Ok(self.read(|rows| {
            // A batch of failures may be written later than what happened after them.
            let mut all: Vec<_> = rows.audits.iter().map(|row| &row.record).collect();
            all.reverse();
            all.sort_by_key(|record| std::cmp::Reverse(record.at));
            all.into_iter().take(limit as usize).cloned().collect()
        }))
    }
}
