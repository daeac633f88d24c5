//! Until when a row is kept, and how often is too often: pure arithmetic that every engine shares,
//! so that the same row has the same columns on each.

use std::time::Duration;

use crate::base::Timestamp;
use crate::model::audit::Action;
use crate::model::limit::{Attempt, LimitRule};

/// What a verifier whose clock is behind may still accept.
pub const LEEWAY: Duration = Duration::from_mins(1);

/// How far ahead of the change a not-before of disable, suspend and delete lies: tokens that other
/// nodes are minting meanwhile fall under it.
pub const NOT_BEFORE_AHEAD: Duration = Duration::from_secs(10);

const DAY: Duration = Duration::from_hours(24);

/// `keep_until` of a new code (an authorization code or a device's), and of its grant until the code is redeemed: a day after the code
/// has expired, so that a late request gets the right answer.
pub fn unspent_code(expires_at: Timestamp) -> Timestamp {
    expires_at.plus(DAY)
}

/// `keep_until` of a spent code: as long as anything out of its grant may live, so that a replay
/// revokes. With a refresh token that is the grant's own end, however often it rotates.
pub fn spent_code(
    keep_until: Timestamp,
    access_expires_at: Timestamp,
    grant_expires_at: Option<Timestamp>,
) -> Timestamp {
    let last = grant_expires_at.map_or(access_expires_at, |end| end.max(access_expires_at));
    keep_until.max(last.plus(LEEWAY))
}

/// `keep_until` of a grant (its horizon) after an access token, and with `idle_expires_at` a refresh
/// token, came out of it: the last of them to end, and 60 s; with a refresh token up to the end of
/// that day, so that the column (which is indexed) is not written anew by every rotation. Never moves
/// back. A `grant` entry of the revocation log expires then.
pub fn grant(
    keep_until: Timestamp,
    access_expires_at: Timestamp,
    idle_expires_at: Option<Timestamp>,
    expires_at: Timestamp,
) -> Timestamp {
    let Some(idle) = idle_expires_at else {
        return keep_until.max(access_expires_at.plus(LEEWAY));
    };
    keep_until.max(end_of_day(access_expires_at.max(idle.min(expires_at)).plus(LEEWAY)))
}

/// The midnight (UTC) after `at`.
fn end_of_day(at: Timestamp) -> Timestamp {
    const MILLIS: i64 = 24 * 60 * 60 * 1000;
    Timestamp::from_millis(
        (at.millis().div_euclid(MILLIS).saturating_add(1)).saturating_mul(MILLIS),
    )
}

/// The idle end of a grant whose refresh token was used and kept ([`Proof::Fixed`](super::Proof)):
/// written at most hourly.
pub fn kept_idle(idle_expires_at: Timestamp, proposed: Timestamp) -> Timestamp {
    if proposed.since(idle_expires_at) >= Duration::from_hours(1) {
        proposed
    } else {
        idle_expires_at
    }
}

/// `keep_until` of a session that lives: a day after it would end by itself.
pub fn session(idle_expires_at: Timestamp, expires_at: Timestamp) -> Timestamp {
    idle_expires_at.min(expires_at).plus(DAY)
}

/// `keep_until` of a session that ended.
pub fn ended_session(ended_at: Timestamp) -> Timestamp {
    ended_at.plus(DAY)
}

/// `keep_until` of an API key that ends at `ends_at`, or ended: 90 days more, for lists and audit.
pub fn ended_api_key(ends_at: Timestamp) -> Timestamp {
    ends_at.plus(DAY * 90)
}

/// `delete_at` of a compromised key: it stays known for a year.
pub fn compromised_key(now: Timestamp) -> Timestamp {
    now.plus(DAY * 365)
}

/// `delete_at` of an audit record: 90 days for what happens every day, a year for the rest and for
/// every failure.
pub fn audit_record(action: Action, success: bool, at: Timestamp) -> Timestamp {
    let everyday = matches!(
        action,
        Action::LoginSucceeded
            | Action::SessionEnded
            | Action::GrantCreated
            | Action::ConsentRemembered
            | Action::CodeRedeemed
            | Action::DeviceRequested
            | Action::DeviceViewed
            | Action::DeviceApproved
            | Action::DeviceExpired
            | Action::DeviceRedeemed
            | Action::RefreshRotated
            | Action::RefreshRepeated
            | Action::RefreshReplaced
            | Action::TokenRevoked
    );
    at.plus(if everyday && success { DAY * 90 } else { DAY * 365 })
}

/// A shared counter, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Allowed attempts in this window.
    pub count: u32,
    /// When the window began: at the first of them.
    pub first_at: Timestamp,
    /// When the last one was allowed.
    pub last_at: Timestamp,
    /// When the window ends; the row may go then.
    pub expires_at: Timestamp,
}

/// Counts an attempt, or refuses it. With `Allowed` the counter is what is to be stored; a refusal
/// stores nothing.
pub fn count_attempt(
    counter: Option<Counter>,
    rule: &LimitRule,
    now: Timestamp,
) -> (Attempt, Option<Counter>) {
    let Some(old) = counter.filter(|c| now < c.first_at.plus(rule.window)) else {
        let first =
            Counter { count: 1, first_at: now, last_at: now, expires_at: now.plus(rule.window) };
        if rule.hard == 0 {
            return (Attempt::Refused { until: first.expires_at }, None);
        }
        return (Attempt::Allowed { count: 1 }, Some(first));
    };
    let window_end = old.first_at.plus(rule.window);
    if old.count >= rule.hard {
        return (Attempt::Refused { until: window_end }, None);
    }
    let next = old.last_at.plus(delay_after(old.count, rule));
    if now < next {
        return (Attempt::Refused { until: next.min(window_end) }, None);
    }
    let count = old.count.saturating_add(1);
    let counted = Counter { count, last_at: now.max(old.last_at), expires_at: window_end, ..old };
    (Attempt::Allowed { count }, Some(counted))
}

/// How long after the `count`-th attempt the next one may come.
fn delay_after(count: u32, rule: &LimitRule) -> Duration {
    let Some(doublings) = count.checked_sub(rule.free.saturating_add(1)) else {
        return Duration::ZERO;
    };
    let factor = 2_u32.saturating_pow(doublings);
    rule.first_delay.saturating_mul(factor).min(rule.max_delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_grant_is_kept_until_its_last_token_has_ended() {
        let end = NOW.plus(secs(1000));
        assert_eq!(grant(NOW, NOW.plus(secs(600)), None, end), NOW.plus(secs(660)));
        assert_eq!(grant(NOW.plus(secs(9000)), NOW, None, end), NOW.plus(secs(9000)));
    }

    #[test]
    fn a_grant_with_a_refresh_token_is_kept_to_the_end_of_its_last_day() {
        let (end, day) = (NOW.plus(DAY * 90), 86_400);
        let after = |days| Timestamp::from_seconds((NOW.seconds() / day + days) * day);
        assert_eq!(grant(NOW, NOW, Some(NOW.plus(DAY * 30)), end), after(31));
        assert_eq!(grant(NOW, NOW, Some(NOW.plus(DAY * 30 + secs(1))), end), after(31));
        assert_eq!(grant(NOW, NOW, Some(NOW.plus(DAY * 99)), end), after(91));
        assert_eq!(grant(NOW, NOW.plus(DAY * 95), Some(NOW), end), after(96));
    }

    #[test]
    fn a_spent_code_outlives_every_rotation_of_its_grant() {
        let end = NOW.plus(secs(1000));
        assert_eq!(spent_code(NOW, NOW.plus(secs(600)), Some(end)), NOW.plus(secs(1060)));
        assert_eq!(spent_code(NOW, NOW.plus(secs(600)), None), NOW.plus(secs(660)));
    }

    #[test]
    fn a_failure_is_kept_longer_than_an_everyday_success() {
        let kept = |action, success| audit_record(action, success, NOW).since(NOW);
        assert_eq!(kept(Action::LoginSucceeded, true), DAY * 90);
        assert_eq!(kept(Action::TokenRevoked, false), DAY * 365);
        assert_eq!(kept(Action::LoginFailed, false), DAY * 365);
    }

    const RULE: LimitRule = LimitRule {
        free: 2,
        first_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(3),
        hard: 6,
        window: Duration::from_mins(15),
    };

    #[test]
    fn delays_double_up_to_the_longest() {
        let delays: Vec<u64> = (1..=6).map(|n| delay_after(n, &RULE).as_secs()).collect();
        assert_eq!(delays, [0, 0, 1, 2, 3, 3]);
        assert_eq!(delay_after(u32::MAX, &RULE), RULE.max_delay);
    }

    #[test]
    fn an_attempt_too_early_is_refused_uncounted_and_allowed_when_it_was_told() {
        let counter =
            Counter { count: 3, first_at: NOW, last_at: NOW, expires_at: NOW.plus(secs(900)) };
        let (answer, stored) =
            count_attempt(Some(counter), &RULE, NOW.plus(Duration::from_millis(999)));
        assert_eq!(answer, Attempt::Refused { until: NOW.plus(secs(1)) });
        assert_eq!(stored, None);
        let (answer, stored) = count_attempt(Some(counter), &RULE, NOW.plus(secs(1)));
        assert_eq!(answer, Attempt::Allowed { count: 4 });
        assert_eq!(stored, Some(Counter { count: 4, last_at: NOW.plus(secs(1)), ..counter }));
    }

    #[test]
    fn the_hard_limit_holds_until_the_window_has_passed() {
        let counter =
            Counter { count: 6, first_at: NOW, last_at: NOW, expires_at: NOW.plus(secs(900)) };
        let at = |seconds| count_attempt(Some(counter), &RULE, NOW.plus(secs(seconds))).0;
        assert_eq!(at(899), Attempt::Refused { until: NOW.plus(secs(900)) });
        assert_eq!(at(900), Attempt::Allowed { count: 1 });
    }
}
