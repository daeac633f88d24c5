use std::sync::Arc;
use std::time::Duration;

use pmp_auth::base::CredentialKind;
use pmp_auth::config::Settings;
use pmp_auth::storage::Engine;
use serde_json::Value;

use crate::support::flow::Form;
use crate::support::race::{RACERS, race};
use crate::support::server::{TENANTS, TestServer};

/// So many codes and families are raced for, one after the other …
pub(super) const TIMES: usize = 200;
/// … and so many of them over HTTP. The others meet past it, where the race is decided, and closer
/// together.
const BY_HTTP: usize = 4;

/// A server, and on Postgres two more nodes of it.
pub(super) struct Nodes(Arc<Vec<TestServer>>);

impl Nodes {
    pub(super) async fn start(engine: Engine, change: impl FnOnce(&mut Settings)) -> Self {
        let mut nodes = vec![TestServer::configured(engine, TENANTS, change).await];
        if engine == Engine::Postgres {
            for _ in 1..3 {
                nodes.push(nodes[0].beside().await);
            }
        }
        let nodes = Self(Arc::new(nodes));
        // Racers that first had to connect would come one after the other: so every connection is
        // there before, to the nodes and from them to the store.
        let entropy = &pmp_auth::base::SystemEntropy;
        let unknown = CredentialKind::AuthorizationCode.generate(entropy).reveal().clone();
        let form = Form::of("authorization_code").with("code", &unknown);
        for round in 0..2 {
            assert!(winners(&nodes.at_once(round, |_| ("web", form.clone())).await).is_empty());
        }
        nodes
    }

    pub(super) fn first(&self) -> &TestServer {
        &self.0[0]
    }

    /// All of them; to be let go of before they are [stopped](Self::stop).
    pub(super) fn all(&self) -> Arc<Vec<TestServer>> {
        Arc::clone(&self.0)
    }

    /// As many token requests at once as there are racers, spread over the nodes: the tokens of
    /// those that got some, in the order of the racers. Every other one must be `invalid_grant`.
    pub(super) async fn at_once(
        &self,
        round: usize,
        request: impl Fn(usize) -> (&'static str, Form),
    ) -> Vec<Option<Value>> {
        race(RACERS, |racer| {
            let (nodes, (client, form)) = (Arc::clone(&self.0), request(racer));
            async move {
                let node = &nodes[racer % nodes.len()];
                if round < BY_HTTP {
                    let answer = node.ask(client, &form).await;
                    if answer.status == 200 {
                        return Some(answer.granted());
                    }
                    answer.is_refusal(400, "invalid_grant");
                    return None;
                }
                match node.decide(client, &form).await {
                    Ok(tokens) => Some(tokens),
                    Err(error) => {
                        let told = (error.status(), error.code().as_str());
                        assert_eq!(told, (400, "invalid_grant"), "{error}");
                        None
                    }
                }
            }
        })
        .await
    }

    /// Moves the time of all.
    pub(super) async fn advance(&self, by: Duration) {
        self.first().clock.advance(by);
        self.settle().await;
    }

    /// Lets every node learn what the others wrote, as each does by itself within a second.
    pub(super) async fn settle(&self) {
        for node in self.0.iter() {
            node.settle().await;
        }
    }

    /// Whether every node says of a token what it should.
    pub(super) async fn all_say(&self, active: bool, client: &str, token: &Value) {
        for (number, node) in self.0.iter().enumerate() {
            assert_eq!(node.finds_active(client, token).await, active, "node {number}: {token}");
        }
    }

    /// How many rows `from` has, where the store speaks SQL.
    pub(super) async fn rows(&self, from: &str) -> Option<usize> {
        let server = self.first();
        if server.app.store.engine() == Engine::Memory {
            return None;
        }
        let counted = server.place.sql(&format!("SELECT count(*) FROM {from}")).await;
        Some(counted[0].parse().expect("a number"))
    }

    pub(super) async fn stop(self) {
        for node in Arc::into_inner(self.0).expect("nobody else holds the nodes") {
            node.stop().await;
        }
    }
}

/// The tokens of those that got some.
pub(super) fn winners(answers: &[Option<Value>]) -> Vec<&Value> {
    answers.iter().flatten().collect()
}
