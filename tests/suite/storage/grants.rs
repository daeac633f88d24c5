use pmp_auth::model::audit::Action;
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::{GrantId, RevocationKey};
use pmp_auth::storage::{NewGrant, RevokeGrant};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    a_grant_is_found_as_it_was_made
    a_grant_is_revoked_once_with_its_entry
    the_live_grants_of_a_user_are_listed_newest_first
    one_of_many_revokes
    grants_of_two_tenants_do_not_touch
}

async fn a_grant_is_found_as_it_was_made(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let new =
        NewGrant { jkt: Some("thumbprint".into()), offline: false, ..new_grant(&who, &app(), NOW) };
    issue(&t, new.clone(), new_code(NOW), NOW).await;
    let grant = t.find_grant(new.id).await.unwrap().unwrap();
    assert_eq!((grant.id, grant.client, grant.user), (new.id, new.client, new.user));
    assert_eq!((grant.session, grant.jkt, grant.offline), (new.session, new.jkt, false));
    assert_eq!(grant.terms, new.terms);
    assert_eq!(t.find_grant(GrantId(uuid())).await.unwrap(), None);
}

async fn a_grant_is_revoked_once_with_its_entry(bed: Bed) {
    let t = bed.tenant("acme").await;
    let id = family(&t, "ada").await.issued.grant;
    assert_eq!(t.revoke_grant(id, after(5), &AUDIT).await.unwrap(), RevokeGrant::Revoked);
    assert_eq!(t.revoke_grant(id, after(6), &AUDIT).await.unwrap(), RevokeGrant::AlreadyRevoked);
    let unknown = t.revoke_grant(GrantId(uuid()), NOW, &AUDIT).await.unwrap();
    assert_eq!(unknown, RevokeGrant::Unknown);
    assert_eq!(t.find_grant(id).await.unwrap().unwrap().state, GrantState::Revoked);
    let entry = the_entry(&t, RevocationKey::Grant(id.to_string()), after(5)).await;
    assert_eq!((entry.at, entry.not_before, entry.audience), (after(5), None, None));
    assert!(entry.expires_at >= after(660), "covers the access token");
    assert_eq!(times(&t, Action::GrantRevoked).await, 1);
}

async fn the_live_grants_of_a_user_are_listed_newest_first(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let mut ids = Vec::new();
    for seconds in [0, 1, 2] {
        let at = after(seconds);
        ids.push(issue(&t, new_grant(&who, &app(), at), new_code(at), at).await.grant);
    }
    let other = issued(&t, &signed_in(&t, "bob").await).await;
    let _ = t.revoke_grant(ids[1], after(3), &AUDIT).await.unwrap();
    let over = NewGrant { expires_at: after(60), ..new_grant(&who, &app(), NOW) };
    issue(&t, over, new_code(NOW), NOW).await;
    let listed = t.list_grants(who.user, after(60)).await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|grant| grant.id).collect();
    assert_eq!(listed, [ids[2], ids[0]]);
    let of_other = t.list_grants(other.who.user, after(60)).await.unwrap();
    assert_eq!(of_other.len(), 1);
}

async fn one_of_many_revokes(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let id = family(&t, "ada").await.issued.grant;
    let outcomes = race(RACERS, |_| {
        let t = t.clone();
        async move { t.revoke_grant(id, NOW, &AUDIT).await.unwrap() }
    })
    .await;
    assert_eq!(count(&outcomes, |o| *o == RevokeGrant::Revoked), 1);
    assert_eq!(count(&outcomes, |o| *o == RevokeGrant::AlreadyRevoked), RACERS - 1);
    the_entry(&t, RevocationKey::Grant(id.to_string()), NOW).await;
}

async fn grants_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let family = family(&a, "ada").await;
    let id = family.issued.grant;
    assert_eq!(b.revoke_grant(id, NOW, &AUDIT).await.unwrap(), RevokeGrant::Unknown);
    assert!(b.list_grants(family.issued.who.user, NOW).await.unwrap().is_empty());
    assert_eq!(a.find_grant(id).await.unwrap().unwrap().state, GrantState::Live);
    assert!(entries(&a, &[RevocationKey::Grant(id.to_string())], NOW).await.is_empty());
}
