//! What becomes of a device code that is polled, decided about or redeemed: pure decisions, taken
//! under the engine's lock. Memory and SQLite call them; Postgres spells the same in SQL, and the
//! suite holds the three to the same answers.

use std::time::Duration;

use super::{DecideDevice, DevicePoll, DeviceRedemption, PollDevice, RedeemDevice};
use crate::base::Timestamp;
use crate::model::device::{DeviceRecord, DeviceStatus};
use crate::model::grant::{Grant, GrantState};

/// What a poll that comes too early adds to the interval, for good (RFC 8628 §3.5).
pub const SLOW_DOWN: Duration = Duration::from_secs(5);

/// No interval grows beyond a day: no device code lives that long.
pub const LONGEST_INTERVAL: Duration = Duration::from_hours(24);

/// An interval as it is stored: whole seconds, none of them too many.
pub fn interval(asked: Duration) -> Duration {
    Duration::from_secs(asked.as_secs()).min(LONGEST_INTERVAL)
}

/// What a poll changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Seconds between polls from now on.
    pub interval: Duration,
    /// When the last one came.
    pub last_polled_at: Timestamp,
}

/// Decides about a poll of the device `record`, whose last one came at `last_polled_at`; what to
/// answer, and what to write.
pub fn poll(
    mut record: DeviceRecord,
    last_polled_at: Option<Timestamp>,
    poll: &DevicePoll,
    now: Timestamp,
) -> (PollDevice, Option<Pace>) {
    if record.client != poll.client {
        return (PollDevice::Unknown, None);
    }
    match record.status {
        DeviceStatus::Redeemed => return (PollDevice::Redeemed, None),
        DeviceStatus::Denied => return (PollDevice::Denied, None),
        _ if now >= record.expires_at => return (PollDevice::Expired, None),
        DeviceStatus::Approved => return (PollDevice::Approved(record), None),
        DeviceStatus::Pending => {}
    }
    let asked = interval(record.interval.saturating_add(poll.slower));
    let early = !poll.never_early && last_polled_at.is_some_and(|last| now < last.plus(asked));
    record.interval = if early { interval(asked + SLOW_DOWN) } else { asked };
    // Stored times never move backwards.
    let last_polled_at = last_polled_at.map_or(now, |last| last.max(now));
    let pace = Pace { interval: record.interval, last_polled_at };
    let told = if early { PollDevice::TooEarly(record) } else { PollDevice::Pending(record) };
    (told, Some(pace))
}

/// Whether a user's word about a device counts; `live` says whether user, session and client are.
pub fn decide(record: &DeviceRecord, live: bool, now: Timestamp) -> DecideDevice {
    if record.status != DeviceStatus::Pending {
        DecideDevice::AlreadyDecided
    } else if now >= record.expires_at {
        DecideDevice::Expired
    } else if live {
        DecideDevice::Decided
    } else {
        DecideDevice::NotLive
    }
}

/// Why an approved device is not redeemed; none: redeem it. `grant` is none when its row is gone;
/// `owners_live` says whether user and client are live.
pub fn refuse(
    record: &DeviceRecord,
    grant: Option<&Grant>,
    owners_live: bool,
    redemption: &DeviceRedemption,
    now: Timestamp,
) -> Option<RedeemDevice> {
    if record.client != redemption.client {
        return Some(RedeemDevice::Unknown);
    }
    match record.status {
        DeviceStatus::Redeemed => return Some(RedeemDevice::AlreadyRedeemed),
        DeviceStatus::Pending | DeviceStatus::Denied => return Some(RedeemDevice::NotApproved),
        DeviceStatus::Approved if now >= record.expires_at => return Some(RedeemDevice::Expired),
        DeviceStatus::Approved => {}
    }
    let live = owners_live
        && record.user == Some(redemption.user)
        && grant.is_some_and(|g| g.state == GrantState::Live && now < g.expires_at);
    (!live).then_some(RedeemDevice::Revoked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;
    use crate::model::device::DeviceTerms;
    use crate::model::{ClientId, Scope};

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    fn after(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn record(status: DeviceStatus) -> DeviceRecord {
        DeviceRecord {
            client: ClientId::new("tv"),
            scope: Scope::default(),
            resources: vec![],
            terms: DeviceTerms {
                version: 1,
                code_challenge: None,
                nonce: None,
                confidential: false,
            },
            status,
            user: None,
            grant: None,
            interval: Duration::from_secs(5),
            requested_ip: None,
            requested_user_agent: None,
            created_at: NOW,
            expires_at: after(600),
        }
    }

    fn asks() -> DevicePoll {
        DevicePoll {
            device: Digest::of(b"d"),
            client: ClientId::new("tv"),
            slower: Duration::ZERO,
            never_early: false,
        }
    }

    /// Whether it was early, the interval afterwards, and the stored time of the last poll.
    fn pace(last: Option<u64>, asks: &DevicePoll, seconds: u64) -> (bool, u64, u64) {
        let pending = record(DeviceStatus::Pending);
        let (told, pace) = poll(pending, last.map(after), asks, after(seconds));
        let pace = pace.expect("a pending device keeps its pace");
        let last = pace.last_polled_at.since(NOW).as_secs();
        (matches!(told, PollDevice::TooEarly(_)), pace.interval.as_secs(), last)
    }

    #[test]
    fn a_poll_is_early_less_than_the_interval_after_the_last_one_and_the_first_never_is() {
        assert_eq!(pace(None, &asks(), 0), (false, 5, 0));
        assert_eq!(pace(Some(10), &asks(), 14), (true, 10, 14));
        assert_eq!(pace(Some(10), &asks(), 15), (false, 5, 15));
        assert_eq!(pace(Some(10), &asks(), 8), (true, 10, 10), "times never move backwards");
    }

    #[test]
    fn what_memory_knew_is_added_before_the_poll_is_judged() {
        let slower = DevicePoll { slower: Duration::from_secs(10), ..asks() };
        assert_eq!(pace(Some(0), &slower, 14), (true, 20, 14));
        assert_eq!(pace(Some(0), &slower, 15), (false, 15, 15));
        assert_eq!(pace(None, &slower, 0), (false, 15, 0));
        let endless = DevicePoll { slower: Duration::MAX, ..asks() };
        assert_eq!(pace(Some(0), &endless, 1), (true, 86_400, 1));
    }

    #[test]
    fn a_poll_after_a_completed_wait_is_never_early() {
        let waited = DevicePoll { never_early: true, ..asks() };
        assert_eq!(pace(Some(10), &waited, 10), (false, 5, 10));
    }

    #[test]
    fn expiry_comes_before_approval_and_after_what_is_final() {
        let told = |status, seconds| poll(record(status), None, &asks(), after(seconds)).0;
        assert_eq!(told(DeviceStatus::Pending, 600), PollDevice::Expired);
        assert_eq!(told(DeviceStatus::Approved, 600), PollDevice::Expired);
        assert!(matches!(told(DeviceStatus::Approved, 599), PollDevice::Approved(_)));
        assert_eq!(told(DeviceStatus::Denied, 600), PollDevice::Denied);
        assert_eq!(told(DeviceStatus::Redeemed, 600), PollDevice::Redeemed);
        let other = DevicePoll { client: ClientId::new("other"), ..asks() };
        let (told, pace) = poll(record(DeviceStatus::Redeemed), None, &other, NOW);
        assert_eq!((told, pace), (PollDevice::Unknown, None));
    }
}
