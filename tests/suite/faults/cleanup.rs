//! Cleanup on two nodes while tokens are revoked and asked about.

use std::sync::Arc;
use std::time::Duration;

use pmp_auth::base::{Clock as _, Timestamp};
use pmp_auth::model::RevocationKey;
use pmp_auth::storage::{Engine, Kind};
use serde_json::Value;

use super::fleet::part;
use crate::support::race::race;
use crate::support::server::{SECRET, TestServer};

on_every_server! { fault_f_cleanup_01_of_revocations }

/// So many tokens are revoked before, and as many while it is cleaned.
const TOKENS: usize = 24;
/// What an entry is kept for beyond the last token that it can match.
const SKEW: Duration = Duration::from_mins(1);
const ONE: Duration = Duration::from_secs(1);

async fn revoked(server: &TestServer) -> Value {
    let token = server.client_token("web").await;
    let url = server.url("acme", "/revoke");
    let answer = server.post(&url, Some(("web", SECRET)), &[("token", &token)]).await;
    assert_eq!(answer.status, 200);
    token.into()
}

/// How many of the tokens the log has an entry for, whatever its age.
async fn kept(server: &TestServer, tokens: &[Value]) -> usize {
    let keys: Vec<_> = tokens
        .iter()
        .map(|token| part(token.as_str().expect("a token"), 1))
        .map(|claims| RevocationKey::Jti(claims["jti"].as_str().expect("a jti").to_owned()))
        .collect();
    let store = &server.tenant("acme").store;
    store.matching_revocations(&keys, Timestamp::from_seconds(0)).await.unwrap().len()
}

/// Every node cleans in small batches until nothing is left, while tokens are revoked and asked
/// about: how many entries went, and the new tokens.
async fn cleaned(nodes: &Arc<Vec<TestServer>>, dead: &Arc<Vec<Value>>) -> (u64, Vec<Value>) {
    let went = race(nodes.len() * 3, |racer| {
        let (nodes, dead) = (Arc::clone(nodes), Arc::clone(dead));
        async move {
            let node = &nodes[racer / 3];
            let (mut went, mut new) = (0, Vec::new());
            if racer % 3 == 0 {
                loop {
                    let store = &node.app.store;
                    let now = node.clock.now();
                    let cleaned = store.cleanup_expired_data(now, 5, false).await.unwrap();
                    let of = cleaned.counts.iter().find(|(kind, _)| *kind == Kind::Revocations);
                    went += of.map_or(0, |(_, count)| *count);
                    if !cleaned.more {
                        break;
                    }
                }
            } else if racer % 3 == 1 {
                for _ in 0..TOKENS / nodes.len() {
                    new.push(revoked(node).await);
                }
            } else {
                for token in dead.iter() {
                    assert!(!node.finds_active("api", token).await);
                }
            }
            (went, new)
        }
    });
    let (counts, new): (Vec<_>, Vec<_>) = went.await.into_iter().unzip();
    (counts.into_iter().sum(), new.into_iter().flatten().collect())
}

async fn fault_f_cleanup_01_of_revocations(engine: Engine) {
    let first = TestServer::start(engine).await;
    let second = if engine == Engine::Postgres { Some(first.beside().await) } else { None };
    let nodes: Arc<Vec<_>> = Arc::new([Some(first), second].into_iter().flatten().collect());
    let server = &nodes[0];
    let mut dead = Vec::new();
    for _ in 0..TOKENS {
        dead.push(revoked(server).await);
    }
    let dead = Arc::new(dead);
    for node in nodes.iter() {
        node.settle().await;
    }
    let ends = part(dead[0].as_str().unwrap(), 1)["exp"].as_i64().expect("an end");
    let ends = Timestamp::from_seconds(ends);
    // The last moment at which a clock that is behind could take one of them for alive.
    server.clock.advance(ends.plus(SKEW).since(server.clock.now()).saturating_sub(ONE));
    let (went, new) = cleaned(&nodes, &dead).await;
    assert_eq!(went, 0, "only what has expired goes");
    assert_eq!(kept(server, &dead).await, TOKENS);
    assert_eq!(kept(server, &new).await, new.len());
    server.clock.advance(2 * ONE);
    let (went, newer) = cleaned(&nodes, &dead).await;
    assert_eq!(went, TOKENS as u64, "each goes once");
    assert_eq!(kept(server, &dead).await, 0);
    assert_eq!(kept(server, &new).await + kept(server, &newer).await, new.len() + newer.len());
    for node in nodes.iter() {
        node.settle().await;
        for token in new.iter().chain(&newer) {
            assert!(!node.finds_active("api", token).await);
        }
    }
    for node in Arc::into_inner(nodes).expect("nobody else holds the nodes") {
        node.stop().await;
    }
}
