use std::time::Duration;

use pmp_auth::model::Action;
use pmp_auth::storage::Engine;
use serde_json::Value;

use super::nodes::{Nodes, winners};
use crate::support::flow::{Form, SignedIn};
use crate::support::race::RACERS;

on_every_server! {
    fault_f_refresh_01
    fault_f_refresh_02
}

/// So many families are raced in, one after the other.
const FAMILIES: usize = 3;
/// … and so many generations of each.
const GENERATIONS: u32 = 2;

fn refresh(token: &Value) -> Form {
    Form::refresh(token.as_str().expect("a refresh token"))
}

async fn fault_f_refresh_01(engine: Engine) {
    let nodes = Nodes::start(engine, |_| {}).await;
    let server = nodes.first();
    let alice = SignedIn::at(server).await;
    for client in ["web", "spa", "opaque"] {
        let (first, grant) = alice.tokens(server, client).await;
        let mut head = first["refresh_token"].clone();
        for generation in 1..=GENERATIONS {
            let answers = nodes.at_once(|_| (client, refresh(&head))).await;
            let won = winners(&answers);
            assert_eq!(won.len(), RACERS, "nobody is turned away");
            let next = &won[0]["refresh_token"];
            assert!(won.iter().all(|one| one["refresh_token"] == *next), "one successor");
            assert_ne!(*next, head);
            let row = server.grant(grant).await.refresh.expect("a family");
            assert_eq!(row.head, generation + 1, "one rotation");
            assert!(server.is_live(grant).await);
            nodes.settle().await;
            if client != "spa" {
                nodes.all_say(true, client, next).await;
                nodes.all_say(false, client, &head).await;
            }
            for one in &won {
                assert!(server.is_active("api", &one["access_token"]).await);
            }
            head = next.clone();
        }
        assert_eq!(server.ask(client, &refresh(&head)).await.status, 200, "the head lives");
    }
    let rotations = FAMILIES * (GENERATIONS as usize + 1);
    assert_eq!(server.times(Action::RefreshRotated).await, rotations);
    assert_eq!(server.times(Action::RefreshReused).await, 0);
    if let Some(grants) = nodes.rows("grants").await {
        assert_eq!(grants, FAMILIES, "no new rows");
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
    for client in ["web", "spa", "native", "opaque"] {
        let (first, grant) = alice.tokens(server, client).await;
        let answers = nodes.at_once(|_| (client, refresh(&first["refresh_token"]))).await;
        let won = winners(&answers);
        assert_eq!(won.len(), 1, "{client}");
        assert!(!server.is_live(grant).await);
        nodes.settle().await;
        for tokens in [&first, &won[0]] {
            nodes.all_say(false, "api", &tokens["access_token"]).await;
        }
        let head = refresh(&won[0]["refresh_token"]);
        server.ask(client, &head).await.is_refusal(400, "invalid_grant");
    }
    assert_eq!(server.times(Action::RefreshRotated).await, 4, "one for each family");
    assert!(server.times(Action::RefreshReused).await >= 4, "theft is on record");
    nodes.stop().await;
}
