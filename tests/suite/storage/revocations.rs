use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use pmp_auth::model::audit::Action;
use pmp_auth::model::grant::GrantState;
use pmp_auth::model::{Revocation, RevocationKey, TenantUid};
use pmp_auth::storage::{EndReason, LogCursor, LogEntry, LogPage, Sink, Tail};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, race};

on_every_engine! {
    every_kind_of_entry_reads_back_as_it_was_written
    an_expired_entry_matches_nothing
    a_snapshot_has_what_is_live_and_a_tail_what_came_after
    a_tail_comes_in_pages
    a_tail_of_one_tenant_has_nothing_of_another_and_comes_in_pages
    a_cursor_of_another_epoch_is_gone
    entries_written_at_once_are_all_delivered
    what_was_lost_is_written_again_and_applied
    the_sink_hears_of_a_revocation_before_its_writer
    a_revocation_hints
    entries_of_two_tenants_do_not_touch
}

on_durable_engines! {
    entries_survive_a_restart
}

fn kinds() -> Vec<RevocationKey> {
    let key = || "x".to_owned();
    vec![
        RevocationKey::Jti(key()),
        RevocationKey::Head(key()),
        RevocationKey::Grant(key()),
        RevocationKey::Session(key()),
        RevocationKey::Subject(key()),
        RevocationKey::Client(key()),
        RevocationKey::Tenant,
        RevocationKey::ApiKey(key()),
        RevocationKey::Kid(key()),
    ]
}

/// Entries of the log without those that an engine writes when a tenant is made.
fn told(page: &LogPage) -> Vec<(TenantUid, RevocationKey)> {
    let ours = page.entries.iter().filter(|entry| entry.revocation.at >= NOW);
    ours.map(|entry| (entry.tenant.clone(), entry.revocation.key.clone())).collect()
}

async fn tail(bed: &Bed, cursor: &LogCursor, limit: u32) -> LogPage {
    match bed.revocation_tail(cursor, limit).await.unwrap() {
        Tail::Page(page) => page,
        Tail::Gone => panic!("the cursor is good"),
    }
}

fn jti(name: &str) -> Revocation {
    entry(RevocationKey::Jti(name.to_owned()))
}

async fn every_kind_of_entry_reads_back_as_it_was_written(bed: Bed) {
    let t = bed.tenant("acme").await;
    let not_before = |key: &RevocationKey| {
        matches!(key.kind(), "subject" | "client" | "tenant").then(|| after(10))
    };
    let written: Vec<_> = kinds()
        .into_iter()
        .map(|key| Revocation {
            audience: Some(vec!["https://a.example".into(), "https://b.example".into()]),
            not_before: not_before(&key),
            ..entry(key)
        })
        .collect();
    t.append_revocations(&written, NOW, &AUDIT).await.unwrap();
    for entry in &written {
        let found = entries(&t, std::slice::from_ref(&entry.key), NOW).await;
        assert!(found.contains(entry), "{entry:?} in {found:?}");
    }
    let all = entries(&t, &kinds(), NOW).await;
    assert!(written.iter().all(|entry| all.contains(entry)));
    assert!(entries(&t, &[RevocationKey::Jti("y".into())], NOW).await.is_empty());
    assert!(entries(&t, &[], NOW).await.is_empty());
    assert_eq!(times(&t, Action::NotBeforeRaised).await, 3);
}

async fn an_expired_entry_matches_nothing(bed: Bed) {
    let t = bed.tenant("acme").await;
    let entry = jti("x");
    t.append_revocations(std::slice::from_ref(&entry), NOW, &AUDIT).await.unwrap();
    let key = std::slice::from_ref(&entry.key);
    assert_eq!(entries(&t, key, after(3599)).await.len(), 1);
    assert!(entries(&t, key, after(3600)).await.is_empty());
    let page = bed.revocation_snapshot(after(3600)).await.unwrap();
    assert!(told(&page).is_empty());
}

async fn a_snapshot_has_what_is_live_and_a_tail_what_came_after(bed: Bed) {
    let (a, b) = (bed.tenant_uid("acme").await, bed.tenant_uid("bolt").await);
    let append = async |uid: &TenantUid, name: &str| {
        let t = bed.store.tenant(uid);
        t.append_revocations(&[jti(name)], NOW, &AUDIT).await.unwrap();
    };
    append(&a, "before").await;
    let snapshot = bed.revocation_snapshot(NOW).await.unwrap();
    assert_eq!(told(&snapshot), [(a.clone(), RevocationKey::Jti("before".into()))]);
    assert!(!snapshot.more);
    let nothing = tail(&bed, &snapshot.cursor, 100).await;
    assert!(told(&nothing).is_empty());
    append(&a, "one").await;
    append(&b, "two").await;
    let page = tail(&bed, &snapshot.cursor, 100).await;
    let expected =
        [(a, RevocationKey::Jti("one".into())), (b.clone(), RevocationKey::Jti("two".into()))];
    assert_eq!(told(&page), expected);
    append(&b, "three").await;
    let page = tail(&bed, &page.cursor, 100).await;
    assert!(told(&page).contains(&(b, RevocationKey::Jti("three".into()))));
    assert!(!told(&page).contains(&expected[0]), "delivered already");
}

async fn a_tail_comes_in_pages(bed: Bed) {
    let t = bed.tenant("acme").await;
    let start = bed.revocation_snapshot(NOW).await.unwrap().cursor;
    let written: Vec<_> = (0..7).map(|n| jti(&format!("j{n}"))).collect();
    t.append_revocations(&written[..5], NOW, &AUDIT).await.unwrap();
    t.append_revocations(&written[5..], NOW, &AUDIT).await.unwrap();
    let (mut cursor, mut seen) = (start, BTreeSet::new());
    for _ in 0..10 {
        let page = tail(&bed, &cursor, 3).await;
        assert!(page.entries.len() <= 3);
        seen.extend(told(&page).into_iter().map(|(_, key)| key.key().to_owned()));
        cursor = page.cursor;
        if !page.more {
            break;
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
    assert!(told(&tail(&bed, &cursor, 3).await).is_empty());
}

async fn a_tail_of_one_tenant_has_nothing_of_another_and_comes_in_pages(bed: Bed) {
    let (a, b) = (bed.tenant_uid("acme").await, bed.tenant_uid("bolt").await);
    let start = bed.revocation_snapshot(NOW).await.unwrap().cursor;
    for n in 0..5 {
        for (uid, name) in [(&a, "a"), (&b, "b")] {
            let t = bed.store.tenant(uid);
            t.append_revocations(&[jti(&format!("{name}{n}"))], NOW, &AUDIT).await.unwrap();
        }
    }
    let (mut cursor, mut seen, mut sizes) = (start, Vec::new(), Vec::new());
    loop {
        let Tail::Page(page) = bed.revocation_tail_of(&a, &cursor, 2).await.unwrap() else {
            panic!("the cursor is good")
        };
        sizes.push(page.entries.len());
        seen.extend(told(&page).into_iter().map(|(_, key)| key.key().to_owned()));
        cursor = page.cursor;
        if !page.more {
            break;
        }
        assert!(sizes.len() < 10, "no end: {sizes:?}");
    }
    assert_eq!(seen, ["a0", "a1", "a2", "a3", "a4"]);
    assert_eq!(sizes[..2], [2, 2]);
    bed.store.tenant(&a).append_revocations(&[jti("late")], NOW, &AUDIT).await.unwrap();
    let Tail::Page(page) = bed.revocation_tail_of(&a, &cursor, 2).await.unwrap() else {
        panic!("the cursor is good")
    };
    assert_eq!(told(&page), [(a.clone(), RevocationKey::Jti("late".into()))]);
    let other = LogCursor { epoch: "another".into(), ..cursor };
    assert!(matches!(bed.revocation_tail_of(&a, &other, 2).await.unwrap(), Tail::Gone));
}

async fn a_cursor_of_another_epoch_is_gone(bed: Bed) {
    let cursor = bed.revocation_snapshot(NOW).await.unwrap().cursor;
    let other = LogCursor { epoch: "another".into(), ..cursor.clone() };
    assert!(matches!(bed.revocation_tail(&other, 10).await.unwrap(), Tail::Gone));
    let garbled = LogCursor { place: "not a place".into(), ..cursor };
    assert!(matches!(bed.revocation_tail(&garbled, 10).await.unwrap(), Tail::Gone));
}

async fn entries_written_at_once_are_all_delivered(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let mut cursor = bed.revocation_snapshot(NOW).await.unwrap().cursor;
    let (store, done) = (bed.store.clone(), Arc::new(Mutex::new(false)));
    let reader = {
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            loop {
                let last = *done.lock().unwrap();
                let Tail::Page(page) = store.revocation_tail(&cursor, 10).await.unwrap() else {
                    panic!("the epoch does not change")
                };
                seen.extend(told(&page).into_iter().map(|(_, key)| key.key().to_owned()));
                cursor = page.cursor;
                if last && !page.more {
                    return seen;
                }
            }
        })
    };
    race(RACERS, |number| {
        let t = t.clone();
        async move {
            for n in 0..4 {
                let entry = jti(&format!("{number}-{n}"));
                t.append_revocations(&[entry], NOW, &AUDIT).await.unwrap();
            }
        }
    })
    .await;
    *done.lock().unwrap() = true;
    assert_eq!(reader.await.unwrap().len(), RACERS * 4);
}

async fn what_was_lost_is_written_again_and_applied(bed: Bed) {
    let uid = bed.tenant_uid("acme").await;
    let t = bed.store.tenant(&uid);
    let who = signed_in(&t, "ada").await;
    let grant = issued(&t, &who).await.grant;
    let of = |revocation| LogEntry { tenant: uid.clone(), revocation };
    t.append_revocations(&[jti("known")], NOW, &AUDIT).await.unwrap();
    let held = [
        of(jti("known")),
        of(entry(RevocationKey::Grant(grant.to_string()))),
        of(entry(RevocationKey::Session(who.session.to_string()))),
        of(Revocation { expires_at: after(10), ..jti("expired") }),
    ];
    assert_eq!(bed.reassert_revocations(&held, after(10)).await.unwrap(), 2);
    assert_eq!(bed.reassert_revocations(&held, after(10)).await.unwrap(), 0);
    let state = t.find_grant(grant).await.unwrap().unwrap().state;
    assert_eq!(state, GrantState::Revoked);
    assert_eq!(t.find_session(&who.cookie, after(10)).await.unwrap(), None);
    the_entry(&t, RevocationKey::Jti("known".into()), after(10)).await;
    the_entry(&t, RevocationKey::Grant(grant.to_string()), after(10)).await;
    the_entry(&t, RevocationKey::Session(who.session.to_string()), after(10)).await;
    assert!(entries(&t, &[RevocationKey::Jti("expired".into())], NOW).await.is_empty());
}

#[derive(Default)]
struct Heard(Mutex<Vec<LogEntry>>);

impl Sink for Heard {
    fn revoked(&self, entries: &[LogEntry]) {
        self.0.lock().unwrap().extend_from_slice(entries);
    }
}

async fn the_sink_hears_of_a_revocation_before_its_writer(bed: Bed) {
    let uid = bed.tenant_uid("acme").await;
    let t = bed.store.tenant(&uid);
    let families = [family(&t, "ada").await, family(&t, "bob").await];
    let who = signed_in(&t, "cyd").await;
    let heard = Arc::new(Heard::default());
    bed.watch().set_sink(heard.clone());
    let last = || heard.0.lock().unwrap().pop().map(|entry| (entry.tenant, entry.revocation.key));
    let tell = |key| Some((uid.clone(), key));
    let grant = |n: usize| families[n].issued.grant;

    let _ = t.revoke_grant(grant(0), NOW, &AUDIT).await.unwrap();
    assert_eq!(last(), tell(RevocationKey::Grant(grant(0).to_string())));
    let replay = redemption(&families[1].issued, NOW);
    let _ = t.redeem_code(&replay, NOW, &AUDIT).await.unwrap();
    assert_eq!(last(), tell(RevocationKey::Grant(grant(1).to_string())));
    let _ = t.end_session(who.session, EndReason::Logout, &change(NOW)).await.unwrap();
    assert_eq!(last(), tell(RevocationKey::Session(who.session.to_string())));
    let _ = t.set_user_disabled(who.user, true, &change(NOW)).await.unwrap();
    assert_eq!(last(), tell(RevocationKey::Subject(who.user.to_string())));
    let _ = t.set_client_disabled(&app(), true, &change(NOW)).await.unwrap();
    assert_eq!(last(), tell(RevocationKey::Client("app".into())));
    let claims = opaque(None, NOW).claims;
    t.revoke_access_token(&claims, &change(NOW)).await.unwrap();
    assert_eq!(last(), tell(RevocationKey::Jti(claims.jti)));
    t.append_revocations(&[jti("x")], NOW, &AUDIT).await.unwrap();
    assert_eq!(last(), tell(RevocationKey::Jti("x".into())));
    let _ = bed.suspend_tenant(&uid, &change(NOW)).await.unwrap();
    assert_eq!(last(), tell(RevocationKey::Tenant));
    assert_eq!(last(), None, "each was told once");
}

async fn a_revocation_hints(bed: Bed) {
    let t = bed.tenant("acme").await;
    let mut hints = bed.watch().hints();
    while hints.try_recv().is_ok() {}
    t.append_revocations(&[jti("x")], NOW, &AUDIT).await.unwrap();
    let hint = tokio::time::timeout(std::time::Duration::from_secs(5), hints.recv()).await;
    hint.expect("a hint in time").expect("a hint");
}

async fn entries_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    a.append_revocations(&[jti("x")], NOW, &AUDIT).await.unwrap();
    assert!(entries(&b, &[RevocationKey::Jti("x".into())], NOW).await.is_empty());
    b.append_revocations(&[jti("x")], NOW, &AUDIT).await.unwrap();
    the_entry(&a, RevocationKey::Jti("x".into()), NOW).await;
}

async fn entries_survive_a_restart(mut bed: Bed) {
    let uid = bed.tenant_uid("acme").await;
    bed.store.tenant(&uid).append_revocations(&[jti("x")], NOW, &AUDIT).await.unwrap();
    bed.reopen().await;
    let page = bed.revocation_snapshot(NOW).await.unwrap();
    assert_eq!(told(&page), [(uid, RevocationKey::Jti("x".into()))]);
}
