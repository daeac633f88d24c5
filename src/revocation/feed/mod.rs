//! The public feed of this node's view: what a resource server needs to refuse revoked tokens
//! without asking.
//!
//! Snapshots and what came since are served from memory; a reader holds its place, we hold nothing
//! of it. Only a place that this node does not know (another node's, or of long ago) costs a query.

mod cursor;
mod delivery;
mod entry;
mod journal;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

pub use cursor::{Cursor, MalformedCursor};
pub use entry::Entry;

pub(super) use delivery::Deliveries;
pub(super) use journal::Journal;

use self::journal::{Found, Listing};
use super::View;
use crate::base::Timestamp;
use crate::model::TenantUid;
use crate::storage::{LogCursor, Result, Tail};

/// Who reads: it sees entries that concern every audience, or one that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Whose log it reads.
    pub tenant: TenantUid,
    /// The audiences that it serves.
    pub audiences: Vec<String>,
}

impl Reader {
    fn sees(&self, entry: &Entry, now: Timestamp) -> bool {
        let serves = |audience: &String| self.audiences.contains(audience);
        entry.exp > now.seconds() && entry.aud.as_ref().is_none_or(|all| all.iter().any(serves))
    }
}

/// Some entries, and where the reader is when it has them.
#[derive(Debug, Clone)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Arc<Entry>>,
    /// Where to go on.
    pub cursor: Cursor,
    /// Whether to go on at once.
    pub more: bool,
}

/// What a reader with a cursor is told.
#[derive(Debug, Clone)]
#[must_use]
pub enum Answer {
    /// What came since.
    Page(Page),
    /// The cursor is of another timeline: take a snapshot.
    Gone,
}

impl View {
    /// Brings the feed up to what this process has revoked itself, if it is behind.
    pub async fn catch_up(&self) -> Result<()> {
        if self.log.is_ahead() { self.sync().await } else { Ok(()) }
    }

    /// When the last sync that succeeded began.
    pub fn as_of(&self) -> Timestamp {
        Timestamp::from_millis(self.synced.load(Ordering::Acquire))
    }

    /// Tells when there is something new for readers of a tenant.
    pub fn news(&self, tenant: &TenantUid) -> watch::Receiver<u64> {
        self.journal.news(tenant)
    }

    /// What is live, all of it unless there is a limit.
    pub fn snapshot(&self, reader: &Reader, limit: Option<usize>, now: Timestamp) -> Page {
        let (base, listing) = self.listing(&reader.tenant);
        list(reader, &listing, base, limit.unwrap_or(usize::MAX), now)
    }

    /// What came after `cursor`, at most `limit` entries.
    pub async fn since(
        &self,
        reader: &Reader,
        cursor: &Cursor,
        limit: usize,
        now: Timestamp,
    ) -> Result<Answer> {
        match cursor {
            Cursor::Log(cursor) => self.followed(reader, cursor, limit, now).await,
            Cursor::Listing { after, base } => {
                if !self.journal.is_current(base) {
                    return Ok(Answer::Gone);
                }
                let own = self.journal.since(&reader.tenant, base, 0, |_| false);
                if !matches!(own, Found::Since { .. }) {
                    // Another node began it, and may have known more than we do.
                    self.sync().await?;
                }
                let (_, listing) = self.listing(&reader.tenant);
                let rest = listing.partition_point(|entry| entry.id <= *after);
                Ok(Answer::Page(list(reader, &listing[rest..], base.clone(), limit, now)))
            }
        }
    }

    async fn followed(
        &self,
        reader: &Reader,
        cursor: &LogCursor,
        limit: usize,
        now: Timestamp,
    ) -> Result<Answer> {
        let sees = |entry: &Entry| reader.sees(entry, now);
        match self.journal.since(&reader.tenant, cursor, limit, sees) {
            Found::Gone => return Ok(Answer::Gone),
            Found::Since { entries, cursor, more } => {
                return Ok(Answer::Page(Page { entries, cursor: Cursor::Log(cursor), more }));
            }
            Found::AskTheStore => {}
        }
        // Whoever has what the store has from its place on, has what we have: our newest place, read
        // before the store was asked, is as good as the store's, and known here.
        let (here, _) = self.journal.newest(&reader.tenant);
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let tail = self.store.revocation_tail_of(&reader.tenant, cursor, limit).await?;
        let Tail::Page(page) = tail else { return Ok(Answer::Gone) };
        let shown = page.entries.iter().map(|entry| Arc::new(Entry::of(&entry.revocation)));
        let entries = shown.filter(|entry| sees(entry)).collect();
        let known_here = !page.more && here.epoch == page.cursor.epoch;
        let cursor = Cursor::Log(if known_here { here } else { page.cursor });
        Ok(Answer::Page(Page { entries, cursor, more: page.more }))
    }

    /// Everything of a tenant that is live, by name, and a place up to which nothing lacks.
    fn listing(&self, tenant: &TenantUid) -> (LogCursor, Listing) {
        // The place first: what comes meanwhile is in the listing, and is delivered again.
        let (cursor, round) = self.journal.newest(tenant);
        if let Some(listing) = self.journal.listing(tenant, round) {
            return (cursor, listing);
        }
        let live = self.log.all(tenant);
        let mut entries: Vec<_> = live.iter().map(|one| Arc::new(Entry::of(one))).collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        let listing = Listing::from(entries);
        self.journal.keep(tenant, round, &listing);
        (cursor, listing)
    }
}

/// A page of `listing`, of which the reader has all that came before.
fn list(
    reader: &Reader,
    listing: &[Arc<Entry>],
    base: LogCursor,
    limit: usize,
    now: Timestamp,
) -> Page {
    let mut seen = listing.iter().filter(|entry| reader.sees(entry, now)).cloned();
    let entries: Vec<_> = seen.by_ref().take(limit).collect();
    let more = seen.next().is_some();
    let cursor = match entries.last() {
        Some(last) if more => Cursor::Listing { after: last.id, base },
        _ => Cursor::Log(base),
    };
    Page { entries, cursor, more }
}
