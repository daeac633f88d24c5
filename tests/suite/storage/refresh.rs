use std::time::Duration;

use pmp_auth::model::audit::Action;
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::refresh::{Predecessor, RefreshHead};
use pmp_auth::model::{ClientId, GrantId, RevocationKey};
use pmp_auth::storage::{EndReason, NewGrant, Proof, RefreshVerdict, Rotation, TenantHandle};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    the_head_rotates_and_everything_about_it_is_stored
    a_lost_answer_is_repeated_in_the_short_window
    a_token_that_never_arrived_is_replaced_in_the_long_window
    a_head_that_was_seen_is_not_replaced
    a_spent_token_past_its_windows_revokes
    a_short_window_of_zero_switches_both_off
    three_replacements_are_enough
    another_timeline_is_reuse
    a_generation_from_the_future_is_forged
    unfit_changes_nothing_but_reuse_takes_effect
    repeats_are_limited
    a_fixed_proof_keeps_the_head
    expired_changes_nothing
    revoked_is_whatever_owns_it
    unknown_is_another_client_or_no_refresh_token
    a_session_grant_dies_with_its_session_and_an_offline_one_does_not
    theft_in_lock_step_revokes_at_the_third_rotation
    an_opaque_token_gets_the_generation_of_the_verdict
    many_presentations_rotate_once_and_agree
    without_windows_many_presentations_revoke
    families_of_two_tenants_do_not_touch
}

on_durable_engines! {
    a_generation_of_a_lost_timeline_is_adopted_once
    a_lost_timeline_is_not_adopted_for_ever
}

async fn present(t: &TenantHandle, rotation: &Rotation, seconds: u64) -> RefreshVerdict {
    t.rotate_refresh(rotation, after(seconds), &AUDIT).await.unwrap()
}

/// Rotates a new family once; it, the first head and the second.
async fn rotated(t: &TenantHandle, name: &str) -> (Family, RefreshHead, RefreshHead) {
    let family = family(t, name).await;
    let first = family.head.clone();
    let verdict = present(t, &rotation(&family, &first, NOW), 0).await;
    let RefreshVerdict::Rotated(second) = verdict else { panic!("{verdict:?}") };
    (family, first, second)
}

async fn stored(t: &TenantHandle, id: GrantId) -> RefreshHead {
    t.find_grant(id).await.unwrap().unwrap().refresh.unwrap()
}

async fn state(t: &TenantHandle, id: GrantId) -> GrantState {
    t.find_grant(id).await.unwrap().unwrap().state
}

async fn the_head_rotates_and_everything_about_it_is_stored(bed: Bed) {
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let mut rotation = rotation(&family, &family.head, after(100));
    rotation.fingerprint = Some([3; 16]);
    let verdict = present(&t, &rotation, 100).await;
    let expected = RefreshHead {
        kid: 2,
        head: 2,
        head_nonce: rotation.nonce,
        pred: Some(Predecessor { generation: 1, nonce: family.head.head_nonce }),
        rotated_at: after(100),
        fingerprint: Some([3; 16]),
        ..family.head.clone()
    };
    assert_eq!(verdict, RefreshVerdict::Rotated(expected.clone()));
    let grant = t.find_grant(family.issued.grant).await.unwrap().unwrap();
    assert_eq!(grant.refresh, Some(expected));
    assert_eq!(grant.idle_expires_at, rotation.idle_expires_at);
    assert_eq!(times(&t, Action::RefreshRotated).await, 1);
}

async fn a_lost_answer_is_repeated_in_the_short_window(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, first, second) = rotated(&t, "ada").await;
    let mut again = rotation(&family, &first, NOW);
    again.idle_expires_at = after(99);
    let verdict = present(&t, &again, 10).await;
    let expected = RefreshHead { repeats: 1, ..second };
    assert_eq!(verdict, RefreshVerdict::Repeated(expected.clone()));
    let grant = t.find_grant(family.issued.grant).await.unwrap().unwrap();
    assert_eq!(grant.refresh, Some(expected));
    assert!(grant.idle_expires_at > after(99), "a repeat moves no end");
    assert_eq!(times(&t, Action::RefreshRepeated).await, 1);
}

async fn a_token_that_never_arrived_is_replaced_in_the_long_window(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, first, second) = rotated(&t, "ada").await;
    let again = rotation(&family, &first, NOW);
    let verdict = present(&t, &again, 11).await;
    let expected = RefreshHead {
        head: 3,
        head_nonce: again.nonce,
        replaced_at: Some(after(11)),
        replacements: 1,
        ..second.clone()
    };
    assert_eq!(verdict, RefreshVerdict::Replaced(expected.clone()));
    assert_eq!(stored(&t, family.issued.grant).await, expected);
    let key = RevocationKey::head(family.issued.grant, 2);
    let entry = the_entry(&t, key, after(11)).await;
    assert!(entry.expires_at >= after(660), "covers the skipped head's access tokens");
    assert_eq!(times(&t, Action::RefreshReplaced).await, 1);
    // The short window begins anew, and the replaced generation revokes.
    assert!(matches!(present(&t, &again, 21).await, RefreshVerdict::Repeated(_)));
    let replaced = rotation(&family, &second, NOW);
    assert_eq!(present(&t, &replaced, 22).await, RefreshVerdict::Reused);
    assert_eq!(state(&t, family.issued.grant).await, GrantState::Revoked);
}

async fn a_head_that_was_seen_is_not_replaced(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, first, _) = rotated(&t, "ada").await;
    t.mark_head_seen(family.issued.grant, 1).await.unwrap();
    assert!(!stored(&t, family.issued.grant).await.head_seen, "that is not the head");
    t.mark_head_seen(family.issued.grant, 2).await.unwrap();
    assert!(stored(&t, family.issued.grant).await.head_seen);
    let again = rotation(&family, &first, NOW);
    assert!(matches!(present(&t, &again, 10).await, RefreshVerdict::Repeated(_)));
    assert_eq!(present(&t, &again, 11).await, RefreshVerdict::Reused);
}

async fn a_spent_token_past_its_windows_revokes(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, first, second) = rotated(&t, "ada").await;
    assert_eq!(present(&t, &rotation(&family, &first, NOW), 601).await, RefreshVerdict::Reused);
    assert_eq!(state(&t, family.issued.grant).await, GrantState::Revoked);
    the_entry(&t, RevocationKey::Grant(family.issued.grant.to_string()), after(601)).await;
    let record = &t.list_audit(1).await.unwrap()[0];
    assert_eq!((record.action, record.success), (Action::RefreshReused, false));
    let live = rotation(&family, &second, NOW);
    assert_eq!(present(&t, &live, 602).await, RefreshVerdict::Revoked);
}

async fn a_short_window_of_zero_switches_both_off(bed: Bed) {
    let t = bed.tenant("acme").await;
    for (name, seconds) in [("ada", 0), ("bob", 11)] {
        let (family, first, _) = rotated(&t, name).await;
        let mut again = rotation(&family, &first, NOW);
        again.windows.short = Duration::ZERO;
        assert_eq!(present(&t, &again, seconds).await, RefreshVerdict::Reused, "{seconds}");
    }
    let (family, first, _) = rotated(&t, "cyd").await;
    let mut again = rotation(&family, &first, NOW);
    again.windows.long = Duration::ZERO;
    assert!(matches!(present(&t, &again, 10).await, RefreshVerdict::Repeated(_)));
    assert_eq!(present(&t, &again, 11).await, RefreshVerdict::Reused);
}

async fn three_replacements_are_enough(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, first, _) = rotated(&t, "ada").await;
    for seconds in [20, 40, 60] {
        let verdict = present(&t, &rotation(&family, &first, NOW), seconds).await;
        assert!(matches!(verdict, RefreshVerdict::Replaced(_)), "{verdict:?}");
    }
    assert_eq!(present(&t, &rotation(&family, &first, NOW), 80).await, RefreshVerdict::Reused);
}

async fn another_timeline_is_reuse(bed: Bed) {
    let t = bed.tenant("acme").await;
    for (name, of_head) in [("ada", true), ("bob", false)] {
        let (family, first, second) = rotated(&t, name).await;
        let mut other = rotation(&family, if of_head { &second } else { &first }, NOW);
        other.presented.nonce = *b"nowhere!";
        assert_eq!(present(&t, &other, 1).await, RefreshVerdict::Reused);
        assert_eq!(state(&t, family.issued.grant).await, GrantState::Revoked);
    }
}

async fn a_generation_from_the_future_is_forged(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, _, second) = rotated(&t, "ada").await;
    let mut future = rotation(&family, &second, NOW);
    future.presented.generation = 3;
    assert_eq!(present(&t, &future, 1).await, RefreshVerdict::Forged);
    assert_eq!(state(&t, family.issued.grant).await, GrantState::Revoked);
    the_entry(&t, RevocationKey::Grant(family.issued.grant.to_string()), after(1)).await;
    let record = &t.list_audit(1).await.unwrap()[0];
    assert_eq!((record.action, record.success), (Action::RefreshForged, false));
}

async fn unfit_changes_nothing_but_reuse_takes_effect(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, first, second) = rotated(&t, "ada").await;
    let token = opaque(Some(family.issued.grant), NOW);
    let unfit = |head| Rotation {
        fits: false,
        opaque: Some(token.clone()),
        ..rotation(&family, head, NOW)
    };
    let before = t.find_grant(family.issued.grant).await.unwrap();
    assert_eq!(present(&t, &unfit(&second), 1).await, RefreshVerdict::Unfit);
    assert_eq!(present(&t, &unfit(&first), 1).await, RefreshVerdict::Unfit);
    assert_eq!(present(&t, &unfit(&first), 11).await, RefreshVerdict::Unfit);
    assert_eq!(t.find_grant(family.issued.grant).await.unwrap(), before);
    assert_eq!(t.find_access_token(&token.digest).await.unwrap(), None);
    assert_eq!(present(&t, &unfit(&first), 601).await, RefreshVerdict::Reused);
    assert_eq!(state(&t, family.issued.grant).await, GrantState::Revoked);
}

async fn repeats_are_limited(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, first, second) = rotated(&t, "ada").await;
    let again = Rotation { repeat_limit: 2, ..rotation(&family, &first, NOW) };
    assert!(matches!(present(&t, &again, 1).await, RefreshVerdict::Repeated(_)));
    assert!(matches!(present(&t, &again, 2).await, RefreshVerdict::Repeated(_)));
    let before = t.find_grant(family.issued.grant).await.unwrap();
    assert_eq!(present(&t, &again, 3).await, RefreshVerdict::Limited);
    assert_eq!(present(&t, &again, 12).await, RefreshVerdict::Limited);
    assert_eq!(t.find_grant(family.issued.grant).await.unwrap(), before);
    let head = Rotation { repeat_limit: 2, ..rotation(&family, &second, NOW) };
    let RefreshVerdict::Rotated(third) = present(&t, &head, 13).await else { panic!("rotates") };
    assert_eq!((third.repeats, third.replacements), (0, 0));
}

async fn a_fixed_proof_keeps_the_head(bed: Bed) {
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let token = opaque(Some(family.issued.grant), NOW);
    let rotation = Rotation {
        proof: Proof::Fixed,
        opaque: Some(token.clone()),
        ..rotation(&family, &family.head, NOW)
    };
    let verdict = present(&t, &rotation, 5).await;
    assert_eq!(verdict, RefreshVerdict::Kept(family.head.clone()));
    assert_eq!(stored(&t, family.issued.grant).await, family.head);
    assert!(t.find_access_token(&token.digest).await.unwrap().is_some());
}

async fn expired_changes_nothing(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, first, second) = rotated(&t, "ada").await;
    let idle_end = 30 * 24 * 3600;
    for head in [&first, &second] {
        let late = rotation(&family, head, after(idle_end));
        assert_eq!(present(&t, &late, idle_end).await, RefreshVerdict::Expired);
    }
    assert_eq!(state(&t, family.issued.grant).await, GrantState::Live);
    let who = signed_in(&t, "bob").await;
    let short = NewGrant { expires_at: after(300), ..new_grant(&who, &app(), NOW) };
    let family = redeem(&t, issue(&t, short, new_code(NOW), NOW).await, NOW).await;
    let rotation = rotation(&family, &family.head, NOW);
    assert_eq!(present(&t, &rotation, 300).await, RefreshVerdict::Expired);
    assert!(matches!(present(&t, &rotation, 299).await, RefreshVerdict::Rotated(_)));
}

async fn revoked_is_whatever_owns_it(bed: Bed) {
    let t = bed.tenant("acme").await;
    let verdict =
        async |family: &Family| present(&t, &rotation(family, &family.head, NOW), 1).await;
    let revoked = family(&t, "ada").await;
    let _ = t.revoke_grant(revoked.issued.grant, NOW, &AUDIT).await.unwrap();
    assert_eq!(verdict(&revoked).await, RefreshVerdict::Revoked);
    let disabled = family(&t, "bob").await;
    let _ = t.set_user_disabled(disabled.issued.who.user, true, &change(NOW)).await.unwrap();
    let _ = t.set_user_disabled(disabled.issued.who.user, false, &change(NOW)).await.unwrap();
    assert_eq!(verdict(&disabled).await, RefreshVerdict::Revoked);
    let deleted = family(&t, "cyd").await;
    let _ = t.delete_user(deleted.issued.who.user, &change(NOW)).await.unwrap();
    assert_eq!(verdict(&deleted).await, RefreshVerdict::Revoked);
    let of_client = family(&t, "dan").await;
    let _ = t.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    let _ = t.set_client_disabled(&app(), false, &change(NOW)).await.unwrap();
    assert_eq!(verdict(&of_client).await, RefreshVerdict::Revoked);
}

async fn unknown_is_another_client_or_no_refresh_token(bed: Bed) {
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let good = || rotation(&family, &family.head, NOW);
    let stranger = Rotation { client: ClientId::new("other"), ..good() };
    assert_eq!(present(&t, &stranger, 1).await, RefreshVerdict::Unknown);
    let mut nothing = good();
    nothing.presented.grant = GrantId(uuid());
    assert_eq!(present(&t, &nothing, 1).await, RefreshVerdict::Unknown);
    let bare = issued(&t, &signed_in(&t, "bob").await).await;
    let mut none = good();
    none.presented.grant = bare.grant;
    none.user = Some(bare.who.user);
    assert_eq!(present(&t, &none, 1).await, RefreshVerdict::Unknown);
    assert!(matches!(present(&t, &good(), 1).await, RefreshVerdict::Rotated(_)));
}

async fn a_session_grant_dies_with_its_session_and_an_offline_one_does_not(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let online = NewGrant { offline: false, ..new_grant(&who, &app(), NOW) };
    let online = redeem(&t, issue(&t, online, new_code(NOW), NOW).await, NOW).await;
    let offline = redeem(&t, issued(&t, &who).await, NOW).await;
    let expired = present(&t, &rotation(&online, &online.head, NOW), 1800).await;
    assert_eq!(expired, RefreshVerdict::Revoked, "its session idled out");
    let _ = t.end_session(who.session, EndReason::Logout, &change(NOW)).await.unwrap();
    let verdict = present(&t, &rotation(&online, &online.head, NOW), 1).await;
    assert_eq!(verdict, RefreshVerdict::Revoked);
    assert_eq!(state(&t, online.issued.grant).await, GrantState::Revoked);
    let verdict = present(&t, &rotation(&offline, &offline.head, NOW), 1).await;
    assert!(matches!(verdict, RefreshVerdict::Rotated(_)), "{verdict:?}");
}

async fn theft_in_lock_step_revokes_at_the_third_rotation(bed: Bed) {
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let mut head = family.head.clone();
    for streak in 0..3 {
        let verdict = present(&t, &rotation(&family, &head, NOW), 1).await;
        let RefreshVerdict::Rotated(next) = verdict else { panic!("{streak}: {verdict:?}") };
        assert_eq!((next.streak, next.differs), (streak, false));
        let thief = Rotation { fingerprint: Some([9; 16]), ..rotation(&family, &head, NOW) };
        let RefreshVerdict::Repeated(seen) = present(&t, &thief, 2).await else { panic!() };
        assert!(seen.differs);
        head = next;
    }
    let verdict = present(&t, &rotation(&family, &head, NOW), 3).await;
    assert_eq!(verdict, RefreshVerdict::Reused);
    assert_eq!(state(&t, family.issued.grant).await, GrantState::Revoked);
}

async fn an_opaque_token_gets_the_generation_of_the_verdict(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (family, first, second) = rotated(&t, "ada").await;
    let generation = async |head: &RefreshHead, seconds: u64| {
        let token = opaque(Some(family.issued.grant), NOW);
        let rotation = Rotation { opaque: Some(token.clone()), ..rotation(&family, head, NOW) };
        let _ = present(&t, &rotation, seconds).await;
        let found = t.find_access_token(&token.digest).await.unwrap();
        found.and_then(|record| record.claims.generation)
    };
    assert_eq!(generation(&first, 1).await, Some(2), "repeated");
    assert_eq!(generation(&first, 11).await, Some(3), "replaced");
    assert_eq!(generation(&second, 12).await, None, "reused: nothing comes out of it");
}

async fn many_presentations_rotate_once_and_agree(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let verdicts = race(RACERS, |_| {
        let (t, rotation) = (t.clone(), rotation(&family, &family.head, NOW));
        async move { t.rotate_refresh(&rotation, NOW, &AUDIT).await.unwrap() }
    })
    .await;
    let head = stored(&t, family.issued.grant).await;
    assert_eq!((head.head, head.repeats as usize), (2, RACERS - 1));
    let same = |told: &RefreshHead| (told.head, told.head_nonce) == (2, head.head_nonce);
    let rotated = count(&verdicts, |v| matches!(v, RefreshVerdict::Rotated(h) if same(h)));
    let repeated = count(&verdicts, |v| matches!(v, RefreshVerdict::Repeated(h) if same(h)));
    assert_eq!((rotated, repeated), (1, RACERS - 1));
    assert_eq!(state(&t, family.issued.grant).await, GrantState::Live);
}

async fn without_windows_many_presentations_revoke(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let family = family(&t, "ada").await;
    let verdicts = race(RACERS, |_| {
        let rotation = rotation(&family, &family.head, NOW);
        let (t, rotation) = (t.clone(), Rotation { windows: NO_WINDOWS, ..rotation });
        async move { t.rotate_refresh(&rotation, NOW, &AUDIT).await.unwrap() }
    })
    .await;
    assert_eq!(count(&verdicts, |v| matches!(v, RefreshVerdict::Rotated(_))), 1);
    assert_eq!(count(&verdicts, |v| *v == RefreshVerdict::Reused), 1);
    assert_eq!(count(&verdicts, |v| *v == RefreshVerdict::Revoked), RACERS - 2);
    assert_eq!(state(&t, family.issued.grant).await, GrantState::Revoked);
    the_entry(&t, RevocationKey::Grant(family.issued.grant.to_string()), NOW).await;
}

async fn families_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let family = family(&a, "ada").await;
    let id = family.issued.grant;
    let rotation = rotation(&family, &family.head, NOW);
    assert_eq!(present(&b, &rotation, 1).await, RefreshVerdict::Unknown);
    assert_eq!(b.find_grant(id).await.unwrap(), None);
    b.mark_head_seen(id, 1).await.unwrap();
    assert_eq!(stored(&a, id).await, family.head);
}

/// A family of the present timeline, and what a holder would present who got two answers that the
/// store has lost.
async fn lost(bed: &mut Bed) -> (TenantHandle, Family, Rotation) {
    let uid = bed.tenant_uid("acme").await;
    let (family, _, second) = rotated(&bed.store.tenant(&uid), "ada").await;
    bed.lose_timeline().await;
    let mut lost = rotation(&family, &second, NOW);
    lost.presented.generation += 2;
    lost.presented.nonce = *b"lost one";
    lost.windows.recovery = Duration::from_hours(24 * 365);
    (bed.store.tenant(&uid), family, lost)
}

async fn a_generation_of_a_lost_timeline_is_adopted_once(mut bed: Bed) {
    let (t, family, lost) = lost(&mut bed).await;
    let before = stored(&t, family.issued.grant).await;
    let RefreshVerdict::Adopted(head) = present(&t, &lost, 5).await else { panic!("adopts") };
    assert_ne!(head.epoch, before.epoch);
    let expected = RefreshHead {
        head: 5,
        head_nonce: lost.nonce,
        pred: Some(Predecessor { generation: 4, nonce: *b"lost one" }),
        rotated_at: after(5),
        epoch: head.epoch.clone(),
        ..before
    };
    assert_eq!(head, expected);
    assert_eq!(stored(&t, family.issued.grant).await, expected);
    assert_eq!(times(&t, Action::RefreshAdopted).await, 1);
    let mut further = rotation(&family, &head, NOW);
    further.presented.generation += 1;
    further.windows.recovery = Duration::from_hours(24 * 365);
    assert_eq!(present(&t, &further, 6).await, RefreshVerdict::Forged);
}

async fn a_lost_timeline_is_not_adopted_for_ever(mut bed: Bed) {
    let (t, family, mut lost) = lost(&mut bed).await;
    // A node that follows the log is the first to see the new timeline.
    bed.revocation_snapshot(NOW).await.unwrap();
    lost.windows.recovery = Duration::from_secs(4);
    assert_eq!(present(&t, &lost, 5).await, RefreshVerdict::Forged);
    assert_eq!(state(&t, family.issued.grant).await, GrantState::Revoked);
}
