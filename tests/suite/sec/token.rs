//! Cases of the token endpoint.

use std::time::Duration;

use pmp_auth::base::{CredentialKind, SystemEntropy};
use pmp_auth::model::client::GrantType;
use pmp_auth::model::{Audit, ClientId, TenantSlug};
use pmp_auth::storage::{Change, Engine, SetClientState, WithdrawConsent};

use crate::support::flow::{Form, SignedIn};
use crate::support::logs::Logs;
use crate::support::server::{API, SECRET, TestServer};

on_every_server! {
    sec_token_14
    sec_token_15
    sec_token_16
    sec_token_17
    sec_token_18
    sec_token_19
    sec_token_20
    sec_token_23
    sec_token_24
    sec_token_25
    sec_token_28
}

async fn server() -> TestServer {
    TestServer::start(Engine::Memory).await
}

const WRONG_VERIFIER: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

#[tokio::test]
async fn sec_token_01() {
    let logs = Logs::listen();
    let server = server().await;
    let code = SignedIn::at(&server).await.code(&server, "web").await;
    let form = code.form.clone().with("client_id", "web").with("client_secret", SECRET);
    let answer = server.get(&format!("{}?{}", server.url("acme", "/token"), form.encoded())).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    assert!(!answer.headers.contains_key("location"));
    assert!(!answer.body.contains(&code.text));
    server.ask("web", &code.form).await.granted();
    server.stop().await;
    let logged = logs.text();
    assert!(logged.contains("status=405"), "the request is logged: {logged}");
    for secret in [code.text.as_str(), SECRET, "code_verifier"] {
        assert!(!logged.contains(secret), "{logged}");
    }
}

#[tokio::test]
async fn sec_token_02() {
    let server = server().await;
    let code = SignedIn::at(&server).await.code(&server, "web").await;
    let url = format!("{}?{}", server.url("acme", "/token"), code.form.encoded());
    server.post(&url, Some(("web", SECRET)), &[]).await.is_refusal(400, "invalid_request");
    // All in the body, and one of them in the query besides.
    let url = format!("{}?grant_type=authorization_code", server.url("acme", "/token"));
    let both = server.post(&url, Some(("web", SECRET)), &code.form.pairs()).await;
    both.is_refusal(400, "invalid_request");
    server.ask("web", &code.form).await.granted();
    server.stop().await;
}

#[tokio::test]
async fn sec_token_04() {
    let server = server().await;
    let code = SignedIn::at(&server).await.code(&server, "web").await;
    let encoded = code.form.encoded();
    let parts = code.form.pairs().into_iter().map(|(name, value)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    });
    let multipart = format!("{}--b--\r\n", parts.collect::<String>());
    for (content_type, body) in [
        (Some("multipart/form-data; boundary=b"), multipart),
        (Some("text/plain"), encoded.clone()),
        (Some("application/json"), "{\"grant_type\":\"authorization_code\"}".to_owned()),
        (None, encoded),
    ] {
        let request = server.http.post(server.url("acme", "/token"));
        let mut request = request.basic_auth("web", Some(SECRET)).body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = crate::support::server::Answer::of(request.send().await.unwrap()).await;
        answer.is_refusal(400, "invalid_request");
    }
    server.ask("web", &code.form).await.granted();
    server.stop().await;
}

#[tokio::test]
async fn sec_token_09() {
    let server = server().await;
    let form = Form::of("client_credentials").with("scope", "orders:read");
    for client in ["spa", "native"] {
        server.ask(client, &form).await.is_refusal(400, "unauthorized_client");
        // A secret does not make it a confidential one.
        server.token(client, &form.pairs()).await.is_refusal(401, "invalid_client");
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_token_10() {
    let server = server().await;
    for scope in ["orders:write", "orders:read orders:write", "admin", "*", "orders:read openid x"]
    {
        let form = Form::of("client_credentials").with("scope", scope);
        server.ask("opaque", &form).await.is_refusal(400, "invalid_scope");
    }
    let form = Form::of("client_credentials").with("scope", "orders:read");
    assert_eq!(server.ask("opaque", &form).await.granted()["scope"], "orders:read");
    // Nor does a request that names none get more than the client has.
    let all = server.ask("opaque", &Form::of("client_credentials")).await;
    assert!(!all.body.contains("orders:write"), "{}", all.body);
    server.stop().await;
}

async fn sec_token_14(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    for client in ["web", "spa"] {
        let code = alice.code(&server, client).await;
        let tokens = server.ask(client, &code.form).await.granted();
        // As often as would kill an unused code.
        for _ in 0..6 {
            let wrong = code.form.clone().with("code_verifier", WRONG_VERIFIER);
            server.ask(client, &wrong).await.is_refusal(400, "invalid_grant");
        }
        assert!(server.is_active("api", &tokens["access_token"]).await);
        let refresh = Form::refresh(tokens["refresh_token"].as_str().unwrap());
        server.ask(client, &refresh).await.granted();
    }
    server.stop().await;
}

async fn sec_token_15(engine: Engine) {
    let server = TestServer::start(engine).await;
    let code = SignedIn::at(&server).await.code(&server, "web").await;
    let tokens = server.ask("web", &code.form).await.granted();
    let url = server.url("acme", "/token");
    let wrong = server.post(&url, Some(("web", "guess")), &code.form.pairs()).await;
    wrong.is_refusal(401, "invalid_client");
    assert!(server.is_active("web", &tokens["access_token"]).await);
    assert!(server.is_active("web", &tokens["refresh_token"]).await);
    let refresh = Form::refresh(tokens["refresh_token"].as_str().unwrap());
    server.ask("web", &refresh).await.granted();
    server.stop().await;
}

async fn sec_token_16(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    for client in ["web", "spa", "native"] {
        let code = alice.code(&server, client).await;
        for stranger in ["web", "opaque", "post", "spa", "native"] {
            if stranger != client {
                server.ask(stranger, &code.form).await.is_refusal(400, "invalid_grant");
            }
        }
        server.ask(client, &code.form).await.granted();
    }
    server.stop().await;
}

async fn sec_token_17(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    for (failures, lives) in [(4, true), (5, true), (6, false)] {
        let code = alice.code(&server, "web").await;
        let wrong = code.form.clone().with("code_verifier", WRONG_VERIFIER);
        for _ in 0..failures {
            server.ask("web", &wrong).await.is_refusal(400, "invalid_grant");
        }
        let right = server.ask("web", &code.form).await;
        if lives {
            right.granted();
        } else {
            right.is_refusal(400, "invalid_grant");
        }
    }
    // Whoever claims to be a public client wears nothing out.
    let code = alice.code(&server, "spa").await;
    let wrong = code.form.clone().with("code_verifier", WRONG_VERIFIER);
    for _ in 0..10 {
        server.ask("spa", &wrong).await.is_refusal(400, "invalid_grant");
    }
    server.ask("spa", &code.form).await.granted();
    server.stop().await;
}

async fn sec_token_18(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    let (early, late) = (alice.code(&server, "web").await, alice.code(&server, "web").await);
    server.advance(Duration::from_secs(59)).await;
    server.ask("web", &early.form).await.granted();
    server.advance(Duration::from_secs(2)).await;
    server.ask("web", &late.form).await.is_refusal(400, "invalid_grant");
    assert!(server.is_live(late.grant).await, "nothing is revoked");
    assert!(server.is_live(early.grant).await);
    server.stop().await;
}

async fn sec_token_19(engine: Engine) {
    let server = TestServer::start(engine).await;
    let code = SignedIn::at(&server).await.code(&server, "web").await;
    for other in [
        "http://localhost:3000/other",
        "http://localhost:3000/callback/",
        "http://LOCALHOST:3000/callback",
        "http://localhost:3000/callback?",
    ] {
        let form = code.form.clone().with("redirect_uri", other);
        server.ask("web", &form).await.is_refusal(400, "invalid_grant");
    }
    let without = code.form.clone().without("redirect_uri");
    server.ask("web", &without).await.is_refusal(400, "invalid_grant");
    server.ask("web", &code.form).await.granted();
    server.stop().await;
}

async fn sec_token_20(engine: Engine) {
    let server = TestServer::start(engine).await;
    let code = SignedIn::at(&server).await.code(&server, "web").await;
    let text = &code.text;
    let mut flipped = text.clone().into_bytes();
    flipped[20] ^= 1;
    let unknown = CredentialKind::AuthorizationCode.generate(&SystemEntropy);
    for other in [
        String::from_utf8(flipped).unwrap(),
        text[..text.len() - 1].to_owned(),
        text[1..].to_owned(),
        format!("{text}A"),
        format!("{text} "),
        format!("{text}\n"),
        format!("{text}\0"),
        format!(" {text}"),
        text.to_uppercase(),
        unknown.reveal().clone(),
    ] {
        let form = code.form.clone().with("code", &other);
        server.ask("web", &form).await.is_refusal(400, "invalid_grant");
    }
    server.ask("web", &code.form).await.granted();
    server.stop().await;
}

/// The same server with this as the only grant type of `web`.
async fn with_grants(server: TestServer, only: GrantType) -> TestServer {
    let restarted = server.restart_with(|settings| {
        let acme = TenantSlug::parse("acme").unwrap();
        let clients = &mut settings.tenants.get_mut(&acme).unwrap().clients;
        let web = clients.iter_mut().find(|client| client.id.as_str() == "web");
        web.expect("a client").grants = vec![only];
    });
    restarted.await
}

async fn sec_token_23(engine: Engine) {
    let mut server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    if engine != Engine::Memory {
        let code = alice.code(&server, "web").await;
        server = with_grants(server, GrantType::ClientCredentials).await;
        server.ask("web", &code.form).await.is_refusal(400, "unauthorized_client");
        server = with_grants(server, GrantType::AuthorizationCode).await;
        server.ask("web", &code.form).await.granted();
    }
    let (code, other) = (alice.code(&server, "opaque").await, alice.code(&server, "web").await);
    let (tenant, now) = (server.tenant("acme"), server.app.clock.now());
    let not_after = now.plus(Duration::from_hours(1));
    let change = Change { now, not_after, audit: &Audit::default() };
    let id = ClientId::new("opaque");
    let disabled = tenant.store.set_client_disabled(&id, true, &change).await.unwrap();
    assert_eq!(disabled, SetClientState::Changed);
    server.settle().await;
    server.ask("opaque", &code.form).await.is_refusal(401, "invalid_client");
    server.ask("web", &other.form).await.granted();
    server.stop().await;
}

async fn sec_token_24(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    let (code, other) = (alice.code(&server, "web").await, alice.code(&server, "spa").await);
    let (tenant, now) = (server.tenant("acme"), server.app.clock.now());
    let (web, audit) = (ClientId::new("web"), Audit::default());
    let withdrawn = tenant.store.withdraw_consent(alice.user, &web, now, &audit).await.unwrap();
    assert_eq!(withdrawn, WithdrawConsent::Withdrawn { grants: 1 });
    server.ask("web", &code.form).await.is_refusal(400, "invalid_grant");
    server.ask("spa", &other.form).await.granted();
    server.stop().await;
}

async fn sec_token_25(engine: Engine) {
    let server = TestServer::start(engine).await;
    let code = SignedIn::at(&server).await.code(&server, "web").await;
    // One that nobody has, one that the client could have had, and more than one.
    for resource in ["https://not-granted.example", "https://files.acme.example", "not a uri"] {
        let form = code.form.clone().with("resource", resource);
        server.ask("web", &form).await.is_refusal(400, "invalid_target");
        let form = form.with("resource", API).and("resource", resource);
        server.ask("web", &form).await.is_refusal(400, "invalid_target");
    }
    let tokens = server.ask("web", &code.form.with("resource", API)).await.granted();
    assert_eq!(server.introspect("web", &tokens["access_token"]).await["aud"], API);
    server.stop().await;
}

#[tokio::test]
async fn sec_token_26() {
    let server = server().await;
    let alice = SignedIn::at(&server).await;
    // `orders:write` is the client's to ask for, but the user was not asked.
    for scope in ["admin", "orders:write", "openid orders:read orders:write", "*"] {
        let code = alice.code(&server, "web").await;
        let tokens = server.ask("web", &code.form.with("scope", scope)).await.granted();
        assert_eq!(tokens["scope"], "openid orders:read offline_access", "{scope}");
        let told = server.introspect("web", &tokens["access_token"]).await;
        assert_eq!(told["scope"], "openid orders:read offline_access", "{scope}");
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_token_27() {
    let server = server().await;
    let alice = SignedIn::at(&server).await;
    let code = alice.code(&server, "web").await;
    for twice in [
        code.form.clone().and("grant_type", "authorization_code"),
        code.form.clone().and("grant_type", "refresh_token"),
        code.form.clone().and("code", &code.text),
        code.form.clone().and("code", ""),
        code.form.clone().and("code_verifier", WRONG_VERIFIER),
    ] {
        server.ask("web", &twice).await.is_refusal(400, "invalid_request");
    }
    server.ask("web", &code.form).await.granted();
    let code = alice.code(&server, "post").await;
    let twice = code.form.clone().with("client_id", "post").with("client_secret", SECRET);
    for second in [SECRET, "guess"] {
        let form = twice.clone().and("client_secret", second);
        let answer = server.post(&server.url("acme", "/token"), None, &form.pairs()).await;
        answer.is_refusal(400, "invalid_request");
    }
    server.ask("post", &code.form).await.granted();
    server.stop().await;
}

async fn sec_token_28(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    let (tokens, grant) = alice.tokens(&server, "web").await;
    let code = alice.code(&server, "web").await;
    let both = code.form.clone().with("grant_type", "refresh_token");
    // Without a refresh token the code is no substitute.
    server.ask("web", &both).await.is_refusal(400, "invalid_request");
    let both = both.with("refresh_token", tokens["refresh_token"].as_str().unwrap());
    let refreshed = server.ask("web", &both).await.granted();
    assert_ne!(refreshed["refresh_token"], tokens["refresh_token"]);
    assert_eq!(server.grant(grant).await.refresh.unwrap().head, 2);
    assert_eq!(server.grant(code.grant).await.refresh, None, "the code is not spent");
    server.ask("web", &code.form).await.granted();
    server.stop().await;
}
