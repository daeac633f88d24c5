//! What clients of the device flow expect of a server, line by line; `docs/device-flow.md` says
//! which test has the lines that are not here.

use std::time::Duration;

use pmp_auth::storage::Engine;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::device::{DEVICE_GRANT, Device};
use crate::support::flow::{Form, SignedIn};
use crate::support::server::{PASSWORD, SECRET, TENANTS, TestServer};

/// Line 1.
#[tokio::test]
async fn both_discovery_documents_name_the_endpoint_and_the_grant() {
    let server = TestServer::start(Engine::Memory).await;
    for document in ["openid-configuration", "oauth-authorization-server"] {
        let url = server.url("acme", &format!("/.well-known/{document}"));
        let said = server.get(&url).await.json();
        let endpoint = server.url("acme", "/device_authorization");
        assert_eq!(said["device_authorization_endpoint"], json!(endpoint), "{document}");
        let grants = said["grant_types_supported"].as_array().unwrap();
        assert!(grants.contains(&json!(DEVICE_GRANT)), "{document}: {grants:?}");
        // Lines 2 and 3: the ordinary token endpoint, and without a secret.
        assert_eq!(said["token_endpoint"], json!(server.url("acme", "/token")));
        let methods = said["token_endpoint_auth_methods_supported"].as_array().unwrap();
        assert!(methods.contains(&json!("none")), "{document}: {methods:?}");
    }
    server.stop().await;
}

/// Line 4.
#[tokio::test]
async fn a_confidential_client_sends_its_secret_by_basic_or_post_and_is_told_so_when_it_does_not() {
    let named = "client_id: settop\n";
    let by_post = format!("{named}        auth_method: client_secret_post\n");
    for yaml in [TENANTS.to_owned(), TENANTS.replacen(named, &by_post, 1)] {
        let post = yaml.contains("client_secret_post\n        name: Acme Set-top");
        let server = TestServer::with(Engine::Memory, &yaml).await;
        let (basic, body): (_, &[_]) = if post {
            (None, &[("client_id", "settop"), ("client_secret", SECRET)])
        } else {
            (Some(("settop", SECRET)), &[])
        };
        let (ask, token) =
            (server.url("acme", "/device_authorization"), server.url("acme", "/token"));
        let answer = server.post(&ask, basic, body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let code = answer.json()["device_code"].as_str().unwrap().to_owned();
        let poll = [("grant_type", DEVICE_GRANT), ("device_code", code.as_str())];
        let answer = server.post(&token, basic, &[&poll[..], body].concat()).await;
        answer.is_refusal(400, "authorization_pending");
        // Only named.
        let named = [("client_id", "settop")];
        for answer in [
            server.post(&ask, None, &named).await,
            server.post(&token, None, &[&poll[..], &named].concat()).await,
        ] {
            answer.is_refusal(401, "invalid_client");
            let said = answer.json()["error_description"].as_str().unwrap().to_owned();
            assert!(said.contains("secret") && said.contains("public"), "{said}");
        }
        server.stop().await;
    }
}

/// Line 5.
#[tokio::test]
async fn a_poll_without_client_id_is_told_what_is_missing() {
    let server = TestServer::start(Engine::Memory).await;
    let device = Device::of(&server, "tv").await;
    let answer = server.post(&server.url("acme", "/token"), None, &device.form.pairs()).await;
    answer.is_refusal(401, "invalid_client");
    let said = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert!(said.contains("client_id"), "{said}");
    device.poll(&server).await.is_refusal(400, "authorization_pending");
    server.stop().await;
}

/// Line 8.
#[tokio::test]
async fn each_answer_without_tokens_is_a_400_in_json_that_nobody_keeps() {
    let server = TestServer::start(Engine::Memory).await;
    let (kept, denied) = (Device::of(&server, "tv").await, Device::of(&server, "tv").await);
    kept.poll(&server).await.is_refusal(400, "authorization_pending");
    kept.poll(&server).await.is_refusal(400, "slow_down");
    // 10 s from now on, for good.
    server.clock.advance(Duration::from_secs(9));
    kept.poll(&server).await.is_refusal(400, "slow_down");
    server.clock.advance(Duration::from_secs(15));
    kept.poll(&server).await.is_refusal(400, "authorization_pending");
    denied.deny(&server).await;
    denied.poll(&server).await.is_refusal(400, "access_denied");
    server.clock.advance(Duration::from_mins(10));
    kept.poll(&server).await.is_refusal(400, "expired_token");
    server.stop().await;
}

/// Line 9.
#[tokio::test]
async fn a_code_is_taken_however_it_is_typed_and_has_no_letter_that_is_mistaken() {
    let server = TestServer::start(Engine::Memory).await;
    let device = Device::of(&server, "tv").await;
    let (shown, letters) = (device.user_code.clone(), device.user_code.replace('-', ""));
    let spaced: String = letters.chars().flat_map(|letter| [letter, ' ']).collect();
    for typed in [
        shown.clone(),
        shown.to_lowercase(),
        letters.clone(),
        letters.to_lowercase(),
        shown.replace('-', " - "),
        shown.replace('-', "\u{2013}"),
        format!("\u{a0}{spaced}"),
    ] {
        let card = Browser::new().enter(&server, &typed).await;
        assert_eq!(card.heading(), "Is this your device?", "{typed}: {}", card.body);
    }
    for _ in 0..40 {
        let code = Device::of(&server, "settop").await.user_code;
        assert!(!code.contains(['A', 'E', 'I', 'O', 'U', 'Y']), "{code}");
        assert!(!code.contains(|c: char| c.is_ascii_digit()), "{code}");
    }
    server.stop().await;
}

/// Line 15.
#[tokio::test]
async fn a_refresh_token_comes_with_offline_access_or_where_the_client_always_has_one() {
    let named = "client_id: settop\n";
    let always = TENANTS.replacen(named, &format!("{named}        refresh_tokens: always\n"), 1);
    let never = TENANTS.replace("grants: [device_code, refresh_token]", "grants: [device_code]");
    for (yaml, client, scope, comes) in [
        (TENANTS, "tv", "openid orders:read", false),
        (TENANTS, "tv", "openid orders:read offline_access", true),
        (always.as_str(), "settop", "orders:read", true),
        (never.as_str(), "tv", "orders:read offline_access", false),
    ] {
        let server = TestServer::with(Engine::Memory, yaml).await;
        let alice = SignedIn::at(&server).await;
        let device = Device::asking(&server, client, &[("scope", scope)]).await;
        device.approve(&server, &alice).await;
        let tokens = device.poll(&server).await.granted();
        assert_eq!(tokens.get("refresh_token").is_some(), comes, "{client} {scope}: {tokens}");
        if let Some(refresh) = tokens["refresh_token"].as_str() {
            server.ask(client, &Form::refresh(refresh)).await.granted();
        }
        server.stop().await;
    }
}

/// Line 16.
mod restart {
    use super::*;

    on_every_server!(@ sqlite, Sqlite, nobody_notices_a_restart_between_any_two_steps);
    on_every_server!(@ postgres, Postgres, nobody_notices_a_restart_between_any_two_steps);

    async fn nobody_notices_a_restart_between_any_two_steps(engine: Engine) {
        let mut server = TestServer::start(engine).await;
        let browser = Browser::new();
        let tv = Device::of(&server, "tv").await;
        server = server.restart().await;
        tv.poll(&server).await.is_refusal(400, "authorization_pending");
        server = server.restart().await;
        tv.poll(&server).await.is_refusal(400, "slow_down");
        let entry = browser.open(server.url("acme", "/device")).await;
        server = server.restart().await;
        let sent = browser.submit(&entry, &[("user_code", &tv.user_code)]).await;
        server = server.restart().await;
        let card = browser.follow(sent).await;
        assert_eq!(card.heading(), "Is this your device?", "{}", card.body);
        server = server.restart().await;
        let login = browser.decide(&card, "continue").await;
        server = server.restart().await;
        let page = browser.sign_in(&login, "alice", PASSWORD).await;
        server = server.restart().await;
        server.clock.advance(Duration::from_secs(10));
        tv.poll(&server).await.is_refusal(400, "authorization_pending");
        let done = browser.decide(&page, "allow").await;
        assert_eq!(done.heading(), "You can go back to your device", "{}", done.body);
        server = server.restart().await;
        // Never early, although it is by what was stored.
        let tokens = tv.poll(&server).await.granted();
        server = server.restart().await;
        assert!(server.is_active("api", &tokens["access_token"]).await);
        tv.poll(&server).await.is_refusal(400, "invalid_grant");
        let refresh = Form::refresh(tokens["refresh_token"].as_str().unwrap());
        let refreshed = server.ask("tv", &refresh).await.granted();
        server = server.restart().await;
        let refresh = Form::refresh(refreshed["refresh_token"].as_str().unwrap());
        server.ask("tv", &refresh).await.granted();
        // A denial is remembered, too.
        let other = Device::of(&server, "tv").await;
        let card = browser.enter(&server, &other.user_code).await;
        browser.decide(&card, "deny").await;
        server = server.restart().await;
        other.poll(&server).await.is_refusal(400, "access_denied");
        server.stop().await;
    }
}
