use std::time::Duration;

use pmp_auth::model::Action;
use pmp_auth::model::grant::GrantState;
use pmp_auth::storage::Engine;
use serde_json::Value;

use super::nodes::{Nodes, TIMES, winners};
use crate::support::flow::{Form, SignedIn};
use crate::support::race::RACERS;

on_every_server! {
    fault_f_refresh_01
    fault_f_refresh_02
}

/// A refresh of less than was granted: without `openid`, nobody signs an ID token.
fn refresh(token: &Value) -> Form {
    Form::refresh(token.as_str().expect("a refresh token")).with("scope", "orders:read")
}

async fn fault_f_refresh_01(engine: Engine) {
    let nodes = Nodes::start(engine, |_| {}).await;
    let server = nodes.first();
    let alice = SignedIn::at(server).await;
    for round in 0..TIMES {
        let client = ["web", "spa", "opaque"][round % 3];
        let (first, grant) = alice.plain_tokens(server, client).await;
        let spent = &first["refresh_token"];
        let answers = nodes.at_once(round, |_| (client, refresh(spent))).await;
        let won = winners(&answers);
        assert_eq!(won.len(), RACERS, "nobody is turned away");
        let next = &won[0]["refresh_token"];
        assert!(won.iter().all(|one| one["refresh_token"] == *next), "one successor");
        assert_ne!(next, spent);
        let row = server.grant(grant).await;
        assert_eq!(row.refresh.expect("a family").head, 2, "one rotation");
        assert_eq!(row.state, GrantState::Live);
        if client != "spa" {
            nodes.all_say(true, client, next).await;
            nodes.all_say(false, client, spent).await;
        }
        for one in won.iter().step_by(10) {
            assert!(server.finds_active("api", &one["access_token"]).await);
        }
        assert!(server.decide(client, &refresh(next)).await.is_ok(), "the head lives");
    }
    assert_eq!(server.times(Action::RefreshRotated).await, TIMES * 2);
    assert_eq!(server.times(Action::RefreshReused).await, 0);
    if let Some(grants) = nodes.rows("grants").await {
        assert_eq!(grants, TIMES, "no new rows");
    }
    nodes.stop().await;
}

async fn fault_f_refresh_02(engine: Engine) {
    let nodes = Nodes::start(engine, |settings| {
        for tenant in settings.tenants.values_mut() {
            tenant.lifetimes.refresh_short_window = Duration::ZERO;
        }
    })
    .await;
    let server = nodes.first();
    let alice = SignedIn::at(server).await;
    let mut dead = Vec::with_capacity(TIMES);
    for round in 0..TIMES {
        let client = ["web", "spa", "native", "opaque"][round % 4];
        let (first, grant) = alice.plain_tokens(server, client).await;
        let answers = nodes.at_once(round, |_| (client, refresh(&first["refresh_token"]))).await;
        let won = winners(&answers);
        assert_eq!(won.len(), 1, "{client}");
        assert!(!server.is_live(grant).await);
        dead.push((client, first, won[0].clone()));
    }
    nodes.settle().await;
    for (client, first, second) in dead {
        for tokens in [&first, &second] {
            nodes.all_say(false, "api", &tokens["access_token"]).await;
        }
        let refused = server.decide(client, &refresh(&second["refresh_token"])).await;
        assert_eq!(refused.expect_err("a dead head").code().as_str(), "invalid_grant");
    }
    assert_eq!(server.times(Action::RefreshRotated).await, TIMES, "one for each family");
    assert!(server.times(Action::RefreshReused).await >= TIMES, "theft is on record");
    nodes.stop().await;
}
