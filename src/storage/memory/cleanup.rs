use std::collections::HashMap;
use std::hash::Hash;

use super::rows::Rows;
use super::state::State;
use crate::base::Timestamp;
use crate::storage::{Cleaned, KINDS, Kind};

/// One run: at most `limit` rows of each kind, over all tenants.
pub(super) fn run(state: &mut State, now: Timestamp, limit: u32, dry_run: bool) -> Cleaned {
    let mut cleaned = Cleaned { at: Some(now), ..Cleaned::default() };
    for kind in KINDS {
        let mut sweep = Sweep { now, left: limit as usize, dry_run, count: 0 };
        if kind.kind == Kind::Revocations {
            sweep.revocations(state);
        } else {
            state.all_rows().for_each(|rows| sweep.rows(kind.kind, rows));
        }
        cleaned.more |= sweep.left == 0;
        cleaned.counts.push((kind.kind, sweep.count));
    }
    cleaned
}

struct Sweep {
    now: Timestamp,
    left: usize,
    dry_run: bool,
    count: u64,
}

impl Sweep {
    /// Whether a row that is to go then may go now, in this batch.
    fn takes(&mut self, at: Timestamp) -> bool {
        let takes = at <= self.now && self.left > 0;
        if takes {
            self.left -= 1;
            self.count += 1;
        }
        takes
    }

    /// Keys of the rows that go; none in a dry run.
    fn doomed<K: Copy + Eq + Hash, V>(
        &mut self,
        map: &HashMap<K, V>,
        at: impl Fn(&V) -> Timestamp,
    ) -> Vec<K> {
        let doomed = map.iter().filter(|(_, row)| self.takes(at(row))).map(|(key, _)| *key);
        let doomed: Vec<K> = doomed.collect();
        if self.dry_run { Vec::new() } else { doomed }
    }

    fn retain<K: Eq + Hash, V>(&mut self, map: &mut HashMap<K, V>, at: impl Fn(&V) -> Timestamp) {
        let dry_run = self.dry_run;
        map.retain(|_, row| !self.takes(at(row)) || dry_run);
    }

    fn rows(&mut self, kind: Kind, rows: &mut Rows) {
        let dry_run = self.dry_run;
        match kind {
            Kind::AuthorizationCodes => self.retain(&mut rows.codes, |row| row.keep_until),
            Kind::Grants => self.retain(&mut rows.grants, |row| row.keep_until),
            Kind::Jtis => self.retain(&mut rows.jtis, |expires_at| *expires_at),
            Kind::PushedRequests => self.retain(&mut rows.pushed, |(_, expires_at)| *expires_at),
            Kind::Attempts => self.retain(&mut rows.attempts, |counter| counter.expires_at),
            Kind::AccessTokens => {
                for digest in self.doomed(&rows.access_tokens, |claims| claims.expires_at) {
                    rows.remove_access_token(&digest);
                }
            }
            Kind::StatusLists => {
                rows.status_lists.retain(|_, row| !self.takes(row.list.keep_until()) || dry_run);
            }
            Kind::Sessions => {
                for id in self.doomed(&rows.sessions, |row| row.keep_until) {
                    rows.remove_session(id);
                }
            }
            Kind::ApiKeys => self.retain(&mut rows.api_keys, |row| row.keep_until),
            Kind::SigningKeys => rows
                .keys
                .retain(|_, row| !row.delete_at.is_some_and(|at| self.takes(at)) || dry_run),
            Kind::AuditRecords => {
                rows.audits.retain(|row| !self.takes(row.delete_at) || dry_run);
            }
            Kind::DeviceCodes => {
                rows.forget_devices(|row| self.takes(row.keep_until) && !dry_run);
            }
            // Leases always belong to this one process.
            Kind::Revocations | Kind::Leases => {}
        }
    }

    fn revocations(&mut self, state: &mut State) {
        let expired = state.log.expired(self.now, self.left);
        self.left -= expired.len();
        self.count += expired.len() as u64;
        if !self.dry_run {
            for seq in expired {
                state.log.remove(seq);
            }
        }
    }
}
