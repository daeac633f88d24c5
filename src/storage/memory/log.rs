use std::collections::{BTreeMap, HashMap};

use crate::base::Timestamp;
use crate::model::{Revocation, RevocationKey, TenantUid};
use crate::storage::LogEntry;

/// The revocation log. Under one lock, sequence order is commit order.
#[derive(Default)]
pub(super) struct Log {
    entries: BTreeMap<u64, LogEntry>,
    by_key: HashMap<(TenantUid, RevocationKey), Vec<u64>>,
    last: u64,
}

impl Log {
    pub(super) fn append(&mut self, entry: LogEntry) {
        self.last += 1;
        let key = (entry.tenant.clone(), entry.revocation.key.clone());
        self.by_key.entry(key).or_default().push(self.last);
        self.entries.insert(self.last, entry);
    }

    /// The sequence number of the newest entry that ever was.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn live(&self, now: Timestamp) -> Vec<LogEntry> {
        self.entries.values().filter(|e| now < e.revocation.expires_at).cloned().collect()
    }

    /// Up to `limit` entries after `seq`, with their numbers.
    pub(super) fn after(&self, seq: u64, limit: usize) -> Vec<(u64, LogEntry)> {
        let from = seq.saturating_add(1);
        self.entries.range(from..).take(limit).map(|(seq, e)| (*seq, e.clone())).collect()
    }

    /// The same of one tenant.
    pub(super) fn after_of(
        &self,
        tenant: &TenantUid,
        seq: u64,
        limit: usize,
    ) -> Vec<(u64, LogEntry)> {
        let later = self.entries.range(seq.saturating_add(1)..);
        let own = later.filter(|(_, entry)| entry.tenant == *tenant);
        own.take(limit).map(|(seq, entry)| (*seq, entry.clone())).collect()
    }

    pub(super) fn matching(&self, tenant: &TenantUid, key: &RevocationKey) -> Vec<&Revocation> {
        let seqs = self.by_key.get(&(tenant.clone(), key.clone()));
        let entries = seqs.into_iter().flatten().filter_map(|seq| self.entries.get(seq));
        entries.map(|entry| &entry.revocation).collect()
    }

    /// Numbers of up to `limit` entries that may go.
    pub(super) fn expired(&self, now: Timestamp, limit: usize) -> Vec<u64> {
        let expired = self.entries.iter().filter(|(_, e)| e.revocation.expires_at <= now);
        expired.map(|(seq, _)| *seq).take(limit).collect()
    }

    pub(super) fn remove(&mut self, seq: u64) {
        let Some(entry) = self.entries.remove(&seq) else { return };
        let key = (entry.tenant, entry.revocation.key);
        if let Some(seqs) = self.by_key.get_mut(&key) {
            seqs.retain(|s| *s != seq);
            if seqs.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }
}
