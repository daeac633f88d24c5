//! This node's view of the revocation log.
//!
//! Owns the entries in memory, how fresh they are, the question whether a token is revoked, and
//! what readers of the public feed are shown. What is revoked is written by `storage/`, in the statement that revokes; here we follow.

mod entries;
mod feed;
mod news;
pub mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::base::{Clock, Timestamp};
use crate::config::settings::RevocationMode;
use crate::model::api_key::ApiKey;
use crate::model::token::AccessClaims;
use crate::model::{ClientId, Revocation, RevocationKey, TenantUid, UserId};
use crate::storage::{
    LogCursor, LogEntry, Result, RevocationLog, Revocations, Storage, Tail, Watch,
};
use crate::telemetry::Metrics;
use crate::tenant::Tenant;

pub use feed::{Answer, Cursor, Entry, MalformedCursor, Page, Reader};

use entries::{Log, keys_of, kills};
use feed::{Deliveries, Journal};

/// How long until the log is followed again, hints or none; with [`COALESCE`] less than 500 ms.
const PERIOD: Duration = Duration::from_millis(450);
/// Hints in a row are answered no more often than this.
const COALESCE: Duration = Duration::from_millis(20);
/// How old the view may be and still answer, while hints of other nodes arrive.
const FRESH: Duration = Duration::from_secs(1);
/// … and while they do not.
const FRESH_UNHINTED: Duration = Duration::from_secs(5);
/// A request reads the clock before the sync that it profits from began.
const SKEW: Duration = Duration::from_secs(2);
/// How often expired entries are looked for.
const PRUNE_MILLIS: i64 = 60_000;
const PAGE: u32 = 1_000;

/// This node's view of the revocation log. What this process revokes is in it before the call that
/// revoked returns.
pub struct View {
    store: Arc<dyn RevocationLog>,
    watch: Watch,
    clock: Arc<dyn Clock>,
    log: Arc<Log>,
    journal: Journal,
    deliveries: Deliveries,
    cursor: Mutex<Option<LogCursor>>,
    /// When the last sync that succeeded began, in milliseconds.
    synced: AtomicI64,
    pruned: AtomicI64,
}

/// Whether a token that verifies is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Standing {
    /// Nothing in the log matches it.
    Live,
    /// Something does.
    Revoked,
}

/// What the log says about an API key that was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum KeyStanding {
    /// Nothing happened to it since.
    Unchanged,
    /// Its owner, client or tenant changed, or the view is too old to say: its row knows.
    ReadAgain,
    /// It is revoked.
    Revoked,
}

impl View {
    /// An empty view, not fresh until [`sync`](Self::sync)ed. It becomes the store's sink.
    pub fn new(store: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let watch = store.watch().clone();
        Self::over(store, watch, clock)
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn over(store: Arc<dyn RevocationLog>, watch: Watch, clock: Arc<dyn Clock>) -> Arc<Self> {
        let log = Arc::new(Log::default());
        watch.set_sink(Arc::clone(&log) as _);
        let (synced, pruned) = (AtomicI64::new(i64::MIN), AtomicI64::new(i64::MIN));
        Arc::new(Self {
            store,
            watch,
            clock,
            log,
            journal: Journal::default(),
            deliveries: Deliveries::default(),
            cursor: Mutex::default(),
            synced,
            pruned,
        })
    }

    /// Where what this process revokes is counted, by kind.
    pub fn report_to(&self, metrics: Arc<Metrics>) {
        self.log.report_to(metrics);
    }

    /// Follows the log to its end: from a snapshot at first, and whenever the store's timeline
    /// is another one. Then what this node knows and the store lost is written again.
    pub async fn sync(&self) -> Result<()> {
        let mut cursor = self.cursor.lock().await;
        let (began, told) = (self.clock.now(), self.log.told());
        let mut at = cursor.take();
        loop {
            let tail = match &at {
                Some(place) => match self.store.revocation_tail(place, PAGE).await {
                    Ok(tail) => tail,
                    Err(error) => {
                        // Go on from here next time.
                        *cursor = at;
                        return Err(error);
                    }
                },
                None => Tail::Gone,
            };
            match tail {
                Tail::Page(page) => {
                    self.log.apply(&page.entries);
                    self.look_at_keys(&page.entries);
                    self.journal.add(&page, began);
                    at = Some(page.cursor);
                    if !page.more {
                        break;
                    }
                }
                Tail::Gone => {
                    at = Some(self.start_over(began).await?);
                    break;
                }
            }
        }
        *cursor = at;
        if began.millis() >= self.pruned.load(Ordering::Relaxed).saturating_add(PRUNE_MILLIS) {
            self.log.prune(began);
            self.journal.prune(began);
            self.pruned.store(began.millis(), Ordering::Relaxed);
        }
        self.log.followed(told);
        self.synced.store(began.millis(), Ordering::Release);
        Ok(())
    }

    /// A key was declared compromised, and the notification of it may have been lost: whoever signs
    /// with that key is to look.
    fn look_at_keys(&self, entries: &[LogEntry]) {
        if entries.iter().any(|entry| matches!(entry.revocation.key, RevocationKey::Kid(_))) {
            self.watch.hint();
        }
    }

    /// Takes a snapshot, keeping what we know: revocations only ever grow.
    async fn start_over(&self, now: Timestamp) -> Result<LogCursor> {
        let page = self.store.revocation_snapshot(now).await?;
        let lost = self.log.missing_from(&page.entries, now);
        self.log.apply(&page.entries);
        self.look_at_keys(&page.entries);
        self.journal.restart(&page.cursor);
        if !lost.is_empty() {
            let written = self.store.reassert_revocations(&lost, now).await?;
            info!(
                known = lost.len(),
                written, "the store's timeline is new: revoked again what it lost"
            );
        }
        // After the reassertion: now the store has all that we know.
        self.log.lose_news();
        Ok(page.cursor)
    }

    /// Syncs at least every 500 ms, and on hints, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut hints = self.watch.hints();
        let mut failing = false;
        loop {
            let synced = self.sync().await;
            match &synced {
                Err(error) if !failing => warn!(error = %error, "cannot follow the revocation log"),
                Ok(()) if failing => info!("following the revocation log again"),
                _ => {}
            }
            failing = synced.is_err();
            tokio::time::sleep(COALESCE).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
                hint = hints.recv() => if hint == Err(RecvError::Closed) { return },
            }
            while hints.try_recv().is_ok() {}
        }
    }

    /// Whether a verified token is revoked; `kid` is that of its header. Asks the store when the
    /// tenant is strict or the view too old; when that fails too, nobody knows: 503.
    pub async fn standing(
        &self,
        tenant: &Tenant,
        claims: &AccessClaims,
        kid: Option<&str>,
        now: Timestamp,
    ) -> Result<Standing> {
        let strict = tenant.settings.revocation == RevocationMode::Strict;
        self.standing_in(&tenant.uid, &*tenant.store, strict, claims, kid, now).await
    }

    async fn standing_in(
        &self,
        tenant: &TenantUid,
        store: &(impl Revocations + ?Sized),
        strict: bool,
        claims: &AccessClaims,
        kid: Option<&str>,
        now: Timestamp,
    ) -> Result<Standing> {
        let keys = keys_of(claims, kid);
        // First: a sync that ends in between must not vouch for what was read before it.
        let fresh = self.is_fresh(now);
        // What the view knows is revoked is revoked, however old the view is.
        let mut revoked = self.log.any(tenant, &keys, |entry| kills(entry, claims));
        if !revoked && (strict || !fresh) {
            let found = store.matching_revocations(&keys, now).await?;
            revoked = found.iter().any(|entry| kills(entry, claims));
        }
        Ok(if revoked { Standing::Revoked } else { Standing::Live })
    }

    /// What this node knows about an API key that it read from the store at `read_at`. Never asks
    /// the store: the key's own row says all that the log could.
    pub fn key_standing(
        &self,
        tenant: &Tenant,
        key: &ApiKey,
        read_at: Timestamp,
        now: Timestamp,
    ) -> KeyStanding {
        let fresh = self.is_fresh(now);
        let revoked = [RevocationKey::ApiKey(key.id.to_string())];
        if self.log.any(&tenant.uid, &revoked, |_| true) {
            return KeyStanding::Revoked;
        }
        if tenant.settings.revocation == RevocationMode::Strict || !fresh {
            return KeyStanding::ReadAgain;
        }
        let mut around = vec![RevocationKey::Tenant];
        around.extend(key.owner.user().map(|user| RevocationKey::Subject(user.to_string())));
        around.extend(key.owner.client().map(|client| RevocationKey::Client(client.to_string())));
        // Whoever wrote the entry may be that far behind us.
        let newer = |entry: &Revocation| entry.at.plus(SKEW) >= read_at;
        if self.log.any(&tenant.uid, &around, newer) {
            return KeyStanding::ReadAgain;
        }
        KeyStanding::Unchanged
    }

    /// For how long nothing may be minted for this user and client: a not-before covers them, and
    /// what is minted now would be dead at once. 503 with `Retry-After`.
    pub async fn minting_blocked(
        &self,
        tenant: &Tenant,
        user: Option<UserId>,
        client: &ClientId,
        now: Timestamp,
    ) -> Result<Option<Duration>> {
        let mut keys = vec![RevocationKey::Tenant, RevocationKey::Client(client.to_string())];
        keys.extend(user.map(|user| RevocationKey::Subject(user.to_string())));
        let found = if self.is_fresh(now) {
            self.log.entries(&tenant.uid, &keys)
        } else {
            tenant.store.matching_revocations(&keys, now).await?
        };
        let last = found.iter().filter_map(|entry| entry.not_before).max();
        // `iat` is whole seconds: all of the second in which the not-before lies is covered.
        let free = last.map(|last| Timestamp::from_seconds(last.seconds() + 1));
        Ok(free.map(|free| free.since(now)).filter(|wait| !wait.is_zero()))
    }

    /// Whether the view may answer at `now`: its last sync began less than 1 s ago, or 5 s while
    /// hints of other nodes do not arrive.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let synced = self.synced.load(Ordering::Acquire);
        let bound = if self.watch.listening() { FRESH } else { FRESH_UNHINTED };
        let began = Timestamp::from_millis(synced);
        // A clock that was set back says nothing about age.
        synced != i64::MIN && now.plus(SKEW) >= began && now < began.plus(bound)
    }
}
