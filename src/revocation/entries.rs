//! The entries of the log, and which tokens they kill.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::news::{Latest, Learned, News};
use crate::base::Timestamp;
use crate::model::token::AccessClaims;
use crate::model::{Revocation, RevocationKey, TenantUid};
use crate::storage::{LogEntry, Sink};
use crate::telemetry::Metrics;

/// Everything that can be said in the log about a token with these claims, signed by `kid`.
pub(super) fn keys_of(claims: &AccessClaims, kid: Option<&str>) -> Vec<RevocationKey> {
    let mut keys = Vec::with_capacity(9);
    keys.push(RevocationKey::Jti(claims.jti.clone()));
    keys.push(RevocationKey::Tenant);
    keys.push(RevocationKey::Client(claims.client.to_string()));
    keys.extend(claims.user.map(|user| RevocationKey::Subject(user.to_string())));
    keys.extend(claims.session.map(|session| RevocationKey::Session(session.to_string())));
    if let Some(grant) = claims.grant {
        keys.push(RevocationKey::Grant(grant.to_string()));
        // A token that an API key was exchanged for names the key as its grant.
        keys.push(RevocationKey::ApiKey(grant.to_string()));
        keys.extend(claims.generation.map(|generation| RevocationKey::head(grant, generation)));
    }
    keys.extend(kid.map(|kid| RevocationKey::Kid(kid.to_owned())));
    keys
}

/// Whether an entry, one of whose token's keys it names, kills the token.
pub(super) fn kills(entry: &Revocation, claims: &AccessClaims) -> bool {
    let covers = |audience: &Vec<String>| audience.iter().any(|aud| claims.audience.contains(aud));
    entry.audience.as_ref().is_none_or(covers)
        && entry.not_before.is_none_or(|not_before| claims.issued_at <= not_before)
}

/// The live entries that this node knows. They only ever grow, until they expire.
#[derive(Default)]
pub(super) struct Log {
    tenants: RwLock<HashMap<TenantUid, Entries>>,
    /// How often this process revoked.
    told: AtomicU64,
    /// … up to the beginning of the last sync that succeeded.
    followed: AtomicU64,
    metrics: OnceLock<Arc<Metrics>>,
    latest: RwLock<Latest>,
}

type Entries = HashMap<RevocationKey, Vec<Revocation>>;

impl Log {
    /// Adds entries; known ones change nothing.
    pub(super) fn apply(&self, entries: &[LogEntry]) {
        if entries.is_empty() {
            return;
        }
        let mut tenants = self.write();
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        for LogEntry { tenant, revocation } in entries {
            if !tenants.contains_key(tenant) {
                tenants.insert(tenant.clone(), Entries::new());
            }
            let Some(known) = tenants.get_mut(tenant) else { continue };
            let same = known.entry(revocation.key.clone()).or_default();
            if let Some(other) = same.iter_mut().find(|other| says_the_same(other, revocation)) {
                other.expires_at = other.expires_at.max(revocation.expires_at);
            } else {
                same.push(revocation.clone());
                latest.add(tenant, revocation);
            }
        }
    }

    /// From now on new entries of the tenant are [`news`](Self::news); where they begin.
    pub(super) fn follow(&self, tenant: &TenantUid) -> u64 {
        self.latest.write().unwrap_or_else(PoisonError::into_inner).follow(tenant)
    }

    /// What came since `place`; none when that cannot be told.
    pub(super) fn news(&self, tenant: &TenantUid, place: u64) -> Option<News> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).since(tenant, place)
    }

    /// The store's timeline is new: what was read of it may lack what was then written again.
    pub(super) fn lose_news(&self) {
        self.latest.write().unwrap_or_else(PoisonError::into_inner).lose();
    }

    /// The entries of a tenant that were written since `since`, or cover what was issued since.
    pub(super) fn recent(&self, tenant: &TenantUid, since: Timestamp) -> Vec<Learned> {
        let recent = |entry: &&Revocation| {
            entry.at >= since || entry.not_before.is_some_and(|not_before| not_before >= since)
        };
        let tenants = self.read();
        let all = tenants.get(tenant).into_iter().flat_map(HashMap::values).flatten();
        all.filter(recent).map(|entry| (entry.key.clone(), entry.not_before)).collect()
    }

    /// Where what this process revokes is counted.
    pub(super) fn report_to(&self, metrics: Arc<Metrics>) {
        let _ = self.metrics.set(metrics);
    }

    /// How often this process has revoked so far.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// A sync that began when this process had revoked `told` times has succeeded.
    pub(super) fn followed(&self, told: u64) {
        self.followed.fetch_max(told, Ordering::Release);
    }

    /// Whether this process has revoked anything that no sync has brought yet.
    pub(super) fn is_ahead(&self) -> bool {
        self.told() > self.followed.load(Ordering::Acquire)
    }

    /// Every entry of a tenant.
    pub(super) fn all(&self, tenant: &TenantUid) -> Vec<Revocation> {
        let tenants = self.read();
        tenants.get(tenant).into_iter().flat_map(HashMap::values).flatten().cloned().collect()
    }

    /// Whether `which` holds for any entry of one of the keys.
    pub(super) fn any(
        &self,
        tenant: &TenantUid,
        keys: &[RevocationKey],
        which: impl Fn(&Revocation) -> bool,
    ) -> bool {
        let tenants = self.read();
        tenants
            .get(tenant)
            .is_some_and(|known| keys.iter().filter_map(|key| known.get(key)).flatten().any(which))
    }

    /// The entries of any of the keys.
    pub(super) fn entries(&self, tenant: &TenantUid, keys: &[RevocationKey]) -> Vec<Revocation> {
        let tenants = self.read();
        let known = tenants.get(tenant);
        let of = |key| known.and_then(|known| known.get(key)).into_iter().flatten();
        keys.iter().flat_map(of).cloned().collect()
    }

    /// What we know, live at `now`, that is not in `there`.
    pub(super) fn missing_from(&self, there: &[LogEntry], now: Timestamp) -> Vec<LogEntry> {
        let mut known: HashMap<_, Vec<_>> = HashMap::new();
        for LogEntry { tenant, revocation } in there {
            known.entry((tenant, &revocation.key)).or_default().push(revocation);
        }
        let is_there = |tenant: &TenantUid, ours: &Revocation| {
            let same = known.get(&(tenant, &ours.key)).into_iter().flatten();
            same.into_iter().any(|theirs| says_the_same(theirs, ours))
        };
        let tenants = self.read();
        let all = tenants.iter().flat_map(|(tenant, entries)| {
            entries.values().flatten().map(move |revocation| (tenant, revocation))
        });
        all.filter(|(tenant, ours)| ours.expires_at > now && !is_there(tenant, ours))
            .map(|(tenant, ours)| LogEntry { tenant: tenant.clone(), revocation: ours.clone() })
            .collect()
    }

    /// Forgets entries that can match no live token any more.
    pub(super) fn prune(&self, now: Timestamp) {
        let over = |entry: &Revocation| entry.expires_at <= now;
        self.write().retain(|_, known| {
            known.retain(|_, same| {
                same.retain(|entry| !over(entry));
                !same.is_empty()
            });
            !known.is_empty()
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<TenantUid, Entries>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<TenantUid, Entries>> {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Log {
    fn revoked(&self, entries: &[LogEntry]) {
        self.apply(entries);
        self.told.fetch_add(1, Ordering::Release);
        if let Some(metrics) = self.metrics.get() {
            for entry in entries {
                metrics.revoked(entry.revocation.key.kind());
            }
        }
    }
}

fn says_the_same(one: &Revocation, other: &Revocation) -> bool {
    one.key == other.key && one.not_before == other.not_before && one.audience == other.audience
}
