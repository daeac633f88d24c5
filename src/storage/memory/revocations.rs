use async_trait::async_trait;

use super::state::Concerned;
use super::{Memory, MemoryTenant, State};
use crate::base::Timestamp;
use crate::model::audit::Action;
use crate::model::grant::GrantState;
use crate::model::{Audit, Revocation, RevocationKey, TenantUid};
use crate::storage::{
    LogCursor, LogEntry, LogPage, Result, RevocationLog, Revocations, Tail, horizon,
};

#[async_trait]
impl Revocations for MemoryTenant {
    async fn append_revocations(
        &self,
        entries: &[Revocation],
        now: Timestamp,
        audit: &Audit,
    ) -> Result<()> {
        self.change(|_, change| {
            for entry in entries {
                if matches!(
                    entry.key,
                    RevocationKey::Subject(_) | RevocationKey::Client(_) | RevocationKey::Tenant
                ) {
                    let of = Concerned::resource(entry.key.kind(), entry.key.key());
                    change.record(Action::NotBeforeRaised, now, audit, of);
                }
                change.append(entry.clone());
            }
        });
        Ok(())
    }

    async fn matching_revocations(
        &self,
        keys: &[RevocationKey],
        now: Timestamp,
    ) -> Result<Vec<Revocation>> {
        let state = self.store.lock();
        let matching = keys.iter().flat_map(|key| state.log.matching(&self.uid, key));
        Ok(matching.filter(|entry| now < entry.expires_at).cloned().collect())
    }
}

#[async_trait]
impl RevocationLog for Memory {
    async fn revocation_snapshot(&self, now: Timestamp) -> Result<LogPage> {
        let state = self.lock();
        let cursor = self.cursor(state.log.last());
        Ok(LogPage { entries: state.log.live(now), cursor, more: false })
    }

    async fn revocation_tail(&self, cursor: &LogCursor, limit: u32) -> Result<Tail> {
        let place = cursor.place.parse().ok().filter(|_| cursor.epoch == self.0.epoch);
        let Some(seq) = place else { return Ok(Tail::Gone) };
        let state = self.lock();
        let page = state.log.after(seq, limit as usize);
        let last = page.last().map_or(seq, |(seq, _)| *seq);
        Ok(Tail::Page(LogPage {
            more: last < state.log.last() && !page.is_empty(),
            cursor: self.cursor(last),
            entries: page.into_iter().map(|(_, entry)| entry).collect(),
        }))
    }

    async fn revocation_tail_of(
        &self,
        tenant: &TenantUid,
        cursor: &LogCursor,
        limit: u32,
    ) -> Result<Tail> {
        let place = cursor.place.parse().ok().filter(|_| cursor.epoch == self.0.epoch);
        let Some(seq) = place else { return Ok(Tail::Gone) };
        let (state, limit) = (self.lock(), limit as usize);
        let mut page = state.log.after_of(tenant, seq, limit.saturating_add(1));
        let more = page.len() > limit;
        page.truncate(limit);
        let last = page.last().filter(|_| more).map_or(state.log.last(), |(seq, _)| *seq);
        Ok(Tail::Page(LogPage {
            more,
            cursor: self.cursor(last),
            entries: page.into_iter().map(|(_, entry)| entry).collect(),
        }))
    }

    async fn reassert_revocations(&self, entries: &[LogEntry], now: Timestamp) -> Result<u64> {
        let lost: Vec<LogEntry> = {
            let mut state = self.lock();
            let mut lost = Vec::new();
            for entry in entries {
                if is_lost(&state, entry, now) {
                    state.log.append(entry.clone());
                    apply(&mut state, entry, now);
                    lost.push(entry.clone());
                }
            }
            lost
        };
        self.0.watch.revoked(&lost);
        if !lost.is_empty() {
            self.0.watch.hint();
        }
        Ok(lost.len() as u64)
    }
}

impl Memory {
    fn cursor(&self, seq: u64) -> LogCursor {
        LogCursor { epoch: self.0.epoch.clone(), place: seq.to_string() }
    }
}

/// Whether the entry still matters, is of a tenant that we know, and is not in the log.
fn is_lost(state: &State, entry: &LogEntry, now: Timestamp) -> bool {
    let revocation = &entry.revocation;
    let matching = state.log.matching(&entry.tenant, &revocation.key);
    now < revocation.expires_at
        && state.tenants.contains_key(&entry.tenant)
        && !matching.iter().any(|known| known.not_before == revocation.not_before)
}

fn apply(state: &mut State, entry: &LogEntry, now: Timestamp) {
    let rows = state.tenant(&entry.tenant);
    match &entry.revocation.key {
        RevocationKey::Grant(id) => {
            if let Some(row) = id.parse().ok().and_then(|id| rows.grants.get_mut(&id)) {
                row.grant.state = GrantState::Revoked;
            }
        }
        RevocationKey::Session(id) => {
            if let Some(row) = id.parse().ok().and_then(|id| rows.sessions.get_mut(&id))
                && row.ended_at.is_none()
            {
                row.ended_at = Some(now);
                row.keep_until = horizon::ended_session(now);
            }
        }
        RevocationKey::ApiKey(id) => {
            let row = id.parse().ok().and_then(|id| rows.api_keys.get_mut(&id));
            if let Some(row) = row.filter(|row| row.key.revoked_at.is_none()) {
                row.revoke(now);
            }
        }
        _ => {}
    }
}
