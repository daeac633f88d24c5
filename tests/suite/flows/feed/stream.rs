use std::time::{Duration, Instant};

use pmp_auth::model::Revocation;
use pmp_auth::storage::Engine;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::{House, answer, cursor, has, hash, hashes, names};
use crate::support::events::Events;
use crate::support::server::{SECRET, TestServer};

on_every_server! {
    a_stream_begins_with_a_snapshot_and_goes_on_with_what_is_revoked
    a_stream_is_resumed_where_it_was
    a_stream_ends_with_its_token_and_with_the_server
}

fn subscribers(server: &TestServer) -> usize {
    let page = server.app.metrics.render();
    let line = page.lines().find(|line| line.starts_with("pmp_auth_revocation_feed_subscribers"));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("the metric")
}

async fn a_stream_begins_with_a_snapshot_and_goes_on_with_what_is_revoked(engine: Engine) {
    let house = House::new(engine).await;
    house.revoke(&names(600)).await;
    let mut events = Events::open(house.request("")).await;
    let (mut seen, mut last) = (Vec::new(), Value::Null);
    while last["more"] != false {
        let event = events.named("snapshot").await;
        assert_eq!(event.id.is_some(), event.data["more"] == false, "the last one has the id");
        seen.extend(hashes(&event.data));
        last = event.data;
    }
    assert!(names(600).iter().all(|name| seen.contains(&hash(name))));
    assert_eq!(subscribers(&house.server), 1);
    for round in 0..5 {
        let token = house.server.client_token("web").await;
        let jti = house.server.introspect("web", &token.clone().into()).await["jti"].clone();
        let url = house.server.url("acme", "/revoke");
        house.server.post(&url, Some(("web", SECRET)), &[("token", &token)]).await;
        let revoked = Instant::now();
        let event = events.named("revoked").await;
        let took = revoked.elapsed();
        assert_eq!(hashes(&event.data), [hash(jti.as_str().unwrap())], "{round}");
        assert_eq!(event.id.as_deref(), event.data["cursor"].as_str());
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    drop(events);
    house.server.stop().await;
}

async fn a_stream_is_resumed_where_it_was(engine: Engine) {
    let house = House::new(engine).await;
    let mut events = Events::open(house.request("")).await;
    let id = events.named("snapshot").await.id.expect("an id");
    drop(events);
    house.revoke(&names(3)).await;
    let mut events = Events::open(house.request("").header("last-event-id", id.as_str())).await;
    let event = events.named("revoked").await;
    assert_eq!(hashes(&event.data).len(), 3);
    // A reader that cannot set the header says it in the query; the header is newer.
    let old = format!("?after={id}");
    let mut again = Events::open(house.request(&old)).await;
    assert_eq!(hashes(&again.named("revoked").await.data).len(), 3);
    let newer = event.id.expect("an id");
    let mut now = Events::open(house.request(&old).header("last-event-id", newer)).await;
    house.revoke(&["next".to_owned()]).await;
    assert_eq!(hashes(&now.named("revoked").await.data), [hash("next")]);

    let stream = |id: &str| {
        house.request("").header("accept", "text/event-stream").header("last-event-id", id)
    };
    let gone = answer(stream("another.MQ")).await;
    assert_eq!((gone.status, gone.header("content-type")), (410, "application/problem+json"));
    assert_eq!(answer(stream("nonsense")).await.status, 400);
    drop((events, again, now));
    house.server.stop().await;
}

async fn a_stream_ends_with_its_token_and_with_the_server(engine: Engine) {
    let own = House::new(engine).await;
    let mut events = Events::open(own.request("")).await;
    events.named("snapshot").await;
    let revoke = own.server.url("acme", "/revoke");
    own.server.post(&revoke, Some(("reader", SECRET)), &[("token", &own.token)]).await;
    let began = Instant::now();
    events.ends().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let house = House::of(own.server).await;
    let mut events = Events::open(house.request("")).await;
    events.named("snapshot").await;
    house.server.begin_stop();
    let began = Instant::now();
    events.ends().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_beats_until_its_token_is_over() {
    let house = House::new(Engine::Memory).await;
    let mut events = Events::open(house.request("")).await;
    let greeting = events.any().await.unwrap();
    assert_eq!(greeting.name, "");
    events.named("snapshot").await;
    let began = Instant::now();
    let beat = events.any().await.expect("a heartbeat");
    let took = began.elapsed();
    assert_eq!(beat.name, "", "a comment: {beat:?}");
    let as_of: i64 = beat.data.as_str().unwrap().parse().unwrap();
    assert_eq!(as_of, pmp_auth::base::Clock::now(&house.server.clock).millis());
    assert!((14..20).contains(&took.as_secs()), "{took:?}");
    house.server.advance(Duration::from_mins(11)).await;
    events.ends().await;
    assert!(began.elapsed() < Duration::from_secs(40));
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_resets_streams() {
    let house = House::new(Engine::Postgres).await;
    house.revoke(&names(2)).await;
    let mut events = Events::open(house.request("")).await;
    events.named("snapshot").await;
    house.server.place.sql("UPDATE store_identity SET id = gen_random_uuid()").await;
    house.server.settle().await;
    assert_eq!(events.named("reset").await.data, json!({}));
    events.ends().await;
    let mut events = Events::open(house.request("")).await;
    let snapshot = events.named("snapshot").await.data;
    assert!(has(&snapshot, "jti", "j0") && has(&snapshot, "jti", "j1"));
    drop(events);
    house.server.stop().await;
}

/// One node's reader hears of what another node revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_one_node_has_what_another_revokes_within_a_second_and_a_half() {
    let house = House::new(Engine::Postgres).await;
    let two = House { server: house.server.beside().await, token: house.token.clone() };
    let mut events = Events::open(two.request("")).await;
    events.named("snapshot").await;
    for jti in names(5) {
        house.revoke(std::slice::from_ref(&jti)).await;
        let revoked = Instant::now();
        assert_eq!(hashes(&events.named("revoked").await.data), [hash(&jti)]);
        let took = revoked.elapsed();
        assert!(took < Duration::from_millis(1_500), "{took:?}");
    }
    drop(events);
    two.server.stop().await;
    house.server.stop().await;
}

/// Opens a stream and never reads from it.
async fn deaf(house: &House) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = house.server.base.trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!(
        "GET /t/acme/revocations HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\
         authorization: Bearer {}\r\n\r\n",
        house.token
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_never_reads_is_dropped_and_keeps_nobody_waiting() {
    let house = House::new(Engine::Memory).await;
    let mut reading = Events::open(house.request("")).await;
    reading.named("snapshot").await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(deaf(&house).await);
    }
    while subscribers(&house.server) < 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // More than any socket buffer takes: 5 KB an entry, 5,000 entries.
    let mut audience = vec![crate::support::server::API.to_owned()];
    audience.extend((0..50).map(|n| format!("https://{n}.{}.example", "x".repeat(80))));
    for round in 0..50 {
        let entries: Vec<_> = (0..100)
            .map(|n| Revocation {
                audience: Some(audience.clone()),
                ..house.entry(&format!("{round}-{n}"))
            })
            .collect();
        house.append(&entries).await;
    }
    let began = Instant::now();
    let mut seen = 0;
    while seen < 5_000 {
        seen += hashes(&reading.named("revoked").await.data).len();
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    while subscribers(&house.server) > 1 {
        assert!(began.elapsed() < Duration::from_mins(1), "they are still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    house.revoke(&["after".to_owned()]).await;
    assert_eq!(hashes(&reading.named("revoked").await.data), [hash("after")]);
    let mut rest = Vec::new();
    for mut stream in silent {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        let _ = read.await.expect("it was closed");
    }
    drop(reading);
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_streams_all_hear_of_it() {
    let house = House::new(Engine::Memory).await;
    let mut all = Vec::new();
    for _ in 0..500 {
        let mut events = Events::open(house.request("")).await;
        events.named("snapshot").await;
        all.push(events);
    }
    assert_eq!(subscribers(&house.server), 500);
    let start = house.page("").await;
    house.revoke(&names(3)).await;
    for events in &mut all {
        let event = events.named("revoked").await;
        assert_eq!(hashes(&event.data).len(), 3);
        assert_ne!(cursor(&event.data), cursor(&start));
    }
    drop(all);
    while subscribers(&house.server) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.server.stop().await;
}
