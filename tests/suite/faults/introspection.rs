//! Revocation races introspection on three nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pmp_auth::base::Secret;
use pmp_auth::config::settings::StorageEngine;
use pmp_auth::storage::Engine;
use serde_json::Value;

use crate::support::flow::SignedIn;
use crate::support::server::{SECRET, TENANTS, TestServer};

/// How often a token is revoked under the eyes of all nodes.
const ROUNDS: usize = 8;

/// Three nodes, whose tenant `acme` may be strict, and of which the last hears no notifications.
async fn nodes(strict: bool) -> Arc<Vec<TestServer>> {
    let mode = if strict { "strict" } else { "view" };
    let name = "    name: Acme\n";
    let yaml = TENANTS.replace(name, &format!("{name}    revocation: {mode}\n"));
    let first = TestServer::with(Engine::Postgres, &yaml).await;
    let second = first.beside().await;
    let third = first.beside_with(|settings| {
        let StorageEngine::Postgres { listen, .. } = &mut settings.storage.engine else {
            panic!("a node on Postgres");
        };
        *listen = Some(Secret::new("postgres://nobody@127.0.0.1:1/nothing".to_owned()));
    });
    let third = third.await;
    Arc::new(vec![first, second, third])
}

/// Whether a node lets a token through: by introspection, as a proxy asks, or at userinfo.
async fn accepts(node: &TestServer, token: &str, turn: usize) -> bool {
    let path = match turn % 3 {
        0 => return node.is_active("api", &Value::from(token)).await,
        1 => "/verify",
        _ => "/userinfo",
    };
    let request = node.http.get(node.url("acme", path)).bearer_auth(token);
    let status = request.send().await.expect("an answer").status().as_u16();
    assert!(matches!(status, 200 | 204 | 401), "{path}: {status}");
    status != 401
}

/// Asks every node without a pause while the first revokes; how long after the answer of `/revoke`
/// the last question began that was answered with yes.
async fn last_yes(nodes: &Arc<Vec<TestServer>>) -> Vec<Duration> {
    let (tokens, _) = SignedIn::at(&nodes[0]).await.tokens(&nodes[0], "web").await;
    let token: Arc<str> = tokens["access_token"].as_str().expect("a token").into();
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..nodes.len())
        .map(|number| {
            let (nodes, token, stop) = (Arc::clone(nodes), Arc::clone(&token), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut last, mut turn) = (None, 0);
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    if accepts(&nodes[number], &token, turn).await {
                        last = Some(began);
                    }
                    turn += 1;
                }
                assert!(turn > 10, "node {number} was hardly asked");
                last.expect("it was live at first")
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let url = nodes[0].url("acme", "/revoke");
    let form = [("token", &*token)];
    let answer = nodes[0].post(&url, Some(("web", SECRET)), &form).await;
    let revoked = Instant::now();
    assert_eq!(answer.status, 200, "{}", answer.body);
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    stop.store(true, Ordering::Relaxed);
    let mut after = Vec::new();
    for task in asking {
        after.push(task.await.expect("no panic").saturating_duration_since(revoked));
    }
    after
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_the_answer_of_a_revocation_no_node_accepts_the_token_beyond_its_bound() {
    let nodes = nodes(false).await;
    for _ in 0..ROUNDS {
        let after = last_yes(&nodes).await;
        assert_eq!(after[0], Duration::ZERO, "at once where it was revoked");
        assert!(after[1] < Duration::from_secs(1), "{after:?}");
        assert!(after[2] < Duration::from_secs(5), "without notifications: {after:?}");
    }
}

/// F-JTI-02.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fault_f_jti_02() {
    let nodes = nodes(true).await;
    for _ in 0..ROUNDS {
        assert_eq!(last_yes(&nodes).await, [Duration::ZERO; 3]);
    }
}
