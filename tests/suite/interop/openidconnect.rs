//! The Rust crate `openidconnect`.

use openidconnect::core::{CoreClient, CoreProviderMetadata, CoreResponseType, CoreUserInfoClaims};
use openidconnect::{
    AuthenticationFlow, AuthorizationCode, ClientId, ClientSecret, CsrfToken, IssuerUrl, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, RedirectUrl, Scope, TokenResponse as _,
};
use pmp_auth::storage::Engine;

use super::{CALLBACK, LOGIN, SECRET, server};
use crate::support::browser::Browser;
use crate::support::server::{PASSWORD, TestServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_openidconnect_crate_logs_in_and_refreshes_on_sqlite() {
    log_in(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_openidconnect_crate_logs_in_and_refreshes_on_postgres() {
    log_in(Engine::Postgres).await;
}

async fn log_in(engine: Engine) {
    let server: TestServer = server(engine).await;
    let http = openidconnect::reqwest::Client::new();
    let issuer = IssuerUrl::new(server.issuer("acme")).unwrap();
    let metadata = CoreProviderMetadata::discover_async(issuer, &http).await.unwrap();
    let client = CoreClient::from_provider_metadata(
        metadata,
        ClientId::new("web".into()),
        Some(ClientSecret::new(SECRET.into())),
    )
    .set_redirect_uri(RedirectUrl::new(CALLBACK.into()).unwrap());

    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state, nonce) = client
        .authorize_url(
            AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
            CsrfToken::new_random,
            Nonce::new_random,
        )
        .add_scope(Scope::new("email".into()))
        .add_scope(Scope::new("offline_access".into()))
        .set_pkce_challenge(challenge)
        .url();

    let browser = Browser::new();
    let login = browser.open(url.as_str()).await;
    let consent = browser.sign_in(&login, LOGIN, PASSWORD).await;
    let back = browser.decide(&consent, "allow").await;
    assert_eq!(back.sent("state").as_deref(), Some(state.secret().as_str()));
    let code = AuthorizationCode::new(back.sent("code").expect("a code"));

    let request = client.exchange_code(code).unwrap().set_pkce_verifier(verifier);
    let tokens = request.request_async(&http).await.unwrap();
    let id_token = tokens.id_token().expect("an ID token");
    let claims = id_token.claims(&client.id_token_verifier(), &nonce).unwrap();
    let user: CoreUserInfoClaims = client
        .user_info(tokens.access_token().clone(), Some(claims.subject().clone()))
        .unwrap()
        .request_async(&http)
        .await
        .unwrap();
    assert_eq!(user.email().map(|email| email.as_str()), Some(LOGIN));

    let refresh = tokens.refresh_token().expect("a refresh token");
    let again = client.exchange_refresh_token(refresh).unwrap().request_async(&http).await.unwrap();
    assert_ne!(again.access_token().secret(), tokens.access_token().secret());
    assert_ne!(again.refresh_token().unwrap().secret(), refresh.secret());
    server.stop().await;
}
