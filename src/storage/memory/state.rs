use std::collections::{BTreeMap, HashMap};

use super::log::Log;
use super::rows::{AuditRow, Rows};
use crate::base::Timestamp;
use crate::model::audit::{Action, AuditRecord};
use crate::model::tenant::TenantRecord;
use crate::model::{
    Audit, ClientId, GrantId, Revocation, RevocationKey, SessionId, TenantUid, UserId,
};
use crate::storage::{LogEntry, horizon};

/// All that the engine knows.
#[derive(Default)]
pub(super) struct State {
    /// Tenants, deleted ones too: their uids are never used again.
    pub(super) tenants: BTreeMap<TenantUid, TenantRecord>,
    rows: HashMap<TenantUid, Rows>,
    pub(super) log: Log,
    pub(super) ring: BTreeMap<u8, [u8; 32]>,
    /// Check values of peppers, and when each was retired.
    pub(super) peppers: BTreeMap<u8, ([u8; 32], Option<Timestamp>)>,
}

impl State {
    /// The rows of a tenant, from now on.
    pub(super) fn tenant(&mut self, uid: &TenantUid) -> &mut Rows {
        self.rows.entry(uid.clone()).or_default()
    }

    /// As [`tenant`](Self::tenant), and the log to read.
    pub(super) fn tenant_and_log(&mut self, uid: &TenantUid) -> (&mut Rows, &Log) {
        (self.rows.entry(uid.clone()).or_default(), &self.log)
    }

    /// The rows of a tenant, if there are any.
    pub(super) fn existing(&self, uid: &TenantUid) -> Option<&Rows> {
        self.rows.get(uid)
    }

    pub(super) fn all_rows(&mut self) -> impl Iterator<Item = &mut Rows> {
        self.rows.values_mut()
    }

    /// Writes what a change revoked and recorded; returns the entries for the sink.
    pub(super) fn commit(
        &mut self,
        uid: &TenantUid,
        change: Change,
        audit_cap: usize,
    ) -> Vec<LogEntry> {
        let entry = |revocation| LogEntry { tenant: uid.clone(), revocation };
        let entries: Vec<_> = change.revoked.into_iter().map(entry).collect();
        for entry in &entries {
            self.log.append(entry.clone());
        }
        if !change.audits.is_empty() {
            let audits = &mut self.tenant(uid).audits;
            audits.extend(change.audits.into_iter().map(AuditRow::new));
            let excess = audits.len().saturating_sub(audit_cap.saturating_mul(2));
            audits.drain(..excess);
        }
        entries
    }
}

/// What a change leaves beside the rows it changed.
#[derive(Default)]
pub(super) struct Change {
    revoked: Vec<Revocation>,
    audits: Vec<AuditRecord>,
    hint: bool,
}

impl Change {
    /// Whether readers should look sooner than planned.
    pub(super) fn is_notable(&self) -> bool {
        self.hint || !self.revoked.is_empty()
    }

    /// Something that nodes cache has changed.
    pub(super) fn hint(&mut self) {
        self.hint = true;
    }

    pub(super) fn append(&mut self, entry: Revocation) {
        self.revoked.push(entry);
    }

    pub(super) fn revoke(&mut self, key: RevocationKey, expires_at: Timestamp, at: Timestamp) {
        self.append(Revocation { key, audience: None, not_before: None, expires_at, at });
    }

    /// Kills what was issued, and what is being issued on other nodes meanwhile.
    pub(super) fn not_before(&mut self, key: RevocationKey, change: &crate::storage::Change<'_>) {
        self.append(Revocation {
            key,
            audience: None,
            not_before: Some(change.now.plus(horizon::NOT_BEFORE_AHEAD)),
            expires_at: change.not_after,
            at: change.now,
        });
    }

    pub(super) fn record(&mut self, action: Action, at: Timestamp, audit: &Audit, of: Concerned) {
        self.audits.push(AuditRecord {
            at,
            action,
            user: of.user,
            client: of.client,
            session: of.session,
            resource: of.resource,
            success: !matches!(
                action,
                Action::CodeReplayed
                    | Action::CodeKilled
                    | Action::RefreshReused
                    | Action::RefreshForged
            ),
            detail: of.detail,
            context: audit.clone(),
        });
    }
}

/// Whom an audit record concerns.
#[derive(Default)]
pub(super) struct Concerned {
    pub(super) user: Option<UserId>,
    pub(super) client: Option<ClientId>,
    pub(super) session: Option<SessionId>,
    pub(super) resource: Option<(&'static str, String)>,
    pub(super) detail: Option<serde_json::Value>,
}

impl Concerned {
    pub(super) fn user(id: UserId) -> Self {
        Self { user: Some(id), ..Self::default() }
    }

    pub(super) fn client(id: &ClientId) -> Self {
        Self { client: Some(id.clone()), ..Self::default() }
    }

    pub(super) fn resource(kind: &'static str, name: &(impl ToString + ?Sized)) -> Self {
        Self { resource: Some((kind, name.to_string())), ..Self::default() }
    }

    pub(super) fn grant(
        id: GrantId,
        user: Option<UserId>,
        client: &ClientId,
        session: Option<SessionId>,
    ) -> Self {
        Self { user, session, client: Some(client.clone()), ..Self::resource("grant", &id) }
    }
}
