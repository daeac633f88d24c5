use std::collections::HashSet;
use std::time::Duration;

use pmp_auth::base::Timestamp;
use pmp_auth::model::token::StatusPlace;
use pmp_auth::model::{ClientId, Revocation, RevocationKey};
use pmp_auth::storage::{
    NewOpaqueToken, PlacesTaken, PlacesWanted, RedeemCode, RefreshVerdict, TenantHandle,
};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::race;

on_every_engine! {
    places_are_taken_in_blocks_and_none_twice
    many_takers_at_once_get_places_of_their_own
    a_list_is_found_by_its_id_in_its_tenant_alone
    each_kind_of_entry_names_the_places_of_its_tokens
    an_entry_names_only_what_it_covers
    a_place_is_written_with_what_issues_its_token
    a_place_outlives_the_revocation_of_its_token_and_the_deletion_of_its_client
    a_place_is_given_once
}

const HOUR: Timestamp = Timestamp::from_seconds(1_800_003_600);

fn wanted(number: u32, count: u32) -> PlacesWanted {
    PlacesWanted {
        ends_at: HOUR,
        number,
        count,
        capacity: 10_000,
        id: format!("list-{}", unique()),
        seed: [u8::try_from(number).unwrap(); 32],
    }
}

async fn take(t: &TenantHandle, number: u32, count: u32) -> Option<PlacesTaken> {
    t.take_places(&wanted(number, count), NOW).await.unwrap()
}

async fn places_are_taken_in_blocks_and_none_twice(bed: Bed) {
    let t = bed.tenant("acme").await;
    let first = take(&t, 0, 6_000).await.unwrap();
    assert_eq!((first.first, first.list.ends_at, first.list.seed), (0, HOUR, [0; 32]));
    let second = take(&t, 0, 4_000).await.unwrap();
    assert_eq!((second.first, &second.list), (6_000, &first.list), "the id and seed stay");
    assert_eq!(take(&t, 0, 1).await, None, "it is full");
    let next = take(&t, 1, 10_000).await.unwrap();
    assert_eq!(next.first, 0);
    assert_ne!(next.list.id, first.list.id);
    assert_eq!(take(&t, 2, 10_001).await, None, "more than a list has");
    let lists = t.list_status_lists(NOW).await.unwrap();
    assert_eq!(lists, [first.list, next.list]);
}

async fn many_takers_at_once_get_places_of_their_own(bed: Bed) {
    let t = bed.tenant("acme").await;
    let taken = race(32, |_| {
        let t = t.clone();
        async move {
            let mut taken = Vec::new();
            for number in 0..2 {
                while let Some(block) = take(&t, number, 250).await {
                    taken.push((block.list.id, block.first));
                }
            }
            taken
        }
    })
    .await;
    let all: Vec<_> = taken.into_iter().flatten().collect();
    let once: HashSet<_> = all.iter().cloned().collect();
    assert_eq!((all.len(), once.len()), (80, 80), "two lists of forty blocks");
    assert!(once.iter().all(|(_, first)| first % 250 == 0 && *first < 10_000));
}

async fn a_list_is_found_by_its_id_in_its_tenant_alone(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let list = take(&a, 0, 1).await.unwrap().list;
    assert_eq!(a.find_status_list(&list.id).await.unwrap(), Some(list.clone()));
    assert_eq!(b.find_status_list(&list.id).await.unwrap(), None);
    assert!(b.list_status_lists(NOW).await.unwrap().is_empty());
    let ended = HOUR.plus(Duration::from_mins(1));
    assert!(a.list_status_lists(ended).await.unwrap().is_empty());
    let token = placed(opaque(None, NOW), "L", 7);
    a.issue_access_token(&token).await.unwrap();
    b.append_revocations(&[entry(RevocationKey::Jti(token.claims.jti))], NOW, &AUDIT)
        .await
        .unwrap();
    assert!(revoked(&a, "L").await.is_empty() && revoked(&b, "L").await.is_empty());
}

/// The row of a signed token with a place.
fn placed(mut token: NewOpaqueToken, list: &str, idx: u32) -> NewOpaqueToken {
    token.claims.status = Some(StatusPlace { list: list.into(), idx, kid: Some("k1".into()) });
    token
}

async fn revoked(t: &TenantHandle, list: &str) -> Vec<u32> {
    let mut all = t.revoked_places(list, None, NOW).await.unwrap();
    all.sort_unstable();
    all
}

async fn each_kind_of_entry_names_the_places_of_its_tokens(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (grant, other) = (family(&t, "ada").await, family(&t, "bob").await);
    let user = grant.issued.who;
    let mut token = placed(opaque(Some(grant.issued.grant), NOW), "L", 1);
    token.claims.user = Some(user.user);
    token.claims.session = Some(user.session);
    token.claims.generation = Some(3);
    let mut stranger = placed(opaque(Some(other.issued.grant), NOW), "L", 2);
    stranger.claims.client = ClientId::new("other");
    stranger.claims.user = Some(other.issued.who.user);
    stranger.claims.session = Some(other.issued.who.session);
    stranger.claims.generation = Some(4);
    if let Some(place) = &mut stranger.claims.status {
        place.kid = Some("k2".into());
    }
    let elsewhere = placed(opaque(None, NOW), "M", 1);
    for row in [&token, &stranger, &elsewhere] {
        t.issue_access_token(row).await.unwrap();
    }
    let gid = grant.issued.grant;
    let keys = [
        RevocationKey::Jti(token.claims.jti.clone()),
        RevocationKey::head(gid, 3),
        RevocationKey::Grant(gid.to_string()),
        RevocationKey::ApiKey(gid.to_string()),
        RevocationKey::Session(user.session.to_string()),
        RevocationKey::Subject(user.user.to_string()),
        RevocationKey::Client("app".into()),
        RevocationKey::Kid("k1".into()),
    ];
    assert!(revoked(&t, "L").await.is_empty());
    for key in keys {
        t.append_revocations(&[entry(key.clone())], NOW, &AUDIT).await.unwrap();
        let among = std::slice::from_ref(&key);
        assert_eq!(t.revoked_places("L", Some(among), NOW).await.unwrap(), [1], "{key:?}");
    }
    assert_eq!(revoked(&t, "L").await, [1], "by all of them once");
    let nothing = [RevocationKey::Jti("unknown".into()), RevocationKey::head(gid, 2)];
    assert!(t.revoked_places("L", Some(&nothing), NOW).await.unwrap().is_empty());
    t.append_revocations(&[entry(RevocationKey::Tenant)], NOW, &AUDIT).await.unwrap();
    assert_eq!(revoked(&t, "L").await, [1, 2]);
}

async fn an_entry_names_only_what_it_covers(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (early, late) = (placed(opaque(None, NOW), "L", 1), placed(opaque(None, after(9)), "L", 2));
    let mut files = placed(opaque(None, NOW), "L", 3);
    files.claims.audience = vec!["https://files.example".into()];
    files.claims.client = ClientId::new("files");
    for row in [&early, &late, &files] {
        t.issue_access_token(row).await.unwrap();
    }
    let before =
        Revocation { not_before: Some(after(8)), ..entry(RevocationKey::Client("app".into())) };
    t.append_revocations(&[before], NOW, &AUDIT).await.unwrap();
    assert_eq!(revoked(&t, "L").await, [1], "what was issued later lives");
    let of_api = |audience: &str| Revocation {
        audience: Some(vec![audience.into()]),
        ..entry(RevocationKey::Jti(files.claims.jti.clone()))
    };
    t.append_revocations(&[of_api("https://api.example")], NOW, &AUDIT).await.unwrap();
    assert_eq!(revoked(&t, "L").await, [1], "another audience");
    t.append_revocations(&[of_api("https://files.example")], NOW, &AUDIT).await.unwrap();
    assert_eq!(revoked(&t, "L").await, [1, 3]);
    let over = after(100_000);
    assert!(t.revoked_places("L", None, over).await.unwrap().is_empty(), "the entries are over");
}

async fn a_place_is_written_with_what_issues_its_token(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let issued = issued(&t, &who).await;
    let grant = issued.grant;
    let mut redeem = redemption(&issued, NOW);
    redeem.opaque = Some(placed(opaque(Some(grant), NOW), "L", 1));
    let redeemed = t.redeem_code(&redeem, NOW, &AUDIT).await.unwrap();
    let RedeemCode::Redeemed { refresh: Some(head) } = redeemed else { panic!("{redeemed:?}") };
    let family = Family { issued: issued.clone(), head: head.clone() };
    let mut rotate = rotation(&family, &head, after(1));
    rotate.opaque = Some(placed(opaque(Some(grant), after(1)), "L", 2));
    let rotated = t.rotate_refresh(&rotate, after(1), &AUDIT).await.unwrap();
    assert!(matches!(rotated, RefreshVerdict::Rotated(_)), "{rotated:?}");
    t.append_revocations(&[entry(RevocationKey::head(grant, 2))], NOW, &AUDIT).await.unwrap();
    assert_eq!(revoked(&t, "L").await, [2], "the generation is that of the verdict");
    // A replay issues nothing, and takes along all that was issued.
    redeem.opaque = Some(placed(opaque(Some(grant), NOW), "L", 3));
    let replayed = t.redeem_code(&redeem, after(2), &AUDIT).await.unwrap();
    assert!(matches!(replayed, RedeemCode::Replayed { .. }), "{replayed:?}");
    assert_eq!(revoked(&t, "L").await, [1, 2]);
}

async fn a_place_outlives_the_revocation_of_its_token_and_the_deletion_of_its_client(bed: Bed) {
    let t = bed.tenant("acme").await;
    let _ = t.create_client(&client("app"), NOW, &AUDIT).await.unwrap();
    let alone = placed(opaque(None, NOW), "L", 1);
    let family = family(&t, "ada").await;
    let granted = placed(opaque(Some(family.issued.grant), NOW), "L", 2);
    for row in [&alone, &granted] {
        t.issue_access_token(row).await.unwrap();
    }
    t.revoke_access_token(&alone.claims, &change(NOW)).await.unwrap();
    assert_eq!(revoked(&t, "L").await, [1]);
    assert!(t.delete_client(&app(), NOW, &AUDIT).await.unwrap());
    assert_eq!(revoked(&t, "L").await, [1, 2]);
    let over = after(601);
    let _ = bed.cleanup_expired_data(over, 100, false).await.unwrap();
    assert!(revoked(&t, "L").await.is_empty(), "its tokens are over");
}

async fn a_place_is_given_once(bed: Bed) {
    let t = bed.tenant("acme").await;
    let (one, mut other) = (placed(opaque(None, NOW), "L", 1), placed(opaque(None, NOW), "L", 1));
    t.issue_access_token(&one).await.unwrap();
    // As the server makes the digest: of the place.
    other.digest = one.digest;
    assert!(t.issue_access_token(&other).await.is_err());
}
