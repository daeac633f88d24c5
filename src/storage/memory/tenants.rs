use std::time::Duration;

use async_trait::async_trait;

use super::state::{Change as Commit, Concerned};
use super::{Memory, State};
use crate::base::Timestamp;
use crate::model::audit::Action;
use crate::model::tenant::{TenantRecord, TenantStatus};
use crate::model::{Audit, Revocation, RevocationKey, TenantSlug, TenantUid};
use crate::storage::{Change, ChangeTenant, Result, StoreError, Tenants, horizon};

/// Longer than any access token of an earlier process can live.
const LONGEST_TOKEN: Duration = Duration::from_hours(24);

#[async_trait]
impl Tenants for Memory {
    async fn ensure_tenant(
        &self,
        slug: &TenantSlug,
        uid: &TenantUid,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<TenantRecord> {
        let (record, revoked) = {
            let mut state = self.lock();
            if let Some(record) = by_slug(&state, slug) {
                return Ok(record.clone());
            }
            let fallback = TenantUid::stored(TenantUid::DEFAULT);
            let is_default = slug.as_str() == TenantUid::DEFAULT;
            let free = is_default && !state.tenants.contains_key(&fallback);
            let uid = if free { fallback } else { uid.clone() };
            if state.tenants.contains_key(&uid) {
                return Err(StoreError::unavailable(format!("tenant uid {uid} is taken")));
            }
            let (slug, status) = (slug.clone(), TenantStatus::Active);
            let record = TenantRecord { uid: uid.clone(), slug, status, created_at: now };
            state.tenants.insert(uid.clone(), record.clone());
            let mut change = Commit::default();
            change.append(self.nothing_from_before());
            change.record(Action::TenantCreated, now, audit, Concerned::resource("tenant", &uid));
            (record, state.commit(&uid, change, self.0.caps.audit_records))
        };
        self.0.watch.revoked(&revoked);
        self.0.watch.hint();
        Ok(record)
    }

    async fn find_tenant(&self, slug: &TenantSlug) -> Result<Option<TenantRecord>> {
        Ok(by_slug(&self.lock(), slug).cloned())
    }

    async fn list_tenants(&self) -> Result<Vec<TenantRecord>> {
        let state = self.lock();
        let standing = state.tenants.values().filter(|t| t.status != TenantStatus::Deleted);
        let mut all: Vec<_> = standing.cloned().collect();
        all.sort_by(|a, b| a.slug.as_str().cmp(b.slug.as_str()));
        Ok(all)
    }

    async fn suspend_tenant(&self, uid: &TenantUid, change: &Change<'_>) -> Result<ChangeTenant> {
        Ok(self.set_status(uid, TenantStatus::Suspended, change.now, change.audit, |_, commit| {
            commit.not_before(RevocationKey::Tenant, change);
        }))
    }

    async fn resume_tenant(
        &self,
        uid: &TenantUid,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<ChangeTenant> {
        Ok(self.set_status(uid, TenantStatus::Active, now, audit, |_, _| {}))
    }

    async fn delete_tenant(&self, uid: &TenantUid, change: &Change<'_>) -> Result<ChangeTenant> {
        Ok(self.set_status(
            uid,
            TenantStatus::Deleted,
            change.now,
            change.audit,
            |state, commit| {
                commit.not_before(RevocationKey::Tenant, change);
                let rows = state.tenant(uid);
                let audits = std::mem::take(&mut rows.audits);
                *rows = super::Rows { audits, ..super::Rows::default() };
            },
        ))
    }
}

impl Memory {
    /// Tokens of an earlier process are dead here: its grants and revocations died with it. Its own
    /// keys did too; this is for keys that come from the configuration.
    fn nothing_from_before(&self) -> Revocation {
        let started_at = self.0.started_at;
        Revocation {
            key: RevocationKey::Tenant,
            audience: None,
            not_before: Some(Timestamp::from_seconds(started_at.seconds() - 1)),
            expires_at: started_at.plus(LONGEST_TOKEN + horizon::LEEWAY),
            at: started_at,
        }
    }

    fn set_status(
        &self,
        uid: &TenantUid,
        to: TenantStatus,
        now: Timestamp,
        audit: &Audit,
        work: impl FnOnce(&mut State, &mut Commit),
    ) -> ChangeTenant {
        let revoked = {
            let mut state = self.lock();
            let Some(record) = state.tenants.get_mut(uid) else { return ChangeTenant::Unknown };
            if record.status == to {
                return ChangeTenant::Unchanged;
            }
            if record.status == TenantStatus::Deleted {
                return ChangeTenant::Unknown;
            }
            record.status = to;
            let mut change = Commit::default();
            work(&mut state, &mut change);
            let action = match to {
                TenantStatus::Active => Action::TenantResumed,
                TenantStatus::Suspended => Action::TenantSuspended,
                TenantStatus::Deleted => Action::TenantDeleted,
            };
            change.record(action, now, audit, Concerned::resource("tenant", uid));
            state.commit(uid, change, self.0.caps.audit_records)
        };
        self.0.watch.revoked(&revoked);
        self.0.watch.hint();
        ChangeTenant::Changed
    }
}

fn by_slug<'a>(state: &'a State, slug: &TenantSlug) -> Option<&'a TenantRecord> {
    state.tenants.values().find(|t| t.slug == *slug && t.status != TenantStatus::Deleted)
}
