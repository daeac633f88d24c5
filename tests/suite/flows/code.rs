use pmp_auth::base::base64url;
use pmp_auth::storage::Engine;
use serde_json::Value;

use crate::support::browser::{Asking, Browser, VERIFIER, callback};
use crate::support::server::{API, PASSWORD, TestServer};

on_every_server! {
    a_login_ends_in_tokens_that_work_until_logout
    a_login_survives_a_restart_between_any_two_steps
}

/// What an unverified JWT says; its signature is another test's subject.
fn claims(token: &Value) -> Value {
    let token = token.as_str().expect("a token");
    let payload = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&base64url::decode(payload).unwrap()).unwrap()
}

async fn redeem(server: &TestServer, code: &str) -> Value {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", callback("web")),
        ("code_verifier", VERIFIER),
    ];
    let answer = server.token("web", &form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn a_login_ends_in_tokens_that_work_until_logout(engine: Engine) {
    let server = TestServer::start(engine).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let request = Asking::of("web").with("scope", "openid email offline_access orders:read");
    let page = browser.open(request.at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    let answer = browser.decide(&page, "allow").await;
    let tokens = redeem(&server, &answer.sent("code").unwrap()).await;
    let id = claims(&tokens["id_token"]);
    assert_eq!((&id["iss"], &id["aud"]), (&Value::from(issuer), &Value::from("web")));
    assert_eq!(id["nonce"], "n-1");
    assert_eq!(id["amr"], serde_json::json!(["pwd"]));
    assert!(id["auth_time"].is_i64() && id["sid"].is_string() && id["at_hash"].is_string(), "{id}");
    let access = claims(&tokens["access_token"]);
    assert_eq!((&access["sub"], &access["aud"]), (&id["sub"], &Value::from(API)));

    let token = tokens["access_token"].as_str().unwrap();
    let bearer = server.http.get(server.url("acme", "/userinfo")).bearer_auth(token);
    let user: Value = bearer.send().await.unwrap().json().await.unwrap();
    assert_eq!((&user["sub"], &user["email"]), (&id["sub"], &Value::from("alice@example.com")));

    let hint = tokens["id_token"].as_str().unwrap();
    let logout = url::Url::parse_with_params(
        &server.url("acme", "/logout"),
        [("id_token_hint", hint), ("post_logout_redirect_uri", "http://localhost:3000/bye")],
    );
    let page = browser.open(logout.unwrap()).await;
    assert_eq!(page.heading(), "Sign out of Acme?");
    let gone = browser.submit(&page, &[("decision", "logout")]).await;
    assert_eq!(gone.next().unwrap().as_str(), "http://localhost:3000/bye");
    let page = browser.open(request.at(&server.issuer("acme"))).await;
    assert_eq!(page.heading(), "Sign in");
    // offline_access: the grant outlives the session.
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    assert_eq!(server.token("web", &form).await.status, 200);
    server.stop().await;
}

async fn a_login_survives_a_restart_between_any_two_steps(engine: Engine) {
    let mut server = TestServer::start(engine).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    if engine == Engine::Memory {
        return server.stop().await;
    }
    server = server.restart().await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    server = server.restart().await;
    let answer = browser.decide(&page, "allow").await;
    server = server.restart().await;
    let tokens = redeem(&server, &answer.sent("code").unwrap()).await;
    assert!(tokens["access_token"].is_string());
    server.stop().await;
}

#[tokio::test]
async fn a_grant_without_offline_access_dies_with_its_session() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    let first = browser.decide(&page, "allow").await.sent("code").unwrap();
    let tokens = redeem(&server, &first).await;
    assert_eq!(tokens["refresh_token"], Value::Null);
    let answer = browser.get(Asking::of("web").at(&server.issuer("acme"))).await;
    let second = answer.sent("code").unwrap();
    let page = browser.open(server.url("acme", "/logout")).await;
    browser.submit(&page, &[("decision", "logout")]).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &second),
        ("redirect_uri", callback("web")),
        ("code_verifier", VERIFIER),
    ];
    let answer = server.token("web", &form).await;
    assert_eq!((answer.status, answer.error().as_str()), (400, "invalid_grant"));
    server.stop().await;
}
