//! What this node learnt of the log lately, in the order in which it did.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::entry::Entry;
use crate::base::Timestamp;
use crate::model::TenantUid;
use crate::storage::{LogCursor, LogPage};

/// So many entries are kept, of all tenants together,
const MOST: usize = 50_000;
/// for so long: a reader that was away for longer asks the store, through us.
const KEPT: Duration = Duration::from_mins(10);

/// The live entries of one tenant, by name.
pub(super) type Listing = Arc<[Arc<Entry>]>;

/// The journal. One for all tenants, so that quiet ones cost nothing; readers hold places in it, it
/// holds nothing of theirs.
#[derive(Default)]
pub(in crate::revocation) struct Journal(RwLock<State>);

/// What the journal has for a reader at a place.
pub(super) enum Found {
    /// What came since, in whole rounds.
    Since {
        /// Those that the reader may see.
        entries: Vec<Arc<Entry>>,
        /// Where it is then.
        cursor: LogCursor,
        /// Whether there is more.
        more: bool,
    },
    /// Not from here: the place is another node's or too long ago, or the next round alone is more
    /// than was asked for.
    AskTheStore,
    /// The place is of another timeline.
    Gone,
}

#[derive(Default)]
struct State {
    epoch: String,
    /// Where the journal began on this timeline.
    base: Mark,
    rounds: VecDeque<Round>,
    held: usize,
    last: u64,
    /// The rounds by the place after them.
    places: HashMap<Arc<str>, u64>,
    lines: HashMap<TenantUid, Line>,
}

#[derive(Default, Clone)]
struct Mark {
    round: u64,
    place: Arc<str>,
}

/// What one look at the log brought.
struct Round {
    mark: Mark,
    at: Timestamp,
    entries: Vec<(TenantUid, Vec<Arc<Entry>>)>,
}

/// What concerns one tenant.
struct Line {
    /// The last round that had anything.
    newest: Mark,
    /// The last such round that was forgotten.
    forgotten: u64,
    news: watch::Sender<u64>,
    listing: Option<(u64, Listing)>,
}

impl Line {
    fn from(base: &Mark) -> Self {
        let news = watch::Sender::new(base.round);
        Self { newest: base.clone(), forgotten: 0, news, listing: None }
    }
}

impl Journal {
    /// Begins again after a snapshot: places of before are gone.
    pub(in crate::revocation) fn restart(&self, cursor: &LogCursor) {
        let mut state = self.write();
        state.last += 1;
        let base = Mark { round: state.last, place: cursor.place.as_str().into() };
        state.epoch.clone_from(&cursor.epoch);
        state.rounds.clear();
        state.held = 0;
        state.places = HashMap::from([(Arc::clone(&base.place), base.round)]);
        for line in state.lines.values_mut() {
            line.newest = base.clone();
            line.forgotten = 0;
            line.listing = None;
            line.news.send_replace(base.round);
        }
        state.base = base;
    }

    /// Adds what came, and wakes whom it concerns.
    pub(in crate::revocation) fn add(&self, page: &LogPage, now: Timestamp) {
        if page.entries.is_empty() {
            return;
        }
        let mut entries: Vec<(TenantUid, Vec<Arc<Entry>>)> = Vec::new();
        for one in &page.entries {
            let entry = Arc::new(Entry::of(&one.revocation));
            match entries.iter_mut().find(|(tenant, _)| *tenant == one.tenant) {
                Some((_, same)) => same.push(entry),
                None => entries.push((one.tenant.clone(), vec![entry])),
            }
        }
        let mut state = self.write();
        state.last += 1;
        let mark = Mark { round: state.last, place: page.cursor.place.as_str().into() };
        state.held += page.entries.len();
        state.places.entry(Arc::clone(&mark.place)).or_insert(mark.round);
        let State { lines, base, .. } = &mut *state;
        for (tenant, _) in &entries {
            let line = lines.entry(tenant.clone()).or_insert_with(|| Line::from(base));
            line.newest = mark.clone();
            line.news.send_replace(mark.round);
        }
        state.rounds.push_back(Round { mark, at: now, entries });
        state.forget(now);
    }

    /// What `tenant` revoked after `cursor` and `sees` lets through, at most `limit` entries.
    pub(super) fn since(
        &self,
        tenant: &TenantUid,
        cursor: &LogCursor,
        limit: usize,
        sees: impl Fn(&Entry) -> bool,
    ) -> Found {
        let state = self.read();
        if cursor.epoch != state.epoch {
            return Found::Gone;
        }
        let line = state.lines.get(tenant);
        let (newest, forgotten) =
            line.map_or((&state.base, 0), |line| (&line.newest, line.forgotten));
        let known = if cursor.place == *newest.place {
            Some(newest.round)
        } else {
            state.places.get(cursor.place.as_str()).copied()
        };
        let Some(from) = known.filter(|round| *round >= forgotten) else {
            return Found::AskTheStore;
        };
        let (mut found, mut at) = (Vec::new(), newest);
        let first = state.rounds.partition_point(|round| round.mark.round <= from);
        let mut before = None;
        for round in state.rounds.range(first..) {
            let own = round.entries.iter().find(|(whose, _)| whose == tenant);
            let Some((_, own)) = own else { continue };
            let seen: Vec<_> = own.iter().filter(|entry| sees(entry)).cloned().collect();
            if found.len() + seen.len() > limit {
                match before {
                    Some(mark) => at = mark,
                    None => return Found::AskTheStore,
                }
                let cursor = state.cursor(at);
                return Found::Since { entries: found, cursor, more: true };
            }
            found.extend(seen);
            before = Some(&round.mark);
        }
        Found::Since { entries: found, cursor: state.cursor(at), more: false }
    }

    /// The newest place of `tenant`, and the round that it is of.
    pub(super) fn newest(&self, tenant: &TenantUid) -> (LogCursor, u64) {
        let state = self.read();
        let mark = state.lines.get(tenant).map_or(&state.base, |line| &line.newest);
        (state.cursor(mark), mark.round)
    }

    /// Whether a cursor is of the timeline that this node follows.
    pub(super) fn is_current(&self, cursor: &LogCursor) -> bool {
        self.read().epoch == cursor.epoch
    }

    /// Tells when anything of `tenant` comes, or the timeline changes.
    pub(super) fn news(&self, tenant: &TenantUid) -> watch::Receiver<u64> {
        if let Some(line) = self.read().lines.get(tenant) {
            return line.news.subscribe();
        }
        let mut state = self.write();
        let State { lines, base, .. } = &mut *state;
        lines.entry(tenant.clone()).or_insert_with(|| Line::from(base)).news.subscribe()
    }

    /// The listing of `tenant` that was made at this round.
    pub(super) fn listing(&self, tenant: &TenantUid, round: u64) -> Option<Listing> {
        let state = self.read();
        let (made_at, listing) = state.lines.get(tenant)?.listing.as_ref()?;
        (*made_at == round).then(|| Arc::clone(listing))
    }

    /// Keeps a listing until the next round, or until listings are dropped.
    pub(super) fn keep(&self, tenant: &TenantUid, round: u64, listing: &Listing) {
        let mut state = self.write();
        let State { lines, base, .. } = &mut *state;
        let line = lines.entry(tenant.clone()).or_insert_with(|| Line::from(base));
        line.listing = Some((round, Arc::clone(listing)));
    }

    /// Drops listings, and what is too old.
    pub(in crate::revocation) fn prune(&self, now: Timestamp) {
        let mut state = self.write();
        state.lines.values_mut().for_each(|line| line.listing = None);
        state.forget(now);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn cursor(&self, mark: &Mark) -> LogCursor {
        LogCursor { epoch: self.epoch.clone(), place: mark.place.to_string() }
    }

    fn forget(&mut self, now: Timestamp) {
        let is_over = |round: &Round, held| held > MOST || now.since(round.at) > KEPT;
        while self.rounds.front().is_some_and(|round| is_over(round, self.held)) {
            let Some(round) = self.rounds.pop_front() else { return };
            self.places.remove(&round.mark.place);
            for (tenant, entries) in &round.entries {
                self.held = self.held.saturating_sub(entries.len());
                if let Some(line) = self.lines.get_mut(tenant) {
                    line.forgotten = round.mark.round;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Revocation, RevocationKey};
    use crate::storage::LogEntry;
    use crate::tenant::testing::NOW;

    fn tenant(name: &str) -> TenantUid {
        TenantUid::stored(name)
    }

    fn place(place: &str) -> LogCursor {
        LogCursor { epoch: "e".into(), place: place.into() }
    }

    fn page(to: &str, entries: &[(&str, &str)]) -> LogPage {
        let of = |(whose, jti): &(&str, &str)| LogEntry {
            tenant: tenant(whose),
            revocation: Revocation {
                key: RevocationKey::Jti((*jti).to_owned()),
                audience: None,
                not_before: None,
                expires_at: NOW.plus(Duration::from_hours(1)),
                at: NOW,
            },
        };
        LogPage { entries: entries.iter().map(of).collect(), cursor: place(to), more: false }
    }

    fn journal() -> Journal {
        let journal = Journal::default();
        journal.restart(&place("0"));
        for (to, entries) in [
            ("1", &[("a", "x"), ("b", "y")][..]),
            ("2", &[("b", "z")]),
            ("3", &[("a", "u"), ("a", "v")]),
        ] {
            journal.add(&page(to, entries), NOW);
        }
        journal
    }

    /// How many entries, where then, and whether there are more; none: ask the store.
    fn since(
        journal: &Journal,
        whose: &str,
        at: &str,
        limit: usize,
    ) -> Option<(usize, String, bool)> {
        match journal.since(&tenant(whose), &place(at), limit, |_| true) {
            Found::Since { entries, cursor, more } => Some((entries.len(), cursor.place, more)),
            Found::AskTheStore => None,
            Found::Gone => panic!("the timeline is the same"),
        }
    }

    #[test]
    fn a_reader_gets_what_its_tenant_revoked_after_its_place() {
        let journal = journal();
        let all = |whose, at| since(&journal, whose, at, 100).unwrap();
        assert_eq!(all("a", "0"), (3, "3".into(), false));
        assert_eq!(all("a", "1"), (2, "3".into(), false));
        assert_eq!(all("a", "2"), (2, "3".into(), false), "a place that only `b` moved to");
        assert_eq!(all("a", "3"), (0, "3".into(), false));
        assert_eq!(all("b", "0"), (2, "2".into(), false));
        assert_eq!(all("b", "3"), (0, "2".into(), false));
        assert_eq!(all("c", "0"), (0, "0".into(), false));
        assert_eq!(since(&journal, "a", "elsewhere", 100), None);
    }

    #[test]
    fn pages_end_between_rounds_and_a_round_that_is_too_large_is_the_stores() {
        let journal = journal();
        assert_eq!(since(&journal, "a", "0", 2), Some((1, "1".into(), true)));
        assert_eq!(since(&journal, "a", "1", 2), Some((2, "3".into(), false)));
        assert_eq!(since(&journal, "a", "1", 1), None);
        // What a reader may not see does not count.
        let found = journal.since(&tenant("a"), &place("1"), 1, |_| false);
        assert!(matches!(found, Found::Since { more: false, .. }));
    }

    #[test]
    fn what_is_forgotten_is_not_taken_for_nothing() {
        let journal = journal();
        let later = NOW.plus(KEPT + Duration::from_secs(1));
        journal.add(&page("4", &[("b", "w")]), later);
        assert_eq!(since(&journal, "a", "0", 100), None, "a round of its own was forgotten");
        assert_eq!(since(&journal, "a", "3", 100), Some((0, "3".into(), false)), "nothing since");
        assert_eq!(since(&journal, "b", "2", 100), None, "the place was forgotten");
        assert_eq!(since(&journal, "b", "4", 100), Some((0, "4".into(), false)));
        assert_eq!(since(&journal, "c", "0", 100), Some((0, "0".into(), false)));
    }

    #[test]
    fn it_holds_so_many_entries_and_no_more() {
        let journal = Journal::default();
        journal.restart(&place("0"));
        let many = vec![("a", "x"); 1_000];
        for round in 1..=60 {
            journal.add(&page(&round.to_string(), &many), NOW);
        }
        assert_eq!(journal.read().held, MOST);
        assert_eq!(since(&journal, "a", "10", 100_000), None);
        assert_eq!(since(&journal, "a", "11", 100_000).map(|found| found.0), Some(MOST - 1_000));
    }

    #[test]
    fn another_timeline_ends_all_places_and_wakes_everyone() {
        let journal = journal();
        let mut news = journal.news(&tenant("a"));
        news.mark_unchanged();
        journal.restart(&LogCursor { epoch: "f".into(), place: "3".into() });
        assert!(news.has_changed().unwrap());
        let found = journal.since(&tenant("a"), &place("3"), 10, |_| true);
        assert!(matches!(found, Found::Gone));
        let (newest, _) = journal.newest(&tenant("a"));
        assert_eq!(newest, LogCursor { epoch: "f".into(), place: "3".into() });
    }

    #[test]
    fn only_whom_it_concerns_is_woken() {
        let journal = journal();
        let (mut a, mut b) = (journal.news(&tenant("a")), journal.news(&tenant("b")));
        a.mark_unchanged();
        b.mark_unchanged();
        journal.add(&page("4", &[("a", "n")]), NOW);
        assert!(a.has_changed().unwrap() && !b.has_changed().unwrap());
    }
}
