//! API keys as readers of the feed.

use pmp_auth::model::{Revocation, RevocationKey};
use pmp_auth::storage::Engine;
use serde_json::json;

use super::{House, answer, has, make_key, make_key_of, manager};
use crate::support::events::Events;
use crate::support::server::{API, Answer};

on_every_server! { a_key_reads_what_concerns_its_audiences_until_it_is_revoked }

/// The reader's house, where a key reads instead of its token.
async fn house_of_a_key(engine: Engine) -> (House, String, String) {
    let mut house = House::new(engine).await;
    let manager = manager(&house.server, "reader", "revocations:read api_keys:manage").await;
    let (id, text) = make_key(&house.server, &manager, "revocations:read").await;
    house.token = text;
    (house, id, manager)
}

fn is_challenge(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(answer.header("www-authenticate").contains(error), "{answer:?}");
}

async fn a_key_reads_what_concerns_its_audiences_until_it_is_revoked(engine: Engine) {
    let (house, id, manager) = house_of_a_key(engine).await;
    let server = &house.server;
    let of = |jti: &str, audience: &str| Revocation {
        audience: Some(vec![audience.to_owned()]),
        ..house.entry(jti)
    };
    house.append(&[of("own", API), of("foreign", "https://files.acme.example")]).await;
    house.revoke(&["all".to_owned()]).await;
    let page = house.page("").await;
    assert!(has(&page, "jti", "own") && has(&page, "jti", "all"), "{page}");
    assert!(!has(&page, "jti", "foreign"), "{page}");

    // As a stream, which goes on for as long as the key does.
    let mut events = Events::open(house.request("")).await;
    assert!(has(&events.named("snapshot").await.data, "jti", "own"));
    house.revoke(&["later".to_owned()]).await;
    assert!(has(&events.named("revoked").await.data, "jti", "later"));

    let url = server.url("acme", &format!("/api-keys/{id}"));
    let revoked = server.http.delete(url).bearer_auth(manager).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    assert!(has(&events.named("revoked").await.data, "api_key", &id));
    is_challenge(&house.get("").await, 401, "invalid_token");
    drop(events);
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_the_scope_or_from_elsewhere_or_of_another_tenant_reads_nothing() {
    let (house, _, manager) = house_of_a_key(Engine::Memory).await;
    let server = &house.server;
    let feed = server.url("acme", "/revocations");
    let read = async |key: &str, url: &str| answer(server.http.get(url).bearer_auth(key)).await;
    let web = super::manager(server, "web", "orders:read api_keys:manage").await;
    let (_, narrow) = make_key(server, &web, "orders:read").await;
    is_challenge(&read(&narrow, &feed).await, 403, "insufficient_scope");
    let elsewhere = json!({"scopes": ["revocations:read"], "allowed_ips": ["192.0.2.0/24"]});
    let (_, elsewhere) = make_key_of(server, &manager, elsewhere).await;
    is_challenge(&read(&elsewhere, &feed).await, 401, "invalid_token");
    let other = server.url("other", "/revocations");
    is_challenge(&read(&house.token, &other).await, 401, "invalid_token");
    assert_eq!(house.get("").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_reads_too_often_is_told_when_to_come_back_and_its_stream_goes_on() {
    let (mut house, _, manager) = house_of_a_key(Engine::Memory).await;
    let rate = json!({"scopes": ["revocations:read"], "rate": {"limit": 2, "window_seconds": 60}});
    house.token = make_key_of(&house.server, &manager, rate).await.1;
    let mut events = Events::open(house.request("")).await;
    events.named("snapshot").await;
    assert_eq!(house.get("").await.status, 200);
    let often = house.get("").await;
    assert_eq!(often.status, 429, "{}", often.body);
    assert!(often.header("retry-after").parse::<u32>().unwrap() > 0);
    assert!(!often.headers.contains_key("www-authenticate"));
    house.append(&[Revocation { key: RevocationKey::Tenant, ..house.entry("") }]).await;
    assert!(has(&events.named("revoked").await.data, "tenant", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_key_acknowledges_another_still_gets() {
    let (house, _, manager) = house_of_a_key(Engine::Memory).await;
    let (_, second) = make_key(&house.server, &manager, "revocations:read").await;
    house.revoke(&["one".to_owned()]).await;
    let poll = async |key: &str, body: serde_json::Value| {
        let url = house.server.url("acme", "/revocations/poll");
        let request = house.server.http.post(url).bearer_auth(key).body(body.to_string());
        let told = answer(request.header("content-type", "application/json")).await;
        assert_eq!(told.status, 200, "{}", told.body);
        told.json()["sets"].as_object().expect("sets").keys().cloned().collect::<Vec<_>>()
    };
    let all = json!({"returnImmediately": true});
    let first = poll(&house.token, all.clone()).await;
    assert!(!first.is_empty());
    let done = poll(&house.token, json!({"returnImmediately": true, "ack": first.clone()})).await;
    assert!(done.is_empty(), "{done:?}");
    let mut same = poll(&second, all).await;
    let mut expected = first;
    same.sort_unstable();
    expected.sort_unstable();
    assert_eq!(same, expected);
}
