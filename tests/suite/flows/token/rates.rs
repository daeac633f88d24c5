use std::time::Duration;

use pmp_auth::model::ClientId;
use pmp_auth::storage::Engine;
use serde_json::json;

use crate::support::flow::{Form, SignedIn};
use crate::support::server::{Answer, OTHER_SECRET, TENANTS, TestServer};

/// Two token requests and three introspections a second, but for `post`, which may more.
async fn slow_server() -> TestServer {
    TestServer::configured(Engine::Memory, TENANTS, |settings| {
        settings.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        for tenant in settings.tenants.values_mut() {
            (tenant.token_rate, tenant.introspection_rate) = (2, 3);
            for client in &mut tenant.clients {
                client.token_rate = (client.id == ClientId::new("post")).then_some(4);
            }
        }
    })
    .await
}

#[track_caller]
fn is_too_often(answer: &Answer) {
    answer.is_refusal(429, "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_client_that_asks_for_tokens_too_often_waits_and_loses_nothing() {
    let server = slow_server().await;
    let alice = SignedIn::at(&server).await;
    let code = alice.code(&server, "web").await;
    let own = Form::of("client_credentials");
    // Five seconds' worth at once.
    for _ in 0..10 {
        assert_eq!(server.ask("web", &own).await.status, 200);
    }
    is_too_often(&server.ask("web", &own).await);
    is_too_often(&server.ask("web", &code.form).await);
    // Nobody else is concerned: not another client, nor the one of the same name elsewhere.
    assert_eq!(server.ask("opaque", &own).await.status, 200);
    let url = server.url("other", "/token");
    let elsewhere = server.post(&url, Some(("web", OTHER_SECRET)), &own.pairs()).await;
    assert_eq!(elsewhere.status, 200);
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(server.ask("web", &code.form).await.status, 200, "the code is still good");
    assert_eq!(server.ask("web", &own).await.status, 200);
    is_too_often(&server.ask("web", &own).await);
    server.stop().await;
}

#[tokio::test]
async fn a_client_has_the_rate_that_is_its_own() {
    let server = slow_server().await;
    let own = Form::of("client_credentials");
    for _ in 0..20 {
        assert_eq!(server.ask("post", &own).await.status, 200);
    }
    is_too_often(&server.ask("post", &own).await);
    server.stop().await;
}

#[tokio::test]
async fn who_claims_to_be_a_public_client_uses_up_the_rate_of_one_network_only() {
    let server = slow_server().await;
    let form = Form::of("refresh_token").with("refresh_token", "x").with("client_id", "spa");
    let from = async |ip: &str| {
        let request = server.http.post(server.url("acme", "/token")).form(&form.pairs());
        Answer::of(request.header("x-forwarded-for", ip).send().await.unwrap()).await
    };
    for _ in 0..10 {
        from("192.0.2.1").await.is_refusal(400, "invalid_grant");
    }
    is_too_often(&from("192.0.2.1").await);
    from("192.0.2.2").await.is_refusal(400, "invalid_grant");
    server.stop().await;
}

#[tokio::test]
async fn a_resource_server_that_introspects_too_often_waits() {
    let server = slow_server().await;
    let token = json!(server.client_token("web").await);
    for _ in 0..15 {
        assert!(server.is_active("api", &token).await);
    }
    let form = [("token", token.as_str().unwrap())];
    let url = server.url("acme", "/introspect");
    let basic = Some(("api", crate::support::server::SECRET));
    is_too_often(&server.post(&url, basic, &form).await);
    assert!(server.is_active("web", &token).await, "another caller is not concerned");
    server.clock.advance(Duration::from_secs(1));
    assert!(server.is_active("api", &token).await);
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_uses_up_nothing() {
    let server = slow_server().await;
    let own = [("grant_type", "client_credentials")];
    let url = server.url("acme", "/token");
    for _ in 0..12 {
        server.post(&url, Some(("web", "wrong")), &own).await.is_refusal(401, "invalid_client");
    }
    for _ in 0..10 {
        assert_eq!(server.token("web", &own).await.status, 200);
    }
    server.stop().await;
}
