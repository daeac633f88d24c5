use std::time::Duration;

use pmp_auth::base::Secret;
use pmp_auth::model::audit::Action;
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::session::Session;
use pmp_auth::model::{RevocationKey, SessionId, UserId};
use pmp_auth::storage::{CreateSession, EndReason, EndSession, NewGrant, NewSession};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    a_session_is_found_by_its_cookie_while_it_lives
    a_session_of_nobody_is_not_begun
    a_password_that_was_changed_meanwhile_begins_no_session
    using_a_session_moves_its_idle_end_and_no_other
    a_session_ends_once_with_its_entry_and_the_grants_that_die_with_it
    a_new_session_ends_the_one_that_it_replaces
    a_session_that_is_not_begun_ends_none
    the_live_sessions_of_a_user_are_listed
    one_of_many_ends_a_session
    sessions_of_two_tenants_do_not_touch
}

async fn a_session_is_found_by_its_cookie_while_it_lives(bed: Bed) {
    let t = bed.tenant("acme").await;
    let user = user(&t, "ada").await;
    let new = new_session(user, NOW);
    assert_eq!(t.create_session(&new, NOW, &AUDIT).await.unwrap(), CreateSession::Created);
    let expected = Session {
        id: new.id,
        user,
        auth_time: NOW,
        amr: vec!["pwd".into()],
        acr: Some("1".into()),
        created_at: NOW,
        last_active_at: NOW,
        idle_expires_at: after(1800),
        expires_at: new.expires_at,
        user_agent: Some("Browser/1".into()),
        ip: Some("203.0.113.7".into()),
    };
    assert_eq!(t.find_session(&new.cookie, after(1799)).await.unwrap(), Some(expected));
    assert_eq!(t.find_session(&new.cookie, after(1800)).await.unwrap(), None);
    assert_eq!(t.find_session(&digest("other"), NOW).await.unwrap(), None);
    assert_eq!(t.find_user(user).await.unwrap().unwrap().last_login_at, Some(NOW));
    let record = &t.list_audit(1).await.unwrap()[0];
    assert_eq!(record.action, Action::LoginSucceeded);
    assert_eq!((record.user, record.session), (Some(user), Some(new.id)));
}

async fn a_session_of_nobody_is_not_begun(bed: Bed) {
    let t = bed.tenant("acme").await;
    let nobody = new_session(UserId(uuid()), NOW);
    let outcome = t.create_session(&nobody, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, CreateSession::UserNotLive);
    let user = user(&t, "ada").await;
    let _ = t.set_user_disabled(user, true, &change(NOW)).await.unwrap();
    let disabled = new_session(user, NOW);
    let outcome = t.create_session(&disabled, NOW, &AUDIT).await.unwrap();
    assert_eq!(outcome, CreateSession::UserNotLive);
    assert_eq!(t.find_session(&disabled.cookie, NOW).await.unwrap(), None);
    assert_eq!(times(&t, Action::LoginSucceeded).await, 0);
}

async fn a_password_that_was_changed_meanwhile_begins_no_session(bed: Bed) {
    let t = bed.tenant("acme").await;
    let id = user(&t, "ada").await;
    let verified = t.find_user(id).await.unwrap().unwrap();
    let hash = Secret::new("$argon2id$new".to_owned());
    let _ = t.set_password(id, &hash, None, &change(after(1))).await.unwrap();
    let stale = NewSession {
        password_changed_at: verified.password_changed_at,
        ..new_session(id, after(2))
    };
    let outcome = t.create_session(&stale, after(2), &AUDIT).await.unwrap();
    assert_eq!(outcome, CreateSession::UserNotLive);
    assert_eq!(t.find_session(&stale.cookie, after(2)).await.unwrap(), None);
    assert_eq!(t.find_user(id).await.unwrap().unwrap().last_login_at, None);
    assert_eq!(times(&t, Action::LoginSucceeded).await, 0);
    // Verified against the new password, it begins; a better hash of it changes nothing.
    let better = Secret::new("$argon2id$better".to_owned());
    assert!(t.rehash_password(id, &hash, &better).await.unwrap());
    let fresh = NewSession { password_changed_at: after(1), ..new_session(id, after(3)) };
    let outcome = t.create_session(&fresh, after(3), &AUDIT).await.unwrap();
    assert_eq!(outcome, CreateSession::Created);
}

async fn using_a_session_moves_its_idle_end_and_no_other(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    t.touch_session(who.session, after(60), after(1860)).await.unwrap();
    let found = t.find_session(&who.cookie, after(1859)).await.unwrap().unwrap();
    assert_eq!((found.last_active_at, found.idle_expires_at), (after(60), after(1860)));
    assert_eq!(found.expires_at, NOW.plus(Duration::from_hours(12)));
    // Stored times never move backwards, and what is over stays over.
    t.touch_session(who.session, after(30), after(1830)).await.unwrap();
    let found = t.find_session(&who.cookie, after(1859)).await.unwrap().unwrap();
    assert_eq!((found.last_active_at, found.idle_expires_at), (after(60), after(1860)));
    t.touch_session(who.session, after(1860), after(9000)).await.unwrap();
    assert_eq!(t.find_session(&who.cookie, after(1860)).await.unwrap(), None);
}

async fn a_session_ends_once_with_its_entry_and_the_grants_that_die_with_it(bed: Bed) {
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let offline = issued(&t, &who).await.grant;
    let online = NewGrant { offline: false, ..new_grant(&who, &app(), NOW) };
    let online = issue(&t, online, new_code(NOW), NOW).await.grant;
    let end =
        async || t.end_session(who.session, EndReason::Logout, &change(after(9))).await.unwrap();
    assert_eq!(end().await, EndSession::Ended);
    assert_eq!(end().await, EndSession::NotLive);
    let unknown = t.end_session(SessionId(uuid()), EndReason::Logout, &change(NOW)).await;
    assert_eq!(unknown.unwrap(), EndSession::NotLive);
    assert_eq!(t.find_session(&who.cookie, after(9)).await.unwrap(), None);
    let state = async |id| t.find_grant(id).await.unwrap().unwrap().state;
    assert_eq!(state(online).await, GrantState::Revoked);
    assert_eq!(state(offline).await, GrantState::Live);
    let entry = the_entry(&t, RevocationKey::Session(who.session.to_string()), after(9)).await;
    assert_eq!((entry.at, entry.expires_at), (after(9), after(3609)));
    assert_eq!(times(&t, Action::SessionEnded).await, 1);
}

async fn a_new_session_ends_the_one_that_it_replaces(bed: Bed) {
    let t = bed.tenant("acme").await;
    let old = signed_in(&t, "ada").await;
    let other = session(&t, old.user, NOW).await;
    let new =
        NewSession { replaces: Some((old.session, after(500))), ..new_session(old.user, after(5)) };
    assert_eq!(t.create_session(&new, after(5), &AUDIT).await.unwrap(), CreateSession::Created);
    assert_eq!(t.find_session(&old.cookie, after(5)).await.unwrap(), None);
    assert!(t.find_session(&other.cookie, after(5)).await.unwrap().is_some());
    assert!(t.find_session(&new.cookie, after(5)).await.unwrap().is_some());
    let entry = the_entry(&t, RevocationKey::Session(old.session.to_string()), after(5)).await;
    assert_eq!(entry.expires_at, after(500));
    assert_eq!(times(&t, Action::SessionEnded).await, 1);
    // Replacing what is not there is no fault.
    let new = NewSession {
        replaces: Some((SessionId(uuid()), after(500))),
        ..new_session(old.user, after(6))
    };
    assert_eq!(t.create_session(&new, after(6), &AUDIT).await.unwrap(), CreateSession::Created);
    assert_eq!(times(&t, Action::SessionEnded).await, 1);
}

async fn a_session_that_is_not_begun_ends_none(bed: Bed) {
    let t = bed.tenant("acme").await;
    let old = signed_in(&t, "ada").await;
    let new = NewSession {
        replaces: Some((old.session, after(500))),
        ..new_session(UserId(uuid()), NOW)
    };
    assert_eq!(t.create_session(&new, NOW, &AUDIT).await.unwrap(), CreateSession::UserNotLive);
    assert!(t.find_session(&old.cookie, NOW).await.unwrap().is_some());
}

async fn the_live_sessions_of_a_user_are_listed(bed: Bed) {
    let t = bed.tenant("acme").await;
    let first = signed_in(&t, "ada").await;
    let second = session(&t, first.user, after(60)).await;
    let ended = session(&t, first.user, NOW).await;
    let _ = t.end_session(ended.session, EndReason::Operator, &change(NOW)).await.unwrap();
    signed_in(&t, "bob").await;
    let listed = async |seconds| {
        let listed = t.list_sessions(first.user, after(seconds)).await.unwrap();
        let mut ids: Vec<_> = listed.into_iter().map(|session| session.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(listed(60).await, [first.session, second.session]);
    assert_eq!(listed(1800).await, [second.session]);
}

async fn one_of_many_ends_a_session(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let who = signed_in(&t, "ada").await;
    let outcomes = race(RACERS, |_| {
        let t = t.clone();
        async move { t.end_session(who.session, EndReason::Logout, &change(NOW)).await.unwrap() }
    })
    .await;
    assert_eq!(count(&outcomes, |o| *o == EndSession::Ended), 1);
    the_entry(&t, RevocationKey::Session(who.session.to_string()), NOW).await;
}

async fn sessions_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    let who = signed_in(&a, "ada").await;
    assert_eq!(b.find_session(&who.cookie, NOW).await.unwrap(), None);
    assert!(b.list_sessions(who.user, NOW).await.unwrap().is_empty());
    let ended = b.end_session(who.session, EndReason::Logout, &change(NOW)).await.unwrap();
    assert_eq!(ended, EndSession::NotLive);
    b.touch_session(who.session, after(60), after(9000)).await.unwrap();
    let found = a.find_session(&who.cookie, NOW).await.unwrap().unwrap();
    assert_eq!(found.idle_expires_at, after(1800));
    // The same session id and cookie in the other tenant are another session.
    let mut user = new_user("ada");
    user.id = who.user;
    let _ = b.create_user(&user, NOW, &AUDIT).await.unwrap();
    let mut twin = new_session(who.user, NOW);
    (twin.id, twin.cookie) = (who.session, who.cookie);
    assert_eq!(b.create_session(&twin, NOW, &AUDIT).await.unwrap(), CreateSession::Created);
    let _ = b.end_session(who.session, EndReason::Logout, &change(NOW)).await.unwrap();
    assert!(a.find_session(&who.cookie, NOW).await.unwrap().is_some());
    assert!(entries(&a, &[RevocationKey::Session(who.session.to_string())], NOW).await.is_empty());
}
