use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::model::Scope;
use crate::model::grant::GrantTerms;
use crate::model::refresh::{PresentedRefresh, RefreshWindows};

const T0: Timestamp = Timestamp::from_seconds(1_000_000);
const EPOCH: Epoch<'static> = Epoch { current: "e2", since: T0 };

fn at(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

/// Head 5 (nonce 5…), rotated at `T0`, its predecessor 4 (nonce 4…).
fn head() -> RefreshHead {
    RefreshHead {
        salt: [0; 16],
        kid: 1,
        head: 5,
        head_nonce: [5; 8],
        pred: Some(Predecessor { generation: 4, nonce: [4; 8] }),
        rotated_at: T0,
        replaced_at: None,
        replacements: 0,
        head_seen: false,
        repeats: 0,
        fingerprint: Some([1; 16]),
        differs: false,
        streak: 0,
        epoch: "e2".into(),
    }
}

fn present(generation: u32, nonce: u8) -> Rotation {
    Rotation {
        presented: PresentedRefresh {
            kid: 1,
            grant: GrantId(Uuid::nil()),
            generation,
            nonce: [nonce; 8],
            mac: [0; 32],
        },
        client: ClientId::new("app"),
        user: None,
        nonce: [9; 8],
        kid: 2,
        windows: RefreshWindows {
            short: Duration::from_secs(10),
            long: Duration::from_mins(10),
            recovery: Duration::from_hours(1),
        },
        idle_expires_at: at(9000),
        fits: true,
        opaque: None,
        access_expires_at: at(600),
        fingerprint: Some([1; 16]),
        proof: Proof::Rotating,
        repeat_limit: 100,
    }
}

fn grant(head: RefreshHead) -> Grant {
    Grant {
        id: GrantId(Uuid::nil()),
        client: ClientId::new("app"),
        user: None,
        session: None,
        terms: GrantTerms {
            version: 1,
            scope: Scope::default(),
            resources: Vec::new(),
            claims: None,
            acr: None,
            amr: Vec::new(),
            auth_time: T0,
            session_ends: None,
        },
        jkt: None,
        offline: true,
        state: GrantState::Live,
        created_at: T0,
        idle_expires_at: at(5000),
        expires_at: at(8000),
        refresh: Some(head),
    }
}

fn verdict(head: RefreshHead, rotation: &Rotation, now: Timestamp) -> Decision {
    decide(&grant(head), true, rotation, now, EPOCH)
}

#[test]
fn the_head_rotates() {
    let head = RefreshHead { repeats: 7, replacements: 2, replaced_at: Some(T0), ..head() };
    let Decision::Rotated(new) = verdict(head, &present(5, 5), at(3)) else { panic!("rotates") };
    let expected = RefreshHead {
        salt: [0; 16],
        kid: 2,
        head: 6,
        head_nonce: [9; 8],
        pred: Some(Predecessor { generation: 5, nonce: [5; 8] }),
        rotated_at: at(3),
        replaced_at: None,
        replacements: 0,
        head_seen: false,
        repeats: 0,
        fingerprint: Some([1; 16]),
        differs: false,
        streak: 0,
        epoch: "e2".into(),
    };
    assert_eq!(new, expected);
}

#[test]
fn a_nonce_of_another_timeline_is_reuse() {
    assert_eq!(verdict(head(), &present(5, 6), at(1)), Decision::Reused);
    assert_eq!(verdict(head(), &present(4, 6), at(1)), Decision::Reused);
    assert_eq!(verdict(head(), &present(3, 3), at(1)), Decision::Reused);
}

#[test]
fn the_predecessor_is_repeated_in_the_short_window() {
    let Decision::Repeated(again) = verdict(head(), &present(4, 4), at(10)) else {
        panic!("repeats at the very end of the window")
    };
    assert_eq!(again, RefreshHead { repeats: 1, ..head() });
}

#[test]
fn the_predecessor_is_replaced_in_the_long_window() {
    let now = T0.plus(Duration::from_millis(10_001));
    let Decision::Replaced { head: new, skipped } = verdict(head(), &present(4, 4), now) else {
        panic!("replaces")
    };
    assert_eq!(skipped, 5);
    let expected = RefreshHead {
        head: 6,
        head_nonce: [9; 8],
        kid: 2,
        replaced_at: Some(now),
        replacements: 1,
        ..head()
    };
    assert_eq!(new, expected);
    // The replaced generation revokes, and the short window begins anew.
    assert_eq!(verdict(new.clone(), &present(5, 5), at(11)), Decision::Reused);
    assert!(matches!(verdict(new, &present(4, 4), at(20)), Decision::Repeated(_)));
}

#[test]
fn past_its_windows_the_predecessor_is_reuse() {
    let reused = |head: RefreshHead, seconds| verdict(head, &present(4, 4), at(seconds));
    assert_eq!(reused(head(), 601), Decision::Reused);
    assert_eq!(reused(RefreshHead { head_seen: true, ..head() }, 11), Decision::Reused);
    assert_eq!(reused(RefreshHead { replacements: 3, ..head() }, 11), Decision::Reused);
}

#[test]
fn a_window_of_zero_matches_nothing_and_a_short_one_of_zero_ends_the_long_one() {
    let mut rotation = present(4, 4);
    rotation.windows.long = Duration::ZERO;
    assert!(matches!(verdict(head(), &rotation, at(10)), Decision::Repeated(_)));
    assert_eq!(verdict(head(), &rotation, at(11)), Decision::Reused);
    rotation.windows.long = Duration::from_mins(10);
    rotation.windows.short = Duration::ZERO;
    assert_eq!(verdict(head(), &rotation, T0), Decision::Reused);
    assert_eq!(verdict(head(), &rotation, at(11)), Decision::Reused);
}

#[test]
fn a_clock_that_went_back_keeps_the_window_open_and_the_stored_time() {
    let before = T0.minus(Duration::from_secs(5));
    assert!(matches!(verdict(head(), &present(4, 4), before), Decision::Repeated(_)));
    let Decision::Rotated(new) = verdict(head(), &present(5, 5), before) else { panic!() };
    assert_eq!(new.rotated_at, T0);
}

#[test]
fn the_future_is_adopted_only_after_a_change_of_epoch() {
    let lost = RefreshHead { epoch: "e1".into(), ..head() };
    let Decision::Adopted(new) = verdict(lost.clone(), &present(8, 8), at(3600)) else {
        panic!("adopts")
    };
    assert_eq!((new.head, new.head_nonce, new.epoch.as_str()), (9, [9; 8], "e2"));
    assert_eq!(new.pred, Some(Predecessor { generation: 8, nonce: [8; 8] }));
    assert_eq!(verdict(lost.clone(), &present(8, 8), at(3601)), Decision::Forged);
    assert_eq!(verdict(head(), &present(8, 8), at(1)), Decision::Forged);
    let mut none = present(8, 8);
    none.windows.recovery = Duration::ZERO;
    assert_eq!(verdict(lost, &none, T0), Decision::Forged);
}

#[test]
fn unfit_commits_nothing_but_reuse_takes_effect() {
    let unfit = |generation, nonce| Rotation { fits: false, ..present(generation, nonce) };
    assert_eq!(verdict(head(), &unfit(5, 5), at(1)), Decision::Unfit);
    assert_eq!(verdict(head(), &unfit(4, 4), at(1)), Decision::Unfit);
    assert_eq!(verdict(head(), &unfit(4, 4), at(11)), Decision::Unfit);
    assert_eq!(verdict(head(), &unfit(3, 3), at(1)), Decision::Reused);
    assert_eq!(verdict(head(), &unfit(9, 9), at(1)), Decision::Forged);
}

#[test]
fn repeats_and_replacements_count_towards_the_limit() {
    let busy = RefreshHead { repeats: 98, replacements: 1, ..head() };
    assert!(matches!(verdict(busy.clone(), &present(4, 4), at(1)), Decision::Repeated(_)));
    let busy = RefreshHead { repeats: 99, ..busy };
    assert_eq!(verdict(busy.clone(), &present(4, 4), at(1)), Decision::Limited);
    assert!(matches!(verdict(busy, &present(5, 5), at(1)), Decision::Rotated(_)));
}

#[test]
fn a_fixed_proof_keeps_the_head() {
    let rotation = Rotation { proof: Proof::Fixed, ..present(5, 5) };
    assert_eq!(verdict(head(), &rotation, at(1)), Decision::Kept(head()));
}

#[test]
fn expired_comes_before_the_table_and_revoked_before_expired() {
    assert_eq!(verdict(head(), &present(3, 3), at(5000)), Decision::Expired);
    assert_eq!(verdict(head(), &present(3, 3), at(4999)), Decision::Reused);
    let gone = Grant { state: GrantState::Revoked, ..grant(head()) };
    assert_eq!(decide(&gone, true, &present(5, 5), at(5000), EPOCH), Decision::Revoked);
    assert_eq!(decide(&grant(head()), false, &present(5, 5), at(1), EPOCH), Decision::Revoked);
    let other = Rotation { client: ClientId::new("other"), ..present(5, 5) };
    assert_eq!(verdict(head(), &other, at(1)), Decision::Unknown);
}

#[test]
fn theft_in_lock_step_ends_at_the_third_rotation() {
    let mut elsewhere = present(4, 4);
    elsewhere.fingerprint = Some([2; 16]);
    let Decision::Repeated(seen) = verdict(head(), &elsewhere, at(1)) else { panic!() };
    assert!(seen.differs);
    let Decision::Rotated(second) =
        verdict(RefreshHead { streak: 1, ..seen.clone() }, &present(5, 5), at(2))
    else {
        panic!()
    };
    assert_eq!((second.streak, second.differs), (2, false));
    let third = RefreshHead { streak: 2, ..seen };
    assert_eq!(verdict(third, &present(5, 5), at(2)), Decision::Reused);
    let quiet = RefreshHead { streak: 2, ..head() };
    let Decision::Rotated(reset) = verdict(quiet, &present(5, 5), at(2)) else { panic!() };
    assert_eq!(reset.streak, 0);
}

#[test]
fn one_half_of_the_fingerprint_may_change() {
    let mut rotation = present(4, 4);
    rotation.fingerprint = Some([1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
    let Decision::Repeated(seen) = verdict(head(), &rotation, at(1)) else { panic!() };
    assert!(!seen.differs);
}
