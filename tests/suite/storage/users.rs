use std::time::Duration;

use pmp_auth::base::Secret;
use pmp_auth::model::audit::Action;
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::user::{LoginName, PasswordHash};
use pmp_auth::model::{RevocationKey, UserId};
use pmp_auth::storage::{ChangeUser, CreateUser, NewUser, TenantHandle};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    a_user_is_found_by_every_spelling_of_user_name_and_email
    user_names_and_emails_are_taken_once_in_any_spelling
    a_user_name_wins_over_anothers_email
    users_are_listed_page_by_page
    a_new_password_ends_sessions_and_grants_but_the_kept_one
    a_better_hash_replaces_only_the_hash_it_was_made_from
    a_disabled_user_loses_everything_and_gets_nothing_back
    a_deleted_user_is_gone_and_the_name_is_free
    one_of_many_gets_the_name
    users_of_two_tenants_do_not_touch
}

fn hash(text: &str) -> PasswordHash {
    Secret::new(text.to_owned())
}

async fn by_login(t: &TenantHandle, typed: &str) -> Option<UserId> {
    let found = t.find_user_by_login(&LoginName::canonical(typed)).await.unwrap();
    found.map(|user| user.id)
}

async fn a_user_is_found_by_every_spelling_of_user_name_and_email(bed: Bed) {
    let t = bed.tenant("acme").await;
    let new = NewUser {
        username: Some("Ada".into()),
        email: "Ada.L@Example.com".into(),
        email_verified: false,
        ..new_user("ada")
    };
    assert_eq!(t.create_user(&new, NOW, &AUDIT).await.unwrap(), CreateUser::Created);
    for typed in ["ada", " ADA ", "ada.l@example.COM"] {
        assert_eq!(by_login(&t, typed).await, Some(new.id), "{typed}");
    }
    assert_eq!(by_login(&t, "eve").await, None);
    let user = t.find_user(new.id).await.unwrap().unwrap();
    assert_eq!(user.username.as_deref(), Some("Ada"), "as typed");
    assert_eq!((user.email.as_str(), user.email_verified), ("Ada.L@Example.com", false));
    assert_eq!(user.name.as_deref(), Some("ada Lovelace"));
    assert_eq!(user.given_name.as_deref(), Some("ada"));
    assert_eq!(user.family_name.as_deref(), Some("Lovelace"));
    assert_eq!(user.password_hash.unwrap().reveal(), "$argon2id$old");
    assert_eq!((user.password_changed_at, user.created_at, user.updated_at), (NOW, NOW, NOW));
    assert_eq!((user.disabled, user.last_login_at), (false, None));
    assert!(t.find_user(UserId(uuid())).await.unwrap().is_none());
    assert_eq!(actions(&t).await[0], Action::UserCreated);
}

async fn user_names_and_emails_are_taken_once_in_any_spelling(bed: Bed) {
    let t = bed.tenant("acme").await;
    let ada = new_user("ada");
    let _ = t.create_user(&ada, NOW, &AUDIT).await.unwrap();
    let exists = async |new: NewUser| {
        assert_eq!(t.create_user(&new, NOW, &AUDIT).await.unwrap(), CreateUser::Exists);
    };
    exists(NewUser { username: Some(" ADA".into()), ..new_user("bob") }).await;
    exists(NewUser { email: "Ada@EXAMPLE.com".into(), ..new_user("bob") }).await;
    exists(NewUser { id: ada.id, ..new_user("bob") }).await;
    assert_eq!(by_login(&t, "bob").await, None, "nothing of it was stored");
    let unnamed = NewUser { username: None, ..new_user("cyd") };
    assert_eq!(t.create_user(&unnamed, NOW, &AUDIT).await.unwrap(), CreateUser::Created);
    let unnamed = NewUser { username: None, ..new_user("dan") };
    assert_eq!(t.create_user(&unnamed, NOW, &AUDIT).await.unwrap(), CreateUser::Created);
    assert_eq!(times(&t, Action::UserCreated).await, 3);
}

async fn a_user_name_wins_over_anothers_email(bed: Bed) {
    let t = bed.tenant("acme").await;
    let by_email = NewUser { email: "x@example.com".into(), ..new_user("ada") };
    let by_name = NewUser { username: Some("X@example.com".into()), ..new_user("bob") };
    let _ = t.create_user(&by_email, NOW, &AUDIT).await.unwrap();
    let _ = t.create_user(&by_name, NOW, &AUDIT).await.unwrap();
    assert_eq!(by_login(&t, "x@example.com").await, Some(by_name.id));
}

async fn users_are_listed_page_by_page(bed: Bed) {
    let t = bed.tenant("acme").await;
    let mut ids = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        ids.push(user(&t, name).await);
    }
    let page = async |after, limit| {
        let users = t.list_users(after, limit).await.unwrap();
        users.into_iter().map(|user| user.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2).await, ids[..2]);
    assert_eq!(page(Some(ids[1]), 2).await, ids[2..]);
    assert!(page(Some(ids[2]), 2).await.is_empty());
}

async fn a_new_password_ends_sessions_and_grants_but_the_kept_one(bed: Bed) {
    let t = bed.tenant("acme").await;
    let kept = signed_in(&t, "ada").await;
    let ended = session(&t, kept.user, NOW).await;
    let grant = issued(&t, &kept).await.grant;
    let bystander = issued(&t, &signed_in(&t, "bob").await).await;
    let set = async |id| {
        let new = hash("$argon2id$new");
        t.set_password(id, &new, Some(kept.session), &change(after(5))).await.unwrap()
    };
    assert_eq!(set(kept.user).await, ChangeUser::Changed);
    assert_eq!(set(UserId(uuid())).await, ChangeUser::Unknown);
    let user = t.find_user(kept.user).await.unwrap().unwrap();
    assert_eq!(user.password_hash.unwrap().reveal(), "$argon2id$new");
    assert_eq!((user.password_changed_at, user.updated_at), (after(5), after(5)));
    assert!(t.find_session(&kept.cookie, after(5)).await.unwrap().is_some());
    assert_eq!(t.find_session(&ended.cookie, after(5)).await.unwrap(), None);
    let state = async |id| t.find_grant(id).await.unwrap().unwrap().state;
    assert_eq!(state(grant).await, GrantState::Revoked);
    assert_eq!(state(bystander.grant).await, GrantState::Live);
    for key in
        [RevocationKey::Session(ended.session.to_string()), RevocationKey::Grant(grant.to_string())]
    {
        let entry = the_entry(&t, key, after(5)).await;
        assert_eq!((entry.expires_at, entry.not_before), (after(3605), None));
    }
    let spared = [
        RevocationKey::Session(kept.session.to_string()),
        RevocationKey::Subject(kept.user.to_string()),
    ];
    assert!(entries(&t, &spared, after(5)).await.is_empty());
    assert_eq!(times(&t, Action::PasswordChanged).await, 1);
    // The next login survives.
    let next = session(&t, kept.user, after(6)).await;
    assert!(t.find_session(&next.cookie, after(6)).await.unwrap().is_some());
}

async fn a_better_hash_replaces_only_the_hash_it_was_made_from(bed: Bed) {
    let t = bed.tenant("acme").await;
    let id = user(&t, "ada").await;
    let (old, better) = (hash("$argon2id$old"), hash("$argon2id$better"));
    assert!(t.rehash_password(id, &old, &better).await.unwrap());
    assert!(!t.rehash_password(id, &old, &hash("$argon2id$late")).await.unwrap());
    assert!(!t.rehash_password(UserId(uuid()), &old, &better).await.unwrap());
    let user = t.find_user(id).await.unwrap().unwrap();
    assert_eq!(user.password_hash.unwrap().reveal(), "$argon2id$better");
    assert_eq!(user.password_changed_at, NOW, "it is the same password");
}

async fn a_disabled_user_loses_everything_and_gets_nothing_back(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let grant = issued(&t, &who).await.grant;
    let set = async |disabled, seconds| {
        t.set_user_disabled(who.user, disabled, &change(after(seconds))).await.unwrap()
    };
    assert_eq!(set(false, 1).await, ChangeUser::Unchanged);
    assert_eq!(set(true, 5).await, ChangeUser::Changed);
    assert_eq!(set(true, 6).await, ChangeUser::Unchanged);
    assert!(t.find_user(who.user).await.unwrap().unwrap().disabled);
    assert_eq!(t.find_session(&who.cookie, after(5)).await.unwrap(), None);
    let key = RevocationKey::Subject(who.user.to_string());
    let entry = the_entry(&t, key, after(5)).await;
    assert_eq!(entry.not_before, Some(after(15)));
    assert_eq!(entry.expires_at, after(3605));
    assert_eq!(set(false, 20).await, ChangeUser::Changed);
    assert!(!t.find_user(who.user).await.unwrap().unwrap().disabled);
    assert_eq!(t.find_session(&who.cookie, after(20)).await.unwrap(), None);
    let state = t.find_grant(grant).await.unwrap().unwrap().state;
    assert_eq!(state, GrantState::Revoked);
    let unknown = t.set_user_disabled(UserId(uuid()), true, &change(NOW)).await.unwrap();
    assert_eq!(unknown, ChangeUser::Unknown);
    assert_eq!(times(&t, Action::UserDisabled).await, 1);
    assert_eq!(times(&t, Action::UserEnabled).await, 1);
}

async fn a_deleted_user_is_gone_and_the_name_is_free(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let grant = issued(&t, &who).await.grant;
    let bystander = signed_in(&t, "bob").await;
    let delete = async || t.delete_user(who.user, &change(after(5))).await.unwrap();
    assert_eq!(delete().await, ChangeUser::Changed);
    assert_eq!(delete().await, ChangeUser::Unknown);
    assert!(t.find_user(who.user).await.unwrap().is_none());
    assert_eq!(by_login(&t, "ada").await, None);
    assert_eq!(by_login(&t, "ada@example.com").await, None);
    assert_eq!(t.find_session(&who.cookie, after(5)).await.unwrap(), None);
    assert!(t.find_session(&bystander.cookie, after(5)).await.unwrap().is_some());
    let state = t.find_grant(grant).await.unwrap().map(|grant| grant.state);
    assert!(state.is_none_or(|state| state == GrantState::Revoked));
    assert!(t.list_users(None, 10).await.unwrap().iter().all(|user| user.id != who.user));
    let entry = the_entry(&t, RevocationKey::Subject(who.user.to_string()), after(5)).await;
    assert_eq!(entry.not_before, Some(after(15)));
    assert_eq!(times(&t, Action::UserDeleted).await, 1);
    let again = user(&t, "ada").await;
    assert_eq!(by_login(&t, "ada").await, Some(again));
}

async fn one_of_many_gets_the_name(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let outcomes = race(RACERS, |_| {
        let (t, new) = (t.clone(), new_user("ada"));
        async move { t.create_user(&new, NOW, &AUDIT).await.unwrap() }
    })
    .await;
    assert_eq!(count(&outcomes, |o| *o == CreateUser::Created), 1);
    assert_eq!(count(&outcomes, |o| *o == CreateUser::Exists), RACERS - 1);
}

async fn users_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let who = signed_in(&a, "ada").await;
    assert!(b.find_user(who.user).await.unwrap().is_none());
    assert_eq!(by_login(&b, "ada").await, None);
    assert!(b.list_users(None, 10).await.unwrap().is_empty());
    let change = change(NOW);
    let stolen = hash("$argon2id$stolen");
    assert_eq!(b.delete_user(who.user, &change).await.unwrap(), ChangeUser::Unknown);
    assert_eq!(b.set_user_disabled(who.user, true, &change).await.unwrap(), ChangeUser::Unknown);
    let set = b.set_password(who.user, &stolen, None, &change).await.unwrap();
    assert_eq!(set, ChangeUser::Unknown);
    let old = hash("$argon2id$old");
    assert!(!b.rehash_password(who.user, &old, &stolen).await.unwrap());
    // The same user in the other tenant is someone else.
    let twin = NewUser { id: who.user, ..new_user("ada") };
    assert_eq!(b.create_user(&twin, NOW, &AUDIT).await.unwrap(), CreateUser::Created);
    assert_eq!(b.delete_user(who.user, &change).await.unwrap(), ChangeUser::Changed);
    let user = a.find_user(who.user).await.unwrap().unwrap();
    assert_eq!(user.password_hash.unwrap().reveal(), "$argon2id$old");
    let found = a.find_session(&who.cookie, NOW.plus(Duration::from_secs(1))).await.unwrap();
    assert!(found.is_some());
}
