use std::time::Duration;

use pmp_auth::model::limit::{Attempt, LimitRule};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, race};

on_every_engine! {
    attempts_are_free_then_delayed_then_refused
    a_window_begins_with_the_first_attempt
    what_is_forgiven_is_forgotten
    an_attempt_taken_back_leaves_the_others_counted
    a_clock_that_went_back_opens_nothing
    no_more_are_allowed_at_once_than_the_rule_says
    a_delay_lets_one_of_many_through
    counters_of_two_tenants_do_not_touch
}

const RULE: LimitRule = LimitRule {
    free: 2,
    first_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(3),
    hard: 5,
    window: Duration::from_mins(15),
};

/// Without delays.
const HARD: LimitRule =
    LimitRule { first_delay: Duration::ZERO, max_delay: Duration::ZERO, ..RULE };

async fn attempts_are_free_then_delayed_then_refused(bed: Bed) {
    let t = bed.tenant("acme").await;
    let key = digest("login ada");
    let attempt = async |millis: u64| {
        t.attempt(&key, &RULE, NOW.plus(Duration::from_millis(millis))).await.unwrap()
    };
    let refused = |seconds| Attempt::Refused { until: after(seconds) };
    assert_eq!(attempt(0).await, Attempt::Allowed { count: 1 });
    assert_eq!(attempt(0).await, Attempt::Allowed { count: 2 });
    assert_eq!(attempt(0).await, Attempt::Allowed { count: 3 });
    assert_eq!(attempt(999).await, refused(1));
    assert_eq!(attempt(1000).await, Attempt::Allowed { count: 4 });
    assert_eq!(attempt(2999).await, refused(3));
    assert_eq!(attempt(3000).await, Attempt::Allowed { count: 5 });
    assert_eq!(attempt(10_000).await, refused(900));
    assert_eq!(attempt(899_999).await, refused(900));
    assert_eq!(attempt(900_000).await, Attempt::Allowed { count: 1 });
    assert_eq!(
        t.attempt(&digest("login bob"), &RULE, NOW).await.unwrap(),
        Attempt::Allowed { count: 1 }
    );
}

async fn a_window_begins_with_the_first_attempt(bed: Bed) {
    let t = bed.tenant("acme").await;
    let key = digest("k");
    let _ = t.attempt(&key, &HARD, NOW).await.unwrap();
    let last = t.attempt(&key, &HARD, after(899)).await.unwrap();
    assert_eq!(last, Attempt::Allowed { count: 2 });
    let next = t.attempt(&key, &HARD, after(900)).await.unwrap();
    assert_eq!(next, Attempt::Allowed { count: 1 });
}

async fn what_is_forgiven_is_forgotten(bed: Bed) {
    let t = bed.tenant("acme").await;
    let key = digest("k");
    for _ in 0..6 {
        let _ = t.attempt(&key, &HARD, NOW).await.unwrap();
    }
    assert_eq!(t.attempt(&key, &HARD, NOW).await.unwrap(), Attempt::Refused { until: after(900) });
    t.forgive(&key).await.unwrap();
    t.forgive(&digest("unknown")).await.unwrap();
    assert_eq!(t.attempt(&key, &HARD, NOW).await.unwrap(), Attempt::Allowed { count: 1 });
}

async fn a_clock_that_went_back_opens_nothing(bed: Bed) {
    let t = bed.tenant("acme").await;
    let key = digest("k");
    for _ in 0..3 {
        let _ = t.attempt(&key, &RULE, after(100)).await.unwrap();
    }
    let before = t.attempt(&key, &RULE, NOW).await.unwrap();
    assert_eq!(before, Attempt::Refused { until: after(101) });
}

async fn no_more_are_allowed_at_once_than_the_rule_says(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let answers = race(RACERS, |_| {
        let t = t.clone();
        async move { t.attempt(&digest("k"), &HARD, NOW).await.unwrap() }
    })
    .await;
    let mut counts: Vec<u32> = Vec::new();
    for answer in answers {
        match answer {
            Attempt::Allowed { count } => counts.push(count),
            Attempt::Refused { until } => assert_eq!(until, after(900)),
        }
    }
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3, 4, 5]);
}

async fn a_delay_lets_one_of_many_through(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    for _ in 0..3 {
        let _ = t.attempt(&digest("k"), &RULE, NOW).await.unwrap();
    }
    let answers = race(RACERS, |_| {
        let t = t.clone();
        async move { t.attempt(&digest("k"), &RULE, after(1)).await.unwrap() }
    })
    .await;
    let allowed: Vec<_> = answers.iter().filter(|a| matches!(a, Attempt::Allowed { .. })).collect();
    assert_eq!(allowed, [&Attempt::Allowed { count: 4 }]);
}

async fn counters_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let key = digest("k");
    for _ in 0..5 {
        let _ = a.attempt(&key, &HARD, NOW).await.unwrap();
    }
    assert_eq!(b.attempt(&key, &HARD, NOW).await.unwrap(), Attempt::Allowed { count: 1 });
    b.forgive(&key).await.unwrap();
    assert_eq!(a.attempt(&key, &HARD, NOW).await.unwrap(), Attempt::Refused { until: after(900) });
}

async fn an_attempt_taken_back_leaves_the_others_counted(bed: Bed) {
    let t = bed.tenant("acme").await;
    let key = digest("device 192.0.2.1");
    for count in 1..=5 {
        assert_eq!(t.attempt(&key, &HARD, NOW).await.unwrap(), Attempt::Allowed { count });
    }
    t.uncount(&key).await.unwrap();
    assert_eq!(t.attempt(&key, &HARD, NOW).await.unwrap(), Attempt::Allowed { count: 5 });
    let refused = t.attempt(&key, &HARD, NOW).await.unwrap();
    assert_eq!(refused, Attempt::Refused { until: after(900) });
    // Nothing is owed to who never tried.
    let other = digest("device 192.0.2.2");
    t.uncount(&other).await.unwrap();
    assert_eq!(t.attempt(&other, &HARD, NOW).await.unwrap(), Attempt::Allowed { count: 1 });
}
