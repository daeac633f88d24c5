use pmp_auth::model::api_key::{Owner, PepperedDigest};
use pmp_auth::model::audit::Action;
use pmp_auth::model::{RevocationKey, UserId};
use pmp_auth::storage::{CreateApiKey, OwnerId, RevokeApiKey, RotateApiKey};

use super::api_keys::{find, made, new_api_key, of_client, of_user};
use super::make::*;
use super::random_api_keys::used;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    one_of_many_gets_a_users_last_place
    one_of_many_gets_a_clients_last_place
    one_of_many_rotates
    a_key_that_is_rehashed_meanwhile_is_revoked
    a_key_that_is_revoked_meanwhile_has_at_most_one_successor
    no_successor_outlives_its_user
    uses_noted_at_once_are_all_counted
}

/// The race is run for several owners: one alone may go well by chance.
async fn last_place(bed: &Bed, owners: &[Owner]) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    for owner in owners {
        for _ in 0..4 {
            made(&t, owner).await;
        }
        let outcomes = race(RACERS, |_| {
            let (t, new) = (t.clone(), new_api_key(owner, NOW));
            async move { t.create_api_key(&new, 5, NOW, &AUDIT).await.unwrap() }
        })
        .await;
        assert_eq!(count(&outcomes, |o| *o == CreateApiKey::Created), 1, "{owner:?}");
        assert_eq!(count(&outcomes, |o| *o == CreateApiKey::TooMany), RACERS - 1);
        let held = t.list_api_keys(Some(&OwnerId::from(owner)), None, 100).await.unwrap();
        assert_eq!(held.len(), 5);
    }
    assert_eq!(times(&t, Action::ApiKeyCreated).await, 5 * owners.len());
}

async fn one_of_many_gets_a_users_last_place(bed: Bed) {
    let t = bed.tenant("acme").await;
    let users = [user(&t, "ada").await, user(&t, "bob").await, user(&t, "cyd").await];
    last_place(&bed, &users.map(of_user)).await;
}

async fn one_of_many_gets_a_clients_last_place(bed: Bed) {
    last_place(&bed, &["app", "other", "third", "fourth"].map(of_client)).await;
}

async fn one_of_many_rotates(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let ada = user(&t, "ada").await;
    let old = made(&t, &of_user(ada)).await.key;
    let outcomes = race(RACERS, |_| {
        let (t, next, id) = (t.clone(), new_api_key(&old.owner, NOW), old.id);
        async move {
            let outcome = t.rotate_api_key(id, &next, after(60), NOW, &AUDIT).await.unwrap();
            (outcome, next.key.id)
        }
    })
    .await;
    assert_eq!(count(&outcomes, |(o, _)| *o == RotateApiKey::Rotated), 1);
    assert_eq!(count(&outcomes, |(o, _)| *o == RotateApiKey::AlreadyRotated), RACERS - 1);
    let winner = outcomes.iter().find(|(o, _)| *o == RotateApiKey::Rotated).unwrap().1;
    assert_eq!(find(&t, old.id).await.key.replaced_by, Some(winner));
    assert_eq!(t.list_api_keys(None, None, 100).await.unwrap().len(), 2);
    assert_eq!(times(&t, Action::ApiKeyRotated).await, 1);
}

async fn a_key_that_is_rehashed_meanwhile_is_revoked(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let new = made(&t, &of_client("app")).await;
    let (id, old) = (new.key.id, new.digest);
    let newer = PepperedDigest { pepper: 2, mac: [9; 32] };
    let outcomes = race(RACERS, |number| {
        let t = t.clone();
        async move {
            if number % 2 == 0 {
                (t.rehash_api_key(id, &old, &newer).await.unwrap(), false)
            } else {
                let outcome = t.revoke_api_key(id, &change(NOW)).await.unwrap();
                (false, outcome == RevokeApiKey::Revoked)
            }
        }
    })
    .await;
    assert_eq!(count(&outcomes, |(rehashed, _)| *rehashed), 1);
    assert_eq!(count(&outcomes, |(_, revoked)| *revoked), 1);
    let record = find(&t, id).await;
    assert_eq!((record.digest, record.key.revoked_at), (newer, Some(NOW)));
    the_entry(&t, RevocationKey::ApiKey(id.to_string()), NOW).await;
    assert_eq!(times(&t, Action::ApiKeyRevoked).await, 1);
}

async fn a_key_that_is_revoked_meanwhile_has_at_most_one_successor(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    for round in 0..8 {
        let old = made(&t, &of_client("app")).await.key;
        let outcomes = race(RACERS, |number| {
            let (t, next, id) = (t.clone(), new_api_key(&old.owner, NOW), old.id);
            async move {
                // First the ones who rotate; who revokes comes in the midst of them.
                if number == RACERS / 3 + round {
                    let revoked = t.revoke_api_key(id, &change(NOW)).await.unwrap();
                    assert_eq!(revoked, RevokeApiKey::Revoked);
                    // From here on nothing comes of it.
                    let late = t.rotate_api_key(id, &next, after(60), NOW, &AUDIT).await.unwrap();
                    assert_eq!(late, RotateApiKey::NotLive);
                    return (late, next.key.id);
                }
                let outcome = t.rotate_api_key(id, &next, after(60), NOW, &AUDIT).await.unwrap();
                (outcome, next.key.id)
            }
        })
        .await;
        assert!(count(&outcomes, |(o, _)| *o == RotateApiKey::Rotated) <= 1);
        for (outcome, id) in outcomes {
            let there = t.find_api_key(id).await.unwrap().is_some();
            assert_eq!(there, outcome == RotateApiKey::Rotated, "{outcome:?}");
        }
        assert_eq!(find(&t, old.id).await.key.revoked_at, Some(NOW));
    }
}

/// Keys are made and rotated while their user is deleted: when all is done, none is left.
async fn no_successor_outlives_its_user(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    for round in 0..4 {
        let ada: UserId = user(&t, &format!("ada{round}")).await;
        let mut keys = Vec::new();
        for _ in 0..RACERS {
            keys.push(made(&t, &of_user(ada)).await.key);
        }
        race(RACERS, |number| {
            let (t, old, next) = (t.clone(), keys[number].id, new_api_key(&of_user(ada), NOW));
            async move {
                if number == RACERS / 3 {
                    let _ = t.delete_user(ada, &change(NOW)).await.unwrap();
                } else if number % 2 == 0 {
                    let _ = t.rotate_api_key(old, &next, after(60), NOW, &AUDIT).await.unwrap();
                } else {
                    let _ = t.create_api_key(&next, 1000, NOW, &AUDIT).await.unwrap();
                }
            }
        })
        .await;
        assert_eq!(t.list_api_keys(None, None, 100).await.unwrap(), [], "round {round}");
    }
}

async fn uses_noted_at_once_are_all_counted(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let mut keys = Vec::new();
    for _ in 0..8 {
        keys.push(made(&t, &of_client("app")).await.key.id);
    }
    race(RACERS, |number| {
        let t = t.clone();
        let seconds = number as u64;
        let mut uses: Vec<_> = keys.iter().map(|id| used(*id, 2, after(seconds), None)).collect();
        // In another order on each node.
        uses.rotate_left(number % 8);
        async move { t.note_api_key_uses(&uses).await.unwrap() }
    })
    .await;
    for id in keys {
        let key = find(&t, id).await.key;
        assert_eq!(key.usage_count, 2 * RACERS as u64);
        assert_eq!(key.last_used_at, Some(after(RACERS as u64 - 1)));
    }
}
