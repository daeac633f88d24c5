use std::sync::Arc;
use std::time::Duration;

use super::{Answer, Cursor, Page, Reader};
use crate::base::{ManualClock, base64url};
use crate::model::{Audit, Revocation, RevocationKey, TenantUid};
use crate::revocation::View;
use crate::storage::memory::Memory;
use crate::storage::{LogCursor, Storage as _, Watch};
use crate::tenant::testing::NOW;

const API: &str = "https://api.example";

fn acme() -> TenantUid {
    TenantUid::stored("acme")
}

fn reader() -> Reader {
    Reader { tenant: acme(), audiences: vec![API.into()] }
}

fn jti(name: &str) -> Revocation {
    Revocation {
        key: RevocationKey::Jti(name.into()),
        audience: None,
        not_before: None,
        expires_at: NOW.plus(Duration::from_mins(11)),
        at: NOW,
    }
}

fn for_audience(name: &str, audience: &str) -> Revocation {
    Revocation { audience: Some(vec![audience.into()]), ..jti(name) }
}

async fn revoke(store: &Memory, entries: &[Revocation]) {
    store.tenant(&acme()).append_revocations(entries, NOW, &Audit::default()).await.unwrap();
}

/// A view of `store` as another node has it: told of nothing, it must look.
async fn elsewhere(store: &Memory) -> Arc<View> {
    let clock = Arc::new(ManualClock::at(NOW));
    let view = View::over(Arc::new(store.clone()), Watch::default(), clock);
    view.sync().await.unwrap();
    view
}

async fn since(view: &View, cursor: &Cursor, limit: usize) -> Page {
    match view.since(&reader(), cursor, limit, NOW).await.unwrap() {
        Answer::Page(page) => page,
        Answer::Gone => panic!("the cursor is good"),
    }
}

fn names(page: &Page) -> Vec<String> {
    page.entries.iter().map(|entry| entry.id()).collect()
}

#[tokio::test]
async fn a_snapshot_and_what_comes_after_it_are_everything() {
    let store = Memory::new("e1", NOW);
    revoke(&store, &[jti("a"), jti("b")]).await;
    let view = elsewhere(&store).await;
    let snapshot = view.snapshot(&reader(), None, NOW);
    assert_eq!((snapshot.entries.len(), snapshot.more), (2, false));
    assert!(since(&view, &snapshot.cursor, 10).await.entries.is_empty());
    revoke(&store, &[jti("c")]).await;
    view.sync().await.unwrap();
    let page = since(&view, &snapshot.cursor, 10).await;
    assert_eq!((page.entries.len(), page.more), (1, false));
    assert!(!names(&snapshot).contains(&names(&page)[0]));
    assert_eq!(view.snapshot(&reader(), None, NOW).cursor, page.cursor);
}

#[tokio::test]
async fn a_snapshot_in_pages_misses_nothing_that_comes_between_them() {
    let store = Memory::new("e1", NOW);
    let many: Vec<_> = (0..20).map(|n| jti(&n.to_string())).collect();
    revoke(&store, &many).await;
    let view = elsewhere(&store).await;
    let mut page = view.snapshot(&reader(), Some(3), NOW);
    let mut seen = names(&page);
    let mut late = 0;
    while page.more {
        let late_ones: Vec<_> = (0..2).map(|n| jti(&format!("late {late} {n}"))).collect();
        revoke(&store, &late_ones).await;
        late += 1;
        // The next page may come from another node.
        let node = if late % 2 == 0 { elsewhere(&store).await } else { Arc::clone(&view) };
        page = since(&node, &page.cursor, 3).await;
        assert!(page.entries.len() <= 3);
        seen.extend(names(&page));
        assert!(late < 50);
    }
    view.sync().await.unwrap();
    seen.extend(names(&since(&view, &page.cursor, 1_000).await));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20 + 2 * late);
}

#[tokio::test]
async fn a_reader_sees_its_own_audiences_and_nothing_that_is_over() {
    let store = Memory::new("e1", NOW);
    let over = Revocation { expires_at: NOW, ..jti("over") };
    let entries = [jti("all"), for_audience("own", API), for_audience("other", "https://b"), over];
    let view = elsewhere(&store).await;
    let start = view.snapshot(&reader(), None, NOW).cursor;
    revoke(&store, &entries).await;
    view.sync().await.unwrap();
    assert_eq!(since(&view, &start, 10).await.entries.len(), 2);
    assert_eq!(view.snapshot(&reader(), None, NOW).entries.len(), 2);
    let nobody = Reader { audiences: Vec::new(), ..reader() };
    assert_eq!(view.snapshot(&nobody, None, NOW).entries.len(), 1);
    let other = Reader { tenant: TenantUid::stored("other"), ..reader() };
    assert_eq!(view.snapshot(&other, None, NOW).entries.len(), 0);
}

#[tokio::test]
async fn a_place_of_another_node_is_found_in_the_store() {
    let store = Memory::new("e1", NOW);
    let (one, two) = (elsewhere(&store).await, elsewhere(&store).await);
    revoke(&store, &[jti("a")]).await;
    revoke(&store, &[jti("b")]).await;
    // One node looks in between, the other afterwards: their places differ.
    one.sync().await.unwrap();
    let place = one.snapshot(&reader(), None, NOW).cursor;
    revoke(&store, &[jti("c"), jti("d"), jti("e")]).await;
    two.sync().await.unwrap();
    let page = since(&two, &place, 10).await;
    assert_eq!((page.entries.len(), page.more), (3, false));
    assert_eq!(page.cursor, two.snapshot(&reader(), None, NOW).cursor, "a place known here");
    let first = since(&two, &place, 2).await;
    assert_eq!((first.entries.len(), first.more), (2, true));
    let second = since(&two, &first.cursor, 2).await;
    assert_eq!((second.entries.len(), second.more), (1, false));
}

#[tokio::test]
async fn another_timeline_is_gone_whatever_the_place() {
    let store = Memory::new("e1", NOW);
    let view = elsewhere(&store).await;
    let base = LogCursor { epoch: "e0".into(), place: "0".into() };
    for cursor in [Cursor::Log(base.clone()), Cursor::Listing { after: [0; 16], base }] {
        let answer = view.since(&reader(), &cursor, 10, NOW).await.unwrap();
        assert!(matches!(answer, Answer::Gone));
    }
    let garbled = Cursor::parse(&format!("e1.{}", base64url::encode("x"))).unwrap();
    assert!(matches!(view.since(&reader(), &garbled, 10, NOW).await.unwrap(), Answer::Gone));
}

#[tokio::test]
async fn what_this_node_revoked_is_in_its_feed_at_once() {
    let store = Memory::new("e1", NOW);
    let view = View::new(Arc::new(store.clone()), Arc::new(ManualClock::at(NOW)));
    view.sync().await.unwrap();
    let start = view.snapshot(&reader(), None, NOW).cursor;
    revoke(&store, &[jti("a")]).await;
    view.catch_up().await.unwrap();
    assert_eq!(since(&view, &start, 10).await.entries.len(), 1);
}

#[tokio::test]
async fn events_are_delivered_until_they_are_acknowledged() {
    let store = Memory::new("e1", NOW);
    let names: Vec<_> = (0..5).map(|n| jti(&n.to_string())).collect();
    revoke(&store, &names).await;
    let view = elsewhere(&store).await;
    let client = crate::model::ClientId::new("api");
    let poll = async |acknowledged: &[String], most| {
        let acknowledged = acknowledged.iter().map(String::as_str).collect();
        let due = view.deliver(&reader(), &client, &acknowledged, most, NOW).await;
        let (entries, more) = due.unwrap();
        (entries.iter().map(|entry| entry.id()).collect::<Vec<_>>(), more)
    };
    let (first, more) = poll(&[], 3).await;
    assert_eq!((first.len(), more), (3, true));
    assert_eq!(poll(&[], 3).await, (first.clone(), true), "not acknowledged");
    let (second, more) = poll(&first[..2], 3).await;
    assert_eq!((second.len(), more, &second[0]), (3, false, &first[2]));
    assert_eq!(poll(&second, 3).await, (vec![], false));
    revoke(&store, &[jti("late")]).await;
    view.sync().await.unwrap();
    let (late, _) = poll(&[], 0).await;
    assert!(late.is_empty());
    let (late, more) = poll(&[], 10).await;
    assert_eq!((late.len(), more), (1, false));
    assert!(!first.contains(&late[0]) && !second.contains(&late[0]));
}
