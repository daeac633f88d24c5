use pmp_auth::model::audit::Action;
use pmp_auth::model::consent::Consent;
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::{ClientId, RevocationKey};
use pmp_auth::storage::{ClientState, CreateClient, NewGrant, SetClientState};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    a_client_is_found_as_it_was_written
    a_client_id_is_taken_once
    clients_are_listed_by_id
    a_deleted_client_takes_everything_with_it
    a_disabled_client_loses_its_grants_and_is_listed
    one_of_many_creates_a_client
    clients_of_two_tenants_do_not_touch
}

async fn a_client_is_found_as_it_was_written(bed: Bed) {
    let t = bed.tenant("acme").await;
    let new = client("app");
    assert_eq!(t.create_client(&new, NOW, &AUDIT).await.unwrap(), CreateClient::Created);
    assert_eq!(t.find_client(&new.id).await.unwrap(), Some(new));
    assert_eq!(t.find_client(&ClientId::new("App")).await.unwrap(), None);
    assert_eq!(actions(&t).await[0], Action::ClientCreated);
}

async fn a_client_id_is_taken_once(bed: Bed) {
    let t = bed.tenant("acme").await;
    let first = client("app");
    let mut second = client("app");
    second.name = "Another".into();
    let _ = t.create_client(&first, NOW, &AUDIT).await.unwrap();
    assert_eq!(t.create_client(&second, NOW, &AUDIT).await.unwrap(), CreateClient::Exists);
    assert_eq!(t.find_client(&app()).await.unwrap(), Some(first));
    assert_eq!(times(&t, Action::ClientCreated).await, 1);
}

async fn clients_are_listed_by_id(bed: Bed) {
    let t = bed.tenant("acme").await;
    for id in ["web", "api", "cli"] {
        let _ = t.create_client(&client(id), NOW, &AUDIT).await.unwrap();
    }
    let listed = t.list_clients().await.unwrap();
    assert_eq!(listed, [client("api"), client("cli"), client("web")]);
}

async fn a_deleted_client_takes_everything_with_it(bed: Bed) {
    let t = bed.tenant("acme").await;
    let _ = t.create_client(&client("app"), NOW, &AUDIT).await.unwrap();
    let who = signed_in(&t, "ada").await;
    let mine = redeem(&t, issued(&t, &who).await, NOW).await.issued;
    let other = NewGrant { client: ClientId::new("other"), ..new_grant(&who, &app(), NOW) };
    let other = issue(&t, other, new_code(NOW), NOW).await;
    let token = opaque(None, NOW);
    t.issue_access_token(&token).await.unwrap();
    let consent = Consent {
        user: who.user,
        client: app(),
        scope: scope("openid"),
        resources: vec![],
        granted_at: NOW,
    };
    t.remember_consent(&consent, &AUDIT).await.unwrap();
    assert!(t.delete_client(&app(), after(5), &AUDIT).await.unwrap());
    assert!(!t.delete_client(&app(), after(5), &AUDIT).await.unwrap());
    assert_eq!(t.find_client(&app()).await.unwrap(), None);
    assert_eq!(t.find_grant(mine.grant).await.unwrap(), None);
    assert_eq!(t.peek_code(&mine.code).await.unwrap(), None);
    assert_eq!(t.find_consent(who.user, &app()).await.unwrap(), None);
    assert_eq!(t.find_access_token(&token.digest).await.unwrap(), None);
    assert!(t.find_grant(other.grant).await.unwrap().is_some());
    assert!(t.peek_code(&other.code).await.unwrap().is_some());
    the_entry(&t, RevocationKey::Grant(mine.grant.to_string()), after(5)).await;
    assert_eq!(times(&t, Action::ClientDeleted).await, 1);
}

async fn a_disabled_client_loses_its_grants_and_is_listed(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let mine = issued(&t, &who).await.grant;
    let other = NewGrant { client: ClientId::new("other"), ..new_grant(&who, &app(), NOW) };
    let other = issue(&t, other, new_code(NOW), NOW).await.grant;
    let set = async |disabled, seconds| {
        t.set_client_disabled(&app(), disabled, &change(after(seconds))).await.unwrap()
    };
    assert_eq!(set(false, 1).await, SetClientState::Unchanged);
    assert_eq!(set(true, 5).await, SetClientState::Changed);
    assert_eq!(set(true, 6).await, SetClientState::Unchanged);
    let states = t.client_states().await.unwrap();
    assert_eq!(states, [ClientState { client: app(), disabled_at: after(5) }]);
    let state = async |id| t.find_grant(id).await.unwrap().unwrap().state;
    assert_eq!(state(mine).await, GrantState::Revoked);
    assert_eq!(state(other).await, GrantState::Live);
    let entry = the_entry(&t, RevocationKey::Client("app".into()), after(5)).await;
    assert_eq!((entry.not_before, entry.expires_at), (Some(after(15)), after(3605)));
    assert_eq!(set(false, 20).await, SetClientState::Changed);
    assert!(t.client_states().await.unwrap().is_empty());
    assert_eq!(state(mine).await, GrantState::Revoked, "enabling brings nothing back");
    assert_eq!(times(&t, Action::ClientDisabled).await, 1);
    assert_eq!(times(&t, Action::ClientEnabled).await, 1);
}

async fn one_of_many_creates_a_client(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let outcomes = race(RACERS, |_| {
        let t = t.clone();
        async move { t.create_client(&client("app"), NOW, &AUDIT).await.unwrap() }
    })
    .await;
    assert_eq!(count(&outcomes, |o| *o == CreateClient::Created), 1);
    assert_eq!(count(&outcomes, |o| *o == CreateClient::Exists), RACERS - 1);
}

async fn clients_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let _ = a.create_client(&client("app"), NOW, &AUDIT).await.unwrap();
    let grant = issued(&a, &signed_in(&a, "ada").await).await.grant;
    assert_eq!(b.find_client(&app()).await.unwrap(), None);
    assert!(b.list_clients().await.unwrap().is_empty());
    assert!(!b.delete_client(&app(), NOW, &AUDIT).await.unwrap());
    let set = b.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    assert_eq!(set, SetClientState::Changed);
    assert!(a.client_states().await.unwrap().is_empty());
    assert_eq!(a.find_grant(grant).await.unwrap().unwrap().state, GrantState::Live);
    let created = b.create_client(&client("app"), NOW, &AUDIT).await.unwrap();
    assert_eq!(created, CreateClient::Created);
    assert!(b.delete_client(&app(), NOW, &AUDIT).await.unwrap());
    assert!(a.find_client(&app()).await.unwrap().is_some());
}
