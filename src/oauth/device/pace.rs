//! How fast a device polls (RFC 8628 §3.5), as far as this node's memory goes: a poll that comes too
//! early by it is answered without a query. What it adds to the interval is held here until the
//! next poll that storage sees, or until shutdown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use crate::base::{Digest, Timestamp};
use crate::model::device::{DeviceCode, DeviceRecord};
use crate::model::{ClientId, TenantUid};

/// Devices that are remembered; the pace of others is storage's alone to judge.
const MOST: u64 = 250_000;
/// Devices that were told that their time is over, and are remembered for it.
const MOST_EXPIRED: u64 = 10_000;
/// No device code lives longer.
const REMEMBERED: Duration = Duration::from_mins(11);
/// RFC 8628 §3.5: "the interval MUST be increased by 5 seconds".
const SLOWER: Duration = Duration::from_secs(5);
/// No device is slowed down beyond the life of a code.
const SLOWEST: Duration = Duration::from_mins(10);

/// No number of [`Decisions::blind`].
const BLIND: u64 = u64::MAX;

/// What a poll that arrives is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in crate::oauth) enum Arrival {
    /// Too early: `slow_down`, and storage is not asked.
    TooEarly,
    /// Storage is to be asked, with this.
    Ask {
        /// To be added to the stored interval.
        slower: Duration,
        /// It follows a completed wait.
        never_early: bool,
        /// Storage has seen a poll of this code by this client before.
        known: bool,
    },
}

/// The paces that this node remembers.
pub(in crate::oauth) struct Pace {
    devices: Cache<Digest<DeviceCode>, Arc<Mutex<Polled>>>,
    expired: Cache<Digest<DeviceCode>, ()>,
    decisions: Mutex<Decisions>,
}

/// What was announced, read only when a poll would be too early.
struct Decisions {
    announced: Receiver<Option<Digest<DeviceCode>>>,
    /// How many were read.
    heard: u64,
    /// Raised when it is not known about which devices was decided.
    blind: u64,
}

/// What was announced before storage is asked about a device: what is read while it answers may be
/// about this device, and is newer than the answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::oauth) struct Heard {
    heard: u64,
    blind: u64,
}

/// What announcements say of a device.
enum Decision {
    Made,
    NotMade,
    NotKnown,
}

struct Polled {
    tenant: TenantUid,
    client: ClientId,
    last: Timestamp,
    interval: Duration,
    expires_at: Timestamp,
    /// Not yet in storage.
    slower: Duration,
    /// The next poll is never early: this one ended a wait.
    waited: bool,
    /// What is known as of then; see [`Decisions::blind`].
    blind: u64,
}

impl Pace {
    /// Nothing remembered; hears of decisions by `announced`.
    pub(in crate::oauth) fn new(announced: Receiver<Option<Digest<DeviceCode>>>) -> Self {
        let devices = Cache::builder().max_capacity(MOST).time_to_idle(REMEMBERED).build();
        let expired = Cache::builder().max_capacity(MOST_EXPIRED).time_to_idle(REMEMBERED).build();
        let decisions = Mutex::new(Decisions { announced, heard: 0, blind: 0 });
        Self { devices, expired, decisions }
    }

    /// To be taken before storage is asked, for [`polled`](Self::polled).
    pub(in crate::oauth) fn heard(&self) -> Heard {
        let decisions = lock(&self.decisions);
        Heard { heard: decisions.heard, blind: decisions.blind }
    }

    /// A poll of `device` by `client` arrives. What another client did with the code does not count.
    pub(in crate::oauth) fn arrive(
        &self,
        device: &Digest<DeviceCode>,
        client: &ClientId,
        now: Timestamp,
    ) -> Arrival {
        const FIRST: Arrival =
            Arrival::Ask { slower: Duration::ZERO, never_early: false, known: false };
        let Some(polled) = self.devices.get(device) else { return FIRST };
        let mut polled = lock(&polled);
        if polled.client != *client {
            return FIRST;
        }
        let ask = |slower, never_early| Arrival::Ask { slower, never_early, known: true };
        if std::mem::take(&mut polled.waited) {
            return ask(polled.slower, true);
        }
        let early = now < polled.last.plus(polled.interval) && now < polled.expires_at;
        // Arrival to arrival: whoever goes on like this is always too early.
        polled.last = polled.last.max(now);
        if !early {
            return ask(polled.slower, false);
        }
        match self.decision(device, polled.blind) {
            Decision::Made => return ask(polled.slower, false),
            // Many may ask at once, and what is known here is to be added once.
            Decision::NotKnown => return ask(Duration::ZERO, false),
            Decision::NotMade => {}
        }
        if polled.interval < SLOWEST {
            polled.interval += SLOWER;
            polled.slower += SLOWER;
        }
        Arrival::TooEarly
    }

    /// Whether `device` was decided about, as far as was announced.
    fn decision(&self, device: &Digest<DeviceCode>, blind: u64) -> Decision {
        let mut decisions = lock(&self.decisions);
        let mut found = false;
        loop {
            let announced = decisions.announced.try_recv();
            decisions.heard += u64::from(announced.is_ok());
            match announced {
                Ok(Some(decided)) if decided == *device => found = true,
                Ok(Some(decided)) => self.devices.invalidate(&decided),
                Ok(None) | Err(TryRecvError::Lagged(_)) => decisions.blind += 1,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if found {
            self.devices.invalidate(device);
            return Decision::Made;
        }
        // Nothing else is forgotten over a decision that is not known: only storage is asked again.
        if decisions.blind == blind { Decision::NotMade } else { Decision::NotKnown }
    }

    /// Storage has seen a poll of the pending `device` at `now`, and with it `slower`.
    pub(in crate::oauth) fn polled(
        &self,
        device: &Digest<DeviceCode>,
        tenant: &TenantUid,
        record: &DeviceRecord,
        (slower, before): (Duration, Heard),
        now: Timestamp,
    ) {
        let blind = match self.heard() {
            after if after.heard == before.heard && after.blind == before.blind => after.blind,
            // Something was decided meanwhile: an early poll asks once more.
            _ => BLIND,
        };
        let entry = self.devices.entry(*device).or_insert_with(|| {
            Arc::new(Mutex::new(Polled {
                tenant: tenant.clone(),
                client: record.client.clone(),
                last: now,
                interval: record.interval,
                expires_at: record.expires_at,
                slower: Duration::ZERO,
                waited: false,
                blind,
            }))
        });
        let polled = entry.into_value();
        let mut polled = lock(&polled);
        polled.last = polled.last.max(now);
        polled.slower = polled.slower.saturating_sub(slower);
        polled.interval = record.interval + polled.slower;
        polled.blind = blind;
    }

    /// A wait for `device` was completed: the next poll is not early.
    pub(in crate::oauth) fn waited(&self, device: &Digest<DeviceCode>) {
        if let Some(polled) = self.devices.get(device) {
            lock(&polled).waited = true;
        }
    }

    /// Its time is over; whether that is news to this node.
    pub(in crate::oauth) fn expired(&self, device: &Digest<DeviceCode>) -> bool {
        self.devices.invalidate(device);
        self.expired.entry(*device).or_insert(()).is_fresh()
    }

    /// It is approved, and paces nobody any more.
    pub(in crate::oauth) fn forget(&self, device: &Digest<DeviceCode>) {
        self.devices.invalidate(device);
    }

    /// Takes what is not yet in storage, by tenant.
    pub(in crate::oauth) fn take_slower(
        &self,
    ) -> HashMap<TenantUid, Vec<(Digest<DeviceCode>, Duration)>> {
        let mut all = HashMap::<_, Vec<_>>::new();
        for (device, polled) in &self.devices {
            let mut polled = lock(&polled);
            let slower = std::mem::take(&mut polled.slower);
            if !slower.is_zero() {
                all.entry(polled.tenant.clone()).or_default().push((*device, slower));
            }
        }
        all
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scope;
    use crate::model::device::{DeviceStatus, DeviceTerms};
    use crate::storage::Watch;

    const T0: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const CODE: Digest<DeviceCode> = Digest::from_bytes([1; 32]);
    const OTHER: Digest<DeviceCode> = Digest::from_bytes([2; 32]);

    fn at(seconds: u64) -> Timestamp {
        T0.plus(Duration::from_secs(seconds))
    }

    fn tv() -> ClientId {
        ClientId::new("tv")
    }

    fn record(interval: u64) -> DeviceRecord {
        DeviceRecord {
            client: tv(),
            scope: Scope::default(),
            resources: Vec::new(),
            terms: DeviceTerms {
                version: 1,
                code_challenge: None,
                nonce: None,
                confidential: false,
            },
            status: DeviceStatus::Pending,
            user: None,
            grant: None,
            interval: Duration::from_secs(interval),
            requested_ip: None,
            requested_user_agent: None,
            created_at: T0,
            expires_at: at(600),
        }
    }

    const FIRST: Arrival =
        Arrival::Ask { slower: Duration::ZERO, never_early: false, known: false };

    fn asks(slower: u64) -> Arrival {
        Arrival::Ask { slower: Duration::from_secs(slower), never_early: false, known: true }
    }

    struct Rig {
        watch: Watch,
        pace: Pace,
    }

    impl Rig {
        fn new() -> Self {
            let watch = Watch::default();
            Self { pace: Pace::new(watch.decisions()), watch }
        }

        fn arrive(&self, seconds: u64) -> Arrival {
            self.pace.arrive(&CODE, &tv(), at(seconds))
        }

        fn polled(&self, interval: u64, slower: u64, seconds: u64) {
            let slower = Duration::from_secs(slower);
            let (acme, record) = (TenantUid::stored("acme"), record(interval));
            self.pace.polled(&CODE, &acme, &record, (slower, self.pace.heard()), at(seconds));
        }
    }

    #[test]
    fn the_first_poll_is_never_early_and_the_next_waits_the_interval() {
        let rig = Rig::new();
        assert_eq!(rig.arrive(0), FIRST);
        rig.polled(5, 0, 0);
        assert_eq!(rig.arrive(5), asks(0));
    }

    #[test]
    fn each_early_poll_adds_five_seconds_which_the_next_one_in_time_carries() {
        let rig = Rig::new();
        rig.polled(5, 0, 0);
        assert_eq!(rig.arrive(4), Arrival::TooEarly); // from now on 10
        assert_eq!(rig.arrive(13), Arrival::TooEarly); // 9 s after the last; from now on 15
        assert_eq!(rig.arrive(28), asks(10));
        rig.polled(15, 10, 28);
        assert_eq!(rig.arrive(43), asks(0));
    }

    #[test]
    fn what_storage_did_not_see_is_carried_again() {
        let rig = Rig::new();
        rig.polled(5, 0, 0);
        assert_eq!(rig.arrive(1), Arrival::TooEarly);
        assert_eq!(rig.arrive(20), asks(5));
        // … and the store was away.
        assert_eq!(rig.arrive(40), asks(5));
    }

    #[test]
    fn a_poll_after_a_decision_is_never_early() {
        let rig = Rig::new();
        rig.polled(5, 0, 0);
        rig.watch.decided(Some(OTHER));
        assert_eq!(rig.arrive(1), Arrival::TooEarly);
        rig.watch.decided(Some(CODE));
        assert_eq!(rig.arrive(2), asks(5));
    }

    #[test]
    fn after_a_decision_that_is_not_named_storage_is_asked_once_more() {
        let rig = Rig::new();
        rig.polled(5, 0, 0);
        rig.watch.decided(None);
        assert_eq!(rig.arrive(1), asks(0));
        rig.polled(5, 0, 1);
        assert_eq!(rig.arrive(2), Arrival::TooEarly);
    }

    #[test]
    fn a_decision_that_another_poll_heard_of_while_storage_answered_is_not_missed() {
        let rig = Rig::new();
        rig.polled(5, 0, 0);
        let (acme, slower) = (TenantUid::stored("acme"), Duration::ZERO);
        let asked = rig.pace.heard();
        rig.watch.decided(Some(CODE));
        assert_eq!(rig.arrive(1), asks(0), "the other poll");
        rig.pace.polled(&CODE, &acme, &record(5), (slower, asked), at(1));
        assert_eq!(rig.arrive(2), asks(0));
        rig.polled(5, 0, 2);
        assert_eq!(rig.arrive(3), Arrival::TooEarly);
        // Those that only look once more add nothing.
        rig.watch.decided(None);
        assert_eq!([rig.arrive(4), rig.arrive(4)], [asks(0), asks(0)]);
    }

    #[test]
    fn a_poll_after_a_completed_wait_is_never_early_and_the_one_after_that_may_be() {
        let rig = Rig::new();
        rig.polled(5, 0, 0);
        rig.pace.waited(&CODE);
        let after = Arrival::Ask { slower: Duration::ZERO, never_early: true, known: true };
        assert_eq!(rig.arrive(2), after);
        rig.polled(5, 0, 2);
        assert_eq!(rig.arrive(3), Arrival::TooEarly);
    }

    #[test]
    fn another_clients_polls_neither_meet_the_entry_nor_change_it() {
        let rig = Rig::new();
        rig.polled(5, 0, 0);
        let stranger = ClientId::new("stranger");
        for second in 1..5 {
            assert_eq!(rig.pace.arrive(&CODE, &stranger, at(second)), FIRST);
        }
        assert_eq!(rig.arrive(5), asks(0));
    }

    #[test]
    fn an_expired_code_is_told_so_however_fast_it_is_polled() {
        let rig = Rig::new();
        rig.polled(5, 0, 599);
        assert_eq!(rig.arrive(601), asks(0));
    }

    #[test]
    fn what_is_not_in_storage_is_taken_once_at_shutdown() {
        let rig = Rig::new();
        rig.polled(5, 0, 0);
        assert_eq!(rig.arrive(1), Arrival::TooEarly);
        let taken = rig.pace.take_slower();
        assert_eq!(taken[&TenantUid::stored("acme")], [(CODE, Duration::from_secs(5))]);
        assert!(rig.pace.take_slower().is_empty());
    }
}
