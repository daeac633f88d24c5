//! How often is too often, in this process: token-bucket limits on requests, kept in memory.
//!
//! Counters that all nodes share (sign-ins) are `storage::Attempts`; their names are made by
//! `keys::limit_key`. Here are the cheap ones that protect a node from its callers.

mod windows;

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter, clock};

use crate::base::{Clock, Timestamp};
use crate::model::TenantUid;
pub use windows::Windows;

/// What is limited; each has a quota of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limited {
    /// Refresh tokens with a wrong MAC, of one client and address: 20 a minute.
    BadRefreshMac,
    /// Wrong code verifiers of a public client, from one address: 20 a minute.
    BadVerifier,
    /// Failed authentications of one client from one address: 15 a minute.
    ClientAuthentication,
    /// Requests by POST that are kept until the browser comes round, from one network: 60 a minute.
    KeptRequest,
    /// Token requests of one client; its rate is configured.
    TokenRequest,
    /// Introspections by one client; its rate is configured.
    Introspection,
    /// Device codes that one client asks for; its rate is configured.
    DeviceRequest,
    /// API keys that one owner makes or rotates: 30 a minute.
    ApiKeyChange,
    /// User codes, right or wrong, that are entered from one network: 60 a minute.
    UserCode,
}

/// What one client may do so many times a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(NonZeroU32);

impl Rate {
    /// The highest that can be told from no limit.
    pub const MOST: u32 = 1_000_000;
    /// So many seconds' worth are allowed at once.
    const BURST_SECONDS: u32 = 5;

    /// This many a second, [`MOST`](Self::MOST) at most; none for 0, which is no limit.
    pub fn per_second(times: u32) -> Option<Self> {
        NonZeroU32::new(times.min(Self::MOST)).map(Self)
    }

    /// What one costs of a bucket that fills by [`MOST`](Self::MOST) a second.
    fn cost(self) -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(Self::MOST / self.0 - 1)
    }
}

/// Too often: come back after that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften {
    /// When the next one is allowed; for `Retry-After`.
    pub retry_after: Duration,
}

impl Limited {
    const ALL: [Self; 9] = [
        Self::BadRefreshMac,
        Self::BadVerifier,
        Self::ClientAuthentication,
        Self::KeptRequest,
        Self::TokenRequest,
        Self::Introspection,
        Self::DeviceRequest,
        Self::ApiKeyChange,
        Self::UserCode,
    ];

    /// How many at once, and how long until all of them are allowed again.
    const fn quota(self) -> (NonZeroU32, Duration) {
        const fn count(of: u32) -> NonZeroU32 {
            NonZeroU32::MIN.saturating_add(of - 1)
        }
        match self {
            Self::BadRefreshMac | Self::BadVerifier => (count(20), Duration::from_mins(1)),
            Self::ApiKeyChange => (count(30), Duration::from_mins(1)),
            Self::ClientAuthentication => (count(15), Duration::from_mins(1)),
            Self::KeptRequest | Self::UserCode => (count(60), Duration::from_mins(1)),
            // One bucket for every rate: a request costs the more of it the lower its rate is.
            Self::TokenRequest | Self::Introspection | Self::DeviceRequest => {
                let seconds = Rate::BURST_SECONDS;
                (count(seconds * Rate::MOST), Duration::from_secs(seconds as u64))
            }
        }
    }
}

/// Callers whose state is kept apart; beyond them, newcomers share what room there is.
const MAX_KEYS: usize = 100_000;
const SHARED_KEYS: u64 = 1024;

type Bucket = RateLimiter<u64, DashMapStateStore<u64>, Beat, NoOpMiddleware<Moment>>;

/// The limits of this process.
pub struct Limiter {
    buckets: Vec<Bucket>,
    /// Until when a key is over its limit, for those that are asked before they are counted.
    closed: moka::sync::Cache<(Limited, u64), Moment>,
    hasher: RandomState,
    clock: Beat,
    max_keys: usize,
}

impl Limiter {
    /// Limits that go by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::bounded(clock, MAX_KEYS)
    }

    fn bounded(clock: Arc<dyn Clock>, max_keys: usize) -> Self {
        let clock = Beat::of(clock);
        let bucket = |limited: &Limited| {
            let (burst, period) = limited.quota();
            let quota = Quota::with_period(period / burst.get())
                .unwrap_or_else(|| Quota::per_second(burst))
                .allow_burst(burst);
            RateLimiter::new(quota, DashMapStateStore::default(), clock.clone())
        };
        let buckets = Limited::ALL.iter().map(bucket).collect();
        let closed = moka::sync::Cache::new(max_keys as u64);
        Self { buckets, closed, hasher: RandomState::new(), clock, max_keys }
    }

    /// Counts one more of `what` by `key`, or says when to come back. Keys of different tenants
    /// never meet.
    pub fn check(&self, what: Limited, tenant: &TenantUid, key: &str) -> Result<(), TooOften> {
        self.take(what, tenant, key, NonZeroU32::MIN)
    }

    /// The same for what has a configured rate: five seconds' worth at once, and then as the rate
    /// says.
    pub fn check_rate(
        &self,
        what: Limited,
        tenant: &TenantUid,
        key: &str,
        rate: Rate,
    ) -> Result<(), TooOften> {
        self.take(what, tenant, key, rate.cost())
    }

    fn take(
        &self,
        what: Limited,
        tenant: &TenantUid,
        key: &str,
        cost: NonZeroU32,
    ) -> Result<(), TooOften> {
        let bucket = &self.buckets[what as usize];
        let name = self.hasher.hash_one((tenant.as_str(), key));
        let mut key = name;
        if bucket.len() >= self.max_keys {
            bucket.retain_recent();
            if bucket.len() >= self.max_keys {
                key %= SHARED_KEYS;
            }
        }
        // No bucket is too small for what is taken from it.
        let Ok(taken) = bucket.check_key_n(&key, cost) else { return Ok(()) };
        taken.map_err(|until| {
            let now = self.clock.now();
            let retry_after = until.wait_time_from(now);
            self.closed.insert((what, name), now + retry_after.into());
            TooOften { retry_after }
        })
    }

    /// Whether `key` is over its limit just now, without counting: for what is counted only when it
    /// fails, so that past the limit it is not even tried.
    pub fn closed(&self, what: Limited, tenant: &TenantUid, key: &str) -> Result<(), TooOften> {
        let name = self.hasher.hash_one((tenant.as_str(), key));
        let now = self.clock.now();
        match self.closed.get(&(what, name)) {
            Some(until) if now < until => {
                Err(TooOften { retry_after: until.duration_since(now).into() })
            }
            _ => Ok(()),
        }
    }
}

/// One source: an IPv4 address, or the /64 that an IPv6 host commands.
pub fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).to_string(),
    }
}

/// Our clock, as governor reads it: it only ever goes forward. When the clock is set back, what was
/// counted before must not be waited for all over again.
#[derive(Clone)]
struct Beat(Arc<Beats>);

struct Beats {
    clock: Arc<dyn Clock>,
    passed: Mutex<Passed>,
}

#[derive(Clone, Copy)]
struct Passed {
    /// What the clock said last.
    read: Timestamp,
    /// How far it has gone forward.
    time: Duration,
}

impl Beat {
    fn of(clock: Arc<dyn Clock>) -> Self {
        let passed = Passed { read: clock.now(), time: Duration::ZERO };
        Self(Arc::new(Beats { clock, passed: Mutex::new(passed) }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Nanos);

impl clock::Clock for Beat {
    type Instant = Moment;

    fn now(&self) -> Moment {
        let mut passed = self.0.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.0.clock.now();
        let Passed { read: before, time } = *passed;
        *passed = Passed { read, time: time + read.since(before) };
        Moment(passed.time.into())
    }
}

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, other: Nanos) -> Self {
        Self(self.0 + other)
    }
}

impl clock::Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0)
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ManualClock;

    fn limiter(max_keys: usize) -> (Limiter, ManualClock) {
        let clock = ManualClock::at(Timestamp::from_seconds(1_800_000_000));
        (Limiter::bounded(Arc::new(clock.clone()), max_keys), clock)
    }

    #[test]
    fn the_twenty_first_bad_mac_of_a_minute_waits_three_seconds() {
        let (limiter, clock) = limiter(1000);
        let acme = TenantUid::stored("acme");
        let once = || limiter.check(Limited::BadRefreshMac, &acme, "app 192.0.2.1");
        for _ in 0..20 {
            assert_eq!(once(), Ok(()));
        }
        assert_eq!(once(), Err(TooOften { retry_after: Duration::from_secs(3) }));
        clock.advance(Duration::from_secs(3));
        assert_eq!(once(), Ok(()));
        assert!(once().is_err());
    }

    #[test]
    fn a_rate_allows_five_seconds_worth_at_once_and_then_what_it_says() {
        let (limiter, clock) = limiter(1000);
        let acme = TenantUid::stored("acme");
        for (what, times) in [(Limited::TokenRequest, 20), (Limited::Introspection, 500)] {
            let rate = Rate::per_second(times).unwrap();
            let once = || limiter.check_rate(what, &acme, "app", rate);
            assert_eq!((0..5 * times).filter(|_| once().is_ok()).count(), 5 * times as usize);
            let wait = Duration::from_secs(1) / times;
            assert_eq!(once(), Err(TooOften { retry_after: wait }));
            assert_eq!(limiter.check_rate(what, &acme, "other", rate), Ok(()));
            clock.advance(Duration::from_secs(1));
            assert_eq!((0..2 * times).filter(|_| once().is_ok()).count(), times as usize);
        }
        let slow = Rate::per_second(1).unwrap();
        let once = || limiter.check_rate(Limited::TokenRequest, &acme, "slow", slow);
        assert_eq!((0..9).filter(|_| once().is_ok()).count(), 5);
        assert_eq!(Rate::per_second(0), None);
        let fast = Rate::per_second(u32::MAX).unwrap();
        assert_eq!(limiter.check_rate(Limited::TokenRequest, &acme, "fast", fast), Ok(()));
    }

    #[test]
    fn a_key_over_its_limit_is_closed_until_it_may_come_back() {
        let (limiter, clock) = limiter(1000);
        let acme = TenantUid::stored("acme");
        let closed = |key| limiter.closed(Limited::ClientAuthentication, &acme, key);
        for _ in 0..15 {
            assert_eq!(closed("app 192.0.2.1"), Ok(()));
            let counted = limiter.check(Limited::ClientAuthentication, &acme, "app 192.0.2.1");
            assert_eq!(counted, Ok(()));
        }
        assert!(limiter.check(Limited::ClientAuthentication, &acme, "app 192.0.2.1").is_err());
        let wait = TooOften { retry_after: Duration::from_secs(4) };
        assert_eq!(closed("app 192.0.2.1"), Err(wait));
        assert_eq!(closed("app 192.0.2.2"), Ok(()));
        clock.advance(Duration::from_secs(4));
        assert_eq!(closed("app 192.0.2.1"), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_for_it() {
        let (limiter, clock) = limiter(1000);
        let (acme, start) = (TenantUid::stored("acme"), clock.now());
        let once = || limiter.check(Limited::BadRefreshMac, &acme, "a");
        clock.advance(Duration::from_hours(1));
        for _ in 0..20 {
            assert_eq!(once(), Ok(()));
        }
        clock.set(start);
        assert_eq!(once(), Err(TooOften { retry_after: Duration::from_secs(3) }));
        clock.advance(Duration::from_secs(3));
        assert_eq!(once(), Ok(()));
    }

    #[test]
    fn keys_tenants_and_kinds_are_counted_apart() {
        let (limiter, _) = limiter(1000);
        let (acme, other) = (TenantUid::stored("acme"), TenantUid::stored("other"));
        for _ in 0..21 {
            let _ = limiter.check(Limited::BadRefreshMac, &acme, "a");
        }
        assert!(limiter.check(Limited::BadRefreshMac, &acme, "a").is_err());
        assert_eq!(limiter.check(Limited::BadRefreshMac, &acme, "b"), Ok(()));
        assert_eq!(limiter.check(Limited::BadRefreshMac, &other, "a"), Ok(()));
        assert_eq!(limiter.check(Limited::BadVerifier, &acme, "a"), Ok(()));
    }

    #[test]
    fn any_number_of_callers_takes_bounded_room() {
        let (limiter, clock) = limiter(50);
        let acme = TenantUid::stored("acme");
        for caller in 0..10_000 {
            let _ = limiter.check(Limited::KeptRequest, &acme, &caller.to_string());
        }
        assert!(limiter.buckets[Limited::KeptRequest as usize].len() <= 50 + 1024);
        clock.advance(Duration::from_hours(1));
        assert_eq!(limiter.check(Limited::KeptRequest, &acme, "new"), Ok(()));
        assert_eq!(limiter.buckets[Limited::KeptRequest as usize].len(), 1);
    }

    #[test]
    fn an_ipv6_64_is_one_source_and_a_mapped_address_is_ipv4() {
        let of = |ip: &str| network(ip.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::5"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::5"), of("2001:db8:1:3::5"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
