use std::time::Duration;

use pmp_auth::base::Timestamp;
use pmp_auth::model::client::SigningAlg::ES256;
use pmp_auth::model::limit::LimitRule;
use pmp_auth::model::{RevocationKey, SessionId};
use pmp_auth::storage::{EndReason, KINDS, Kind, NewGrant, RedeemCode, Redemption};

use super::api_keys::{made, of_client};
use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, race};

on_every_engine! {
    nothing_live_is_removed
    what_has_ended_goes_by_kind_and_a_dry_run_deletes_nothing
    a_spent_code_is_kept_until_its_grants_horizon
    an_unspent_code_is_kept_for_a_day
    a_grant_is_kept_while_its_refresh_token_could_be_used
    a_session_is_kept_for_a_day_after_its_end
    a_batch_is_bounded_and_says_that_there_is_more
    many_cleaners_delete_each_row_once
}

const DAY: u64 = 24 * 3600;

async fn counts(bed: &Bed, now: Timestamp, dry_run: bool) -> Vec<(Kind, u64)> {
    let cleaned = bed.cleanup_expired_data(now, 1000, dry_run).await.unwrap();
    let order: Vec<_> = cleaned.counts.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(order, KINDS.iter().map(|horizon| horizon.kind).collect::<Vec<_>>());
    assert_eq!(cleaned.at, Some(now));
    assert!(!cleaned.more);
    cleaned.counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

async fn clean(bed: &Bed, now: Timestamp) -> Vec<(Kind, u64)> {
    counts(bed, now, false).await
}

/// One row of each kind that storage has an operation for, in two tenants.
async fn fill(bed: &Bed) {
    for slug in ["acme", "bolt"] {
        let t = bed.tenant(slug).await;
        family(&t, "ada").await;
        t.issue_access_token(&opaque(None, NOW)).await.unwrap();
        t.append_revocations(&[entry(RevocationKey::Jti("x".into()))], NOW, &AUDIT).await.unwrap();
        let _ = t.remember_jti("p", &[1; 32], after(60), NOW).await.unwrap();
        t.push_request(&digest("id"), "x", after(60), NOW).await.unwrap();
        asked(&t).await;
        made(&t, &of_client("app")).await;
        let rule = LimitRule {
            free: 1,
            first_delay: Duration::ZERO,
            max_delay: Duration::ZERO,
            hard: 9,
            window: Duration::from_mins(1),
        };
        let _ = t.attempt(&digest("k"), &rule, NOW).await.unwrap();
        let first = key(&format!("{slug}-1"), ES256, NOW);
        let _ = t.add_first_key(&first, &AUDIT).await.unwrap();
        let next = key(&format!("{slug}-2"), ES256, NOW);
        let _ = t.rotate_key(&next, after(60), NOW, &AUDIT).await.unwrap();
    }
}

async fn nothing_live_is_removed(bed: Bed) {
    fill(&bed).await;
    assert_eq!(clean(&bed, after(59)).await, []);
    assert_eq!(clean(&bed, NOW).await, []);
}

async fn what_has_ended_goes_by_kind_and_a_dry_run_deletes_nothing(bed: Bed) {
    fill(&bed).await;
    // Counters, identifiers, requests and the retired keys after a minute; tokens after ten; the
    // log after an hour.
    let expected = [
        (Kind::AccessTokens, 2),
        (Kind::Revocations, 2),
        (Kind::Jtis, 2),
        (Kind::PushedRequests, 2),
        (Kind::Attempts, 2),
        (Kind::SigningKeys, 2),
    ];
    assert_eq!(counts(&bed, after(3600), true).await, expected);
    assert_eq!(counts(&bed, after(3600), true).await, expected);
    assert_eq!(clean(&bed, after(3600)).await, expected);
    assert_eq!(clean(&bed, after(3600)).await, []);
    let t = bed.tenant("acme").await;
    let kept = t.list_keys().await.unwrap();
    assert_eq!(kept.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), ["acme-2"]);
    // After a year there is nothing left but users and the keys that sign.
    let all = clean(&bed, after(400 * DAY)).await;
    let of = |kind| all.iter().find(|(k, _)| *k == kind).map_or(0, |(_, count)| *count);
    assert_eq!(of(Kind::AuthorizationCodes), 2);
    assert_eq!(of(Kind::Grants), 2);
    assert_eq!(of(Kind::Sessions), 2);
    assert_eq!(of(Kind::DeviceCodes), 2);
    assert_eq!(of(Kind::ApiKeys), 2);
    assert!(of(Kind::AuditRecords) >= 10, "{all:?}");
    assert_eq!(t.list_users(None, 10).await.unwrap().len(), 1);
    assert_eq!(t.list_keys().await.unwrap().len(), 1);
    assert!(t.list_audit(10).await.unwrap().is_empty());
}

async fn a_spent_code_is_kept_until_its_grants_horizon(bed: Bed) {
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let issued = &family.issued;
    // The refresh token rotates, and moves the grant's horizon with it.
    let mut head = family.head.clone();
    for day in [20, 40, 60] {
        let at = after(day * DAY);
        let outcome = t.rotate_refresh(&rotation(&family, &head, at), at, &AUDIT).await.unwrap();
        let pmp_auth::storage::RefreshVerdict::Rotated(next) = outcome else {
            panic!("{outcome:?}")
        };
        head = next;
        clean(&bed, at).await;
    }
    let late = after(80 * DAY);
    clean(&bed, late).await;
    assert!(t.find_grant(issued.grant).await.unwrap().is_some());
    let replayed = t.redeem_code(&redemption(issued, late), late, &AUDIT).await.unwrap();
    assert_eq!(replayed, RedeemCode::Replayed { grant: issued.grant });
    clean(&bed, after(91 * DAY)).await;
    assert_eq!(t.find_grant(issued.grant).await.unwrap(), None);
    let gone = t.redeem_code(&redemption(issued, late), after(91 * DAY), &AUDIT).await.unwrap();
    assert_eq!(gone, RedeemCode::Unknown);
}

async fn an_unspent_code_is_kept_for_a_day(bed: Bed) {
    let t = bed.tenant("acme").await;
    let unspent = issued(&t, &signed_in(&t, "ada").await).await;
    let outcome = async |now: Timestamp| {
        clean(&bed, now).await;
        t.redeem_code(&redemption(&unspent, now), now, &AUDIT).await.unwrap()
    };
    assert_eq!(outcome(after(59 + DAY)).await, RedeemCode::Expired);
    assert_eq!(outcome(after(60 + DAY)).await, RedeemCode::Unknown);
    assert_eq!(t.find_grant(unspent.grant).await.unwrap(), None);
}

async fn a_grant_is_kept_while_its_refresh_token_could_be_used(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let with = redeem(&t, issued(&t, &who).await, NOW).await.issued.grant;
    let short = NewGrant { expires_at: after(10 * DAY), ..new_grant(&who, &app(), NOW) };
    let short = redeem(&t, issue(&t, short, new_code(NOW), NOW).await, NOW).await.issued.grant;
    let without = issued(&t, &who).await;
    let plain = Redemption { refresh: None, ..redemption(&without, NOW) };
    let _ = t.redeem_code(&plain, NOW, &AUDIT).await.unwrap();
    let kept = async |now| {
        clean(&bed, now).await;
        let mut kept = Vec::new();
        for id in [with, short, without.grant] {
            kept.push(t.find_grant(id).await.unwrap().is_some());
        }
        kept
    };
    // With a refresh token the horizon is the end of its last day (UTC).
    let midnight = |day: u64| {
        let days = after(day * DAY + 60).seconds() / 86_400 + 1;
        Timestamp::from_seconds(days * 86_400)
    };
    let just = Duration::from_millis(1);
    assert_eq!(kept(after(59 + DAY)).await, [true, true, true]);
    assert_eq!(kept(after(60 + DAY)).await, [true, true, false]);
    assert_eq!(kept(midnight(10).minus(just)).await, [true, true, false]);
    assert_eq!(kept(midnight(10)).await, [true, false, false]);
    assert_eq!(kept(midnight(30).minus(just)).await, [true, false, false]);
    assert_eq!(kept(midnight(30)).await, [false, false, false]);
}

async fn a_session_is_kept_for_a_day_after_its_end(bed: Bed) {
    let t = bed.tenant("acme").await;
    let ended = signed_in(&t, "ada").await;
    let idle = session(&t, ended.user, NOW).await;
    let _ = t.end_session(ended.session, EndReason::Logout, &change(after(60))).await.unwrap();
    t.touch_session(idle.session, after(600), after(2400)).await.unwrap();
    let sessions = async |now| {
        let cleaned = clean(&bed, now).await;
        cleaned.iter().find(|(kind, _)| *kind == Kind::Sessions).map_or(0, |(_, count)| *count)
    };
    assert_eq!(sessions(after(59 + DAY)).await, 0);
    assert_eq!(sessions(after(60 + DAY)).await, 1);
    assert_eq!(sessions(after(2399 + DAY)).await, 0);
    assert_eq!(sessions(after(2400 + DAY)).await, 1);
    let gone = t.end_session(SessionId(idle.session.0), EndReason::Logout, &change(NOW)).await;
    assert_eq!(gone.unwrap(), pmp_auth::storage::EndSession::NotLive);
}

async fn a_batch_is_bounded_and_says_that_there_is_more(bed: Bed) {
    let t = bed.tenant("acme").await;
    for n in 0..5 {
        t.push_request(&digest(&n.to_string()), "x", after(60), NOW).await.unwrap();
    }
    let batch = async |dry_run| {
        let cleaned = bed.cleanup_expired_data(after(60), 2, dry_run).await.unwrap();
        (cleaned.total(), cleaned.more)
    };
    assert_eq!(batch(false).await, (2, true));
    assert_eq!(batch(false).await, (2, true));
    assert_eq!(batch(false).await, (1, false));
    assert_eq!(batch(false).await, (0, false));
}

async fn many_cleaners_delete_each_row_once(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    for n in 0..40 {
        t.push_request(&digest(&n.to_string()), "x", after(60), NOW).await.unwrap();
    }
    let deleted = race(RACERS / 5, |_| {
        let store = bed.store.clone();
        async move { store.cleanup_expired_data(after(60), 7, false).await.unwrap().total() }
    })
    .await;
    let left = bed.cleanup_expired_data(after(60), 1000, false).await.unwrap().total();
    assert_eq!(deleted.iter().sum::<u64>() + left, 40);
}
