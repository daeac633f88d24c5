//! One issuer's revocation feed: what it said, and whether it still speaks.

mod reader;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde_json::Map;
use tokio::sync::watch;

use crate::credentials::TokenSource;
use crate::issuer::Issuer;
use crate::options::{Context, Event};
use crate::revoked::{Half, Kind, RevokedSet, keys_of};
use crate::sync::{read, write};
use crate::token::Token;

/// A feed that said nothing for so long is lost.
const LOST: Duration = Duration::from_secs(45);
const FORGET: Duration = Duration::from_secs(30);

/// Whether the feed can be relied upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The first snapshot is not loaded.
    Loading,
    /// It speaks.
    Live,
    /// It has been silent too long, by so much.
    Lost(Duration),
}

/// What a token is known by, and what the feed last said of it.
pub(crate) struct Marks {
    keys: Vec<(Kind, Half)>,
    /// For this version of the set it was not revoked.
    live: AtomicU64,
    dead: AtomicBool,
}

impl Marks {
    pub(crate) fn of(claims: &Map<String, serde_json::Value>, kid: Option<&str>) -> Self {
        let keys = keys_of(claims, kid);
        Self { keys, live: AtomicU64::new(u64::MAX), dead: AtomicBool::new(false) }
    }
}

pub(crate) struct Feed {
    issuer: Arc<Issuer>,
    context: Arc<Context>,
    source: TokenSource,
    revoked: RwLock<RevokedSet>,
    version: AtomicU64,
    /// Milliseconds.
    heard_mono: AtomicU64,
    heard_wall: AtomicU64,
    was_lost: AtomicBool,
    loaded: watch::Sender<bool>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Feed {
    pub(crate) fn new(issuer: Arc<Issuer>, context: Arc<Context>) -> Self {
        let source = TokenSource::new(Arc::clone(&issuer), Arc::clone(&context));
        Self {
            issuer,
            context,
            source,
            revoked: RwLock::default(),
            version: AtomicU64::new(0),
            heard_mono: AtomicU64::new(0),
            heard_wall: AtomicU64::new(0),
            was_lost: AtomicBool::new(false),
            loaded: watch::Sender::new(false),
        }
    }

    /// Reads the feed for ever: whatever goes wrong it goes on, from where it was.
    pub(crate) async fn run(self: Arc<Self>) {
        let reader = reader::Reader::new(Arc::clone(&self));
        tokio::join!(reader.run(), self.tidy());
    }

    async fn tidy(&self) {
        loop {
            tokio::time::sleep(FORGET).await;
            let now = i64::try_from(self.context.clock.wall().as_secs()).unwrap_or_default();
            write(&self.revoked).forget(now);
            self.state();
        }
    }

    pub(crate) fn size(&self) -> usize {
        read(&self.revoked).size()
    }

    /// Waits until the first snapshot is loaded.
    pub(crate) async fn loaded(&self) {
        let _ = self.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// Whether `token` is revoked; its marks remember for which version it was not.
    pub(crate) fn kills(&self, marks: &Marks, token: &Token) -> bool {
        if marks.live.load(Ordering::Relaxed) == self.version.load(Ordering::Acquire) {
            return false;
        }
        if marks.dead.load(Ordering::Relaxed) {
            return true;
        }
        let revoked = read(&self.revoked);
        // Without an `iat` every not-before counts.
        let iat = token.times().iat.unwrap_or(0.0);
        if revoked.matches(&marks.keys, iat, token.audience()) {
            marks.dead.store(true, Ordering::Relaxed);
            return true;
        }
        marks.live.store(revoked.version(), Ordering::Relaxed);
        false
    }

    pub(crate) fn state(&self) -> State {
        if !*self.loaded.borrow() {
            return State::Loading;
        }
        let clock = &self.context.clock;
        // The wall clock counts while a machine sleeps; the other does not jump.
        let mono = millis(clock.mono()).saturating_sub(self.heard_mono.load(Ordering::Relaxed));
        let wall = millis(clock.wall()).saturating_sub(self.heard_wall.load(Ordering::Relaxed));
        let silent = Duration::from_millis(mono.max(wall));
        let lost = silent > LOST;
        if self.was_lost.load(Ordering::Relaxed) != lost
            && self.was_lost.swap(lost, Ordering::Relaxed) != lost
        {
            let issuer = self.issuer.url().to_owned();
            let (gone, back) =
                (Event::FeedLost { issuer: issuer.clone() }, Event::FeedLive { issuer });
            self.context.report(if lost { &gone } else { &back });
        }
        if lost { State::Lost(silent.checked_sub(LOST).unwrap_or_default()) } else { State::Live }
    }

    /// The feed said something that proves it knows: an entry, a heartbeat, an empty page.
    fn hear(&self) {
        let clock = &self.context.clock;
        self.heard_mono.store(millis(clock.mono()), Ordering::Relaxed);
        self.heard_wall.store(millis(clock.wall()), Ordering::Relaxed);
        if !self.loaded.send_replace(true) {
            self.context.report(&Event::FeedLoaded { issuer: self.issuer.url().to_owned() });
        }
        self.state();
    }

    fn report_failed(&self, error: String) {
        let issuer = self.issuer.url().to_owned();
        self.context.report(&Event::FeedFailed { issuer, error });
    }
}
