//! The device grant (RFC 8628): the Rust crate `oauth2`, and programs of `tests/interop/`.

use std::time::Duration;

use oauth2::basic::BasicClient;
use oauth2::{
    AuthType, ClientId, DeviceAuthorizationUrl, RefreshToken, Scope,
    StandardDeviceAuthorizationResponse, TokenResponse as _, TokenUrl,
};
use pmp_auth::storage::Engine;

use super::programs::{node, python, run};
use super::{LOGIN, SECRET, server};
use crate::support::browser::Browser;
use crate::support::server::PASSWORD;

/// What the user of a device does: types the code at the address, signs in, and allows.
async fn approve(address: &str, user_code: &str) {
    let browser = Browser::new();
    let entry = browser.open(address).await;
    let card = browser.submit(&entry, &[("user_code", user_code)]).await;
    let card = browser.follow(card).await;
    let login = browser.decide(&card, "continue").await;
    let decision = browser.sign_in(&login, LOGIN, PASSWORD).await;
    let done = browser.decide(&decision, "allow").await;
    assert_eq!((done.status, done.forms().len()), (200, 0), "{done:?}");
}

async fn the_oauth2_crate(engine: Engine) {
    let server = server(engine).await;
    let issuer = server.issuer("acme");
    let http = oauth2::reqwest::Client::new();
    let metadata =
        server.get(&format!("{issuer}/.well-known/oauth-authorization-server")).await.json();
    let endpoint = |name: &str| metadata[name].as_str().unwrap().to_owned();
    let client = BasicClient::new(ClientId::new("tv".into()))
        .set_auth_type(AuthType::RequestBody)
        .set_token_uri(TokenUrl::new(endpoint("token_endpoint")).unwrap())
        .set_device_authorization_url(
            DeviceAuthorizationUrl::new(endpoint("device_authorization_endpoint")).unwrap(),
        );
    let codes: StandardDeviceAuthorizationResponse = client
        .exchange_device_code()
        .add_scope(Scope::new("openid".into()))
        .add_scope(Scope::new("offline_access".into()))
        .request_async(&http)
        .await
        .unwrap();
    assert_eq!(codes.interval(), Duration::from_secs(1));
    let (address, code) =
        (codes.verification_uri().to_string(), codes.user_code().secret().clone());
    let user = tokio::spawn(async move { approve(&address, &code).await });
    let polling = client.exchange_device_access_token(&codes);
    let tokens = polling.request_async(&http, tokio::time::sleep, None).await.unwrap();
    user.await.unwrap();
    let refresh = RefreshToken::new(tokens.refresh_token().unwrap().secret().clone());
    let again = client.exchange_refresh_token(&refresh).request_async(&http).await.unwrap();
    assert_ne!(again.access_token().secret(), tokens.access_token().secret());
    server.stop().await;
}

async fn openid_client(engine: Engine) {
    let server = server(engine).await;
    let script = "openid_client_device.mjs";
    run(&server, &node(), script, &[("CLIENT_ID", "tv"), ("CLIENT_SECRET", "")]);
    run(&server, &node(), script, &[("CLIENT_ID", "web"), ("CLIENT_SECRET", SECRET)]);
    server.stop().await;
}

async fn program(engine: Engine, script: &str) {
    let server = server(engine).await;
    run(&server, &python(), script, &[("CLIENT_ID", "tv")]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_oauth2_crate_signs_a_device_in_on_sqlite() {
    the_oauth2_crate(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_oauth2_crate_signs_a_device_in_on_postgres() {
    the_oauth2_crate(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn openid_client_signs_a_device_in_and_hears_of_a_refusal_on_sqlite() {
    openid_client(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn openid_client_signs_a_device_in_and_hears_of_a_refusal_on_postgres() {
    openid_client(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn oauthlib_is_slowed_down_and_signs_a_device_in_on_sqlite() {
    program(Engine::Sqlite, "oauthlib_device.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn oauthlib_is_slowed_down_and_signs_a_device_in_on_postgres() {
    program(Engine::Postgres, "oauthlib_device.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn oidc_agent_signs_in_and_refreshes_on_sqlite() {
    program(Engine::Sqlite, "oidc_agent.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn oidc_agent_signs_in_and_refreshes_on_postgres() {
    program(Engine::Postgres, "oidc_agent.py").await;
}
