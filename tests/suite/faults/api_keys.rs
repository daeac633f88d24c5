//! API keys on several nodes: quotas that many race for, and peppers that not every node has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pmp_auth::base::Secret;
use pmp_auth::config::Settings;
use pmp_auth::config::settings::RingKey;
use pmp_auth::oauth::api_keys::MOST_KEYS;
use pmp_auth::storage::Engine;
use reqwest::Method;
use serde_json::Value;

use crate::support::api_keys::{Key, wanted};
use crate::support::race::{RACERS, count, race};
use crate::support::server::{PEPPER, TestServer};

on_every_server! {
    fault_f_login_02_api_keys
    an_owner_cannot_get_around_the_limit_by_rotating
}

fn pepper(id: u8, secret: &str) -> RingKey {
    RingKey { id, secret: Secret::new(secret.as_bytes().to_vec()) }
}

fn old() -> RingKey {
    pepper(1, PEPPER)
}

fn new() -> RingKey {
    pepper(2, "Zr4Tg8Kd1Hs6Yf3Np5Jc0Gqb7Qm2xVw9L-e_Oa")
}

async fn live(server: &TestServer, manager: &str) -> usize {
    let listed = server.keys(Method::GET, "?limit=200", manager, &Value::Null).await.json();
    count(listed["items"].as_array().expect("a list"), |key| key["live"] == true)
}

async fn fault_f_login_02_api_keys(engine: Engine) {
    let first = TestServer::with_api_keys(engine).await;
    let manager = first.manager().await;
    for _ in 1..MOST_KEYS {
        first.key_under(vec![old()]).await;
    }
    assert_eq!(live(&first, &manager).await, MOST_KEYS as usize - 1);
    let mut nodes = vec![first];
    if engine == Engine::Postgres {
        for _ in 1..3 {
            nodes.push(nodes[0].beside().await);
        }
    }
    let nodes = Arc::new(nodes);
    let answers = race(RACERS, |racer| {
        let (nodes, manager) = (Arc::clone(&nodes), manager.clone());
        async move {
            let node = &nodes[racer % nodes.len()];
            node.keys(Method::POST, "", &manager, &wanted()).await.status
        }
    });
    let answers = answers.await;
    assert_eq!(count(&answers, |status| *status == 201), 1, "{answers:?}");
    assert!(answers.iter().all(|status| [201, 409, 429].contains(status)), "{answers:?}");
    assert!(answers.contains(&409), "{answers:?}");
    assert_eq!(live(&nodes[0], &manager).await, MOST_KEYS as usize);
}

async fn an_owner_cannot_get_around_the_limit_by_rotating(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    let mut last = server.key().await;
    for _ in 1..MOST_KEYS {
        last = server.key_under(vec![old()]).await;
    }
    let mut rotations = 0;
    let refused = loop {
        let rest = format!("/{}/rotate", last.id);
        let answer = server.keys(Method::POST, &rest, &manager, &Value::Null).await;
        if answer.status != 201 {
            break answer;
        }
        last = Key::of(&answer);
        rotations += 1;
        // A bucket of thirty fills in a minute.
        server.advance(Duration::from_secs(2)).await;
    };
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert_eq!(rotations, MOST_KEYS, "as many successors as keys, and no more");
    assert!(server.key_is_live(&last.text).await);
    server.stop().await;
}

/// Half of the nodes have the new pepper: what they make or move is not refused by the others as
/// wrong, only as what they cannot know; and nothing moves back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_f_keys_03() {
    let only_old = TestServer::with_api_keys(Engine::Postgres).await;
    let with = |all: Vec<RingKey>| {
        only_old.beside_with(move |settings: &mut Settings| settings.server.api_key_peppers = all)
    };
    // Told of the new one, but still making keys under the old one; and making them under the new.
    let knows_both = with(vec![old(), new()]).await;
    let uses_new = with(vec![new(), old()]).await;

    let untouched = only_old.key().await;
    let moved = only_old.key().await;
    for node in [&only_old, &knows_both] {
        assert!(node.key_is_live(&moved.text).await);
        assert_eq!(node.stored(&moved).await.0, 1);
    }
    assert!(uses_new.key_is_live(&moved.text).await);
    let begun = Instant::now();
    while uses_new.stored(&moved).await.0 != 2 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it moves to the newest pepper");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What was remembered is read again.
    for node in [&only_old, &knows_both, &uses_new] {
        node.settle().await;
    }
    only_old.advance(Duration::from_secs(31)).await;
    for node in [&knows_both, &uses_new] {
        node.settle().await;
        assert!(node.key_is_live(&moved.text).await);
        assert!(node.key_is_live(&untouched.text).await || node.stored(&untouched).await.0 == 2);
    }
    let fresh = uses_new.key().await;
    for key in [&moved, &fresh] {
        let answer = only_old.check_key(&key.text).await;
        answer.is_refusal(503, "temporarily_unavailable");
        assert!(!answer.header("retry-after").is_empty());
        only_old.exchange(&key.text, &[]).await.is_refusal(503, "temporarily_unavailable");
        assert!(knows_both.key_is_live(&key.text).await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(knows_both.stored(&moved).await.0, 2, "nothing moves back");
    for node in [knows_both, uses_new] {
        node.stop().await;
    }
    only_old.stop().await;
}
