use pmp_auth::model::RevocationKey;
use pmp_auth::model::audit::Action;
use pmp_auth::model::client::SigningAlg::{self, ES256, RS256};
use pmp_auth::model::key::{KeyState, SigningKeyRecord};
use pmp_auth::storage::{AddKey, RotateKey, TenantHandle};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    the_first_key_of_an_algorithm_is_added_once
    a_rotation_retires_the_active_key
    a_pending_key_waits_and_another_does_not_get_in
    without_a_key_there_is_nothing_to_rotate
    a_compromised_key_is_in_the_log_and_makes_room_for_a_first_one
    one_of_many_adds_the_first_key_and_all_see_it
    one_of_many_rotates
    keys_of_two_tenants_do_not_touch
}

on_durable_engines! {
    keys_survive_a_restart
}

async fn add(t: &TenantHandle, kid: &str, alg: SigningAlg, seconds: u64) -> SigningKeyRecord {
    let key = key(kid, alg, after(seconds));
    assert_eq!(t.add_first_key(&key, &AUDIT).await.unwrap(), AddKey::Added);
    key
}

async fn the_first_key_of_an_algorithm_is_added_once(bed: Bed) {
    let t = bed.tenant("acme").await;
    assert!(t.list_keys().await.unwrap().is_empty());
    let first = add(&t, "k-es", ES256, 0).await;
    let late = t.add_first_key(&key("k-late", ES256, after(1)), &AUDIT).await.unwrap();
    assert_eq!(late, AddKey::Exists(Box::new(first.clone())));
    let rsa = add(&t, "k-rs", RS256, 2).await;
    assert_eq!(t.list_keys().await.unwrap(), [rsa, first]);
    assert_eq!(times(&t, Action::KeyCreated).await, 2);
}

async fn a_rotation_retires_the_active_key(bed: Bed) {
    let t = bed.tenant("acme").await;
    let old = add(&t, "k-1", ES256, 0).await;
    let rsa = add(&t, "k-rs", RS256, 0).await;
    let new = key("k-2", ES256, after(5));
    let outcome = t.rotate_key(&new, after(900), after(5), &AUDIT).await.unwrap();
    assert_eq!(outcome, RotateKey::Rotated);
    let old = SigningKeyRecord { state: KeyState::Retiring, expires_at: Some(after(900)), ..old };
    let listed = t.list_keys().await.unwrap();
    assert_eq!(listed[0], new);
    assert!(listed.contains(&old), "{listed:?}");
    assert!(listed.contains(&rsa), "another algorithm stays");
    assert_eq!(times(&t, Action::KeyRotated).await, 1);
}

async fn a_pending_key_waits_and_another_does_not_get_in(bed: Bed) {
    let t = bed.tenant("acme").await;
    add(&t, "k-1", ES256, 0).await;
    let pending = SigningKeyRecord {
        state: KeyState::Pending,
        activates_at: after(100),
        ..key("k-2", ES256, after(5))
    };
    let rotate = async |key: &SigningKeyRecord, seconds| {
        t.rotate_key(key, after(900), after(seconds), &AUDIT).await.unwrap()
    };
    assert_eq!(rotate(&pending, 5).await, RotateKey::Rotated);
    assert!(t.list_keys().await.unwrap().contains(&pending));
    assert_eq!(rotate(&key("k-3", ES256, after(6)), 99).await, RotateKey::AlreadyPending);
    assert_eq!(t.list_keys().await.unwrap().len(), 2);
    // Its time has come: it is the active key, though nobody turned it into one.
    assert_eq!(rotate(&key("k-4", ES256, after(100)), 100).await, RotateKey::Rotated);
    let keys = t.list_keys().await.unwrap();
    let second = keys.iter().find(|key| key.kid == "k-2").unwrap();
    assert_eq!((second.state, second.expires_at), (KeyState::Retiring, Some(after(900))));
}

async fn without_a_key_there_is_nothing_to_rotate(bed: Bed) {
    let t = bed.tenant("acme").await;
    add(&t, "k-rs", RS256, 0).await;
    let outcome = t.rotate_key(&key("k-1", ES256, NOW), after(9), NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, RotateKey::NoActiveKey(ES256));
    assert_eq!(t.list_keys().await.unwrap().len(), 1);
}

async fn a_compromised_key_is_in_the_log_and_makes_room_for_a_first_one(bed: Bed) {
    let t = bed.tenant("acme").await;
    add(&t, "k-1", ES256, 0).await;
    assert!(t.compromise_key("k-1", &change(after(5))).await.unwrap());
    assert!(!t.compromise_key("k-9", &change(after(5))).await.unwrap());
    let keys = t.list_keys().await.unwrap();
    assert_eq!(keys[0].state, KeyState::Compromised);
    let entry = the_entry(&t, RevocationKey::Kid("k-1".into()), after(5)).await;
    assert_eq!((entry.expires_at, entry.not_before), (after(3605), None));
    assert_eq!(times(&t, Action::KeyCompromised).await, 1);
    let outcome = t.rotate_key(&key("k-2", ES256, after(6)), after(9), after(6), &AUDIT).await;
    assert_eq!(outcome.unwrap(), RotateKey::NoActiveKey(ES256));
    add(&t, "k-3", ES256, 7).await;
}

async fn one_of_many_adds_the_first_key_and_all_see_it(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let outcomes = race(RACERS, |number| {
        let t = t.clone();
        async move {
            let mine = key(&format!("k-{number}"), ES256, NOW);
            t.add_first_key(&mine, &AUDIT).await.unwrap()
        }
    })
    .await;
    let stored = t.list_keys().await.unwrap();
    assert_eq!(stored.len(), 1);
    let seen = AddKey::Exists(Box::new(stored[0].clone()));
    assert_eq!(count(&outcomes, |o| *o == AddKey::Added), 1);
    assert_eq!(count(&outcomes, |o| *o == seen), RACERS - 1);
}

async fn one_of_many_rotates(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    add(&t, "k", ES256, 0).await;
    let outcomes = race(RACERS, |number| {
        let t = t.clone();
        async move {
            let mine = SigningKeyRecord {
                state: KeyState::Pending,
                activates_at: after(100),
                ..key(&format!("k-{number}"), ES256, NOW)
            };
            t.rotate_key(&mine, after(900), NOW, &AUDIT).await.unwrap()
        }
    })
    .await;
    assert_eq!(count(&outcomes, |o| *o == RotateKey::Rotated), 1);
    assert_eq!(count(&outcomes, |o| *o == RotateKey::AlreadyPending), RACERS - 1);
    assert_eq!(t.list_keys().await.unwrap().len(), 2);
}

async fn keys_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let mine = add(&a, "k-a", ES256, 0).await;
    assert!(b.list_keys().await.unwrap().is_empty());
    assert!(!b.compromise_key("k-a", &change(NOW)).await.unwrap());
    let new = key("k-b", ES256, NOW);
    let outcome = b.rotate_key(&new, after(9), NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, RotateKey::NoActiveKey(ES256));
    add(&b, "k-b", ES256, 0).await;
    assert_eq!(a.list_keys().await.unwrap(), [mine]);
    assert!(entries(&a, &[RevocationKey::Kid("k-a".into())], NOW).await.is_empty());
}

async fn keys_survive_a_restart(mut bed: Bed) {
    let t = bed.tenant("acme").await;
    let mine = add(&t, "k-a", ES256, 0).await;
    bed.reopen().await;
    assert_eq!(bed.tenant("acme").await.list_keys().await.unwrap(), [mine]);
}
