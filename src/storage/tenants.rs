use async_trait::async_trait;

use super::{Change, Result};
use crate::base::Timestamp;
use crate::model::tenant::TenantRecord;
use crate::model::{Audit, TenantSlug, TenantUid};

/// The tenants themselves.
#[async_trait]
pub trait Tenants: Send + Sync {
    /// The tenant with this slug that is not deleted; when there is none, makes one with `uid`
    /// (with [`TenantUid::DEFAULT`] when the slug is `default` and that uid was never used). Any
    /// number of nodes that ask at once get the same record. Audits `tenant.created`.
    async fn ensure_tenant(
        &self,
        slug: &TenantSlug,
        uid: &TenantUid,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<TenantRecord>;

    /// The tenant with this slug that is not deleted.
    async fn find_tenant(&self, slug: &TenantSlug) -> Result<Option<TenantRecord>>;

    /// All that are not deleted, by slug.
    async fn list_tenants(&self) -> Result<Vec<TenantRecord>>;

    /// Suspends: also writes a `tenant` not-before of `change.now` + 10 s, so that tokens issued before
    /// stay dead after it is resumed. `change.not_after` is the expiry of that entry.
    async fn suspend_tenant(&self, uid: &TenantUid, change: &Change<'_>) -> Result<ChangeTenant>;

    /// Lets a suspended tenant serve again.
    async fn resume_tenant(
        &self,
        uid: &TenantUid,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<ChangeTenant>;

    /// Marks the tenant deleted, writes its not-before, and deletes every other row of it except
    /// audit records and revocations. Its slug is free again, for another uid.
    async fn delete_tenant(&self, uid: &TenantUid, change: &Change<'_>) -> Result<ChangeTenant>;
}

/// The outcome of changing a tenant's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ChangeTenant {
    /// It is so now.
    Changed,
    /// It was so already.
    Unchanged,
    /// No such tenant.
    Unknown,
}
