//! Cases of tenants: what one has is nothing at another.

use std::time::Duration;

use pmp_auth::base::CredentialKind;
use pmp_auth::model::{Audit, TenantSlug};
use pmp_auth::storage::{Change, ChangeTenant, Engine};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api_keys::{EXCHANGE, KEY_TYPE};
use crate::support::browser::{Asking, Browser, VERIFIER, callback};
use crate::support::server::{Answer, OTHER_SECRET, PASSWORD, SECRET, TestServer};

on_every_server! {
    sec_tenant_02
    sec_tenant_05
    sec_tenant_14
    sec_tenant_17
    sec_tenant_24
}

/// Tokens of alice for client `web` at a tenant.
pub(super) async fn tokens(server: &TestServer, tenant: &str, browser: &Browser) -> Value {
    let request = Asking::of("web").with("scope", "openid email offline_access");
    let page = browser.open(request.at(&server.issuer(tenant))).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    let page = browser.decide(&page, "allow").await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &page.sent("code").expect("a code")),
        ("redirect_uri", callback("web")),
        ("code_verifier", VERIFIER),
    ];
    let answer = post(server, tenant, "/token", "web", &form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn secret(tenant: &str) -> &'static str {
    if tenant == "acme" { SECRET } else { OTHER_SECRET }
}

async fn post(
    server: &TestServer,
    tenant: &str,
    path: &str,
    client: &str,
    form: &[(&str, &str)],
) -> Answer {
    server.post(&server.url(tenant, path), Some((client, secret(tenant))), form).await
}

async fn userinfo(server: &TestServer, tenant: &str, token: &Value) -> u16 {
    let url = server.url(tenant, "/userinfo");
    let request = server.http.get(url).bearer_auth(token.as_str().expect("a token"));
    request.send().await.expect("an answer").status().as_u16()
}

async fn introspect(server: &TestServer, tenant: &str, token: &Value) -> Value {
    let token = token.as_str().expect("a token");
    post(server, tenant, "/introspect", "web", &[("token", token)]).await.json()
}

async fn sec_tenant_02(engine: Engine) {
    let server = TestServer::start(engine).await;
    let tokens = tokens(&server, "acme", &Browser::new()).await;
    for token in [&tokens["access_token"], &tokens["refresh_token"]] {
        assert_eq!(introspect(&server, "other", token).await, json!({"active": false}));
    }
    assert_eq!(userinfo(&server, "other", &tokens["access_token"]).await, 401);
    assert_eq!(userinfo(&server, "acme", &tokens["access_token"]).await, 200);
    server.stop().await;
}

async fn sec_tenant_05(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let url = server.url("other", "/token");
    let form = [("grant_type", "client_credentials")];
    let foreign = server.post(&url, Some(("web", SECRET)), &form).await;
    let unknown = server.post(&url, Some(("nobody", SECRET)), &form).await;
    assert_eq!((foreign.status, foreign.error().as_str()), (401, "invalid_client"));
    assert_eq!((unknown.status, &unknown.body), (foreign.status, &foreign.body));
    assert_eq!(server.post(&url, Some(("web", OTHER_SECRET)), &form).await.status, 200);

    let (known, gone) = (server.key().await, server.key().await);
    let manager = server.manager().await;
    let rest = format!("/{}", gone.id);
    let revoked = server.keys(Method::DELETE, &rest, &manager, &Value::Null).await;
    assert_eq!(revoked.status, 204);
    let nobodys = CredentialKind::ApiKey.spell(&[7; 48]).reveal().clone();
    let mut told = Vec::new();
    for text in [&known.text, &gone.text, &nobodys] {
        let form =
            [("grant_type", EXCHANGE), ("subject_token", text), ("subject_token_type", KEY_TYPE)];
        let exchanged = server.post(&url, Some(("web", OTHER_SECRET)), &form).await;
        let introspect = server.url("other", "/introspect");
        let shown = server.post(&introspect, Some(("api", OTHER_SECRET)), &[("token", text)]).await;
        assert_eq!(exchanged.status, 400, "{}", exchanged.body);
        assert_eq!(shown.json(), json!({"active": false}));
        told.push((exchanged.body, exchanged.headers.len()));
    }
    assert_eq!((&told[0], &told[1]), (&told[1], &told[2]), "nobody learns whose key it is");
    assert!(server.key_is_live(&known.text).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_tenant_08() {
    let server = TestServer::start(Engine::Memory).await;
    let url = server.url("acme", "/.well-known/openid-configuration");
    let plain = server.get(&url).await;
    for (name, value) in [
        ("x-forwarded-host", "other.example"),
        ("x-forwarded-prefix", "/t/other"),
        ("x-tenant-id", "other"),
        ("x-original-url", "/t/other/.well-known/openid-configuration"),
        ("x-rewrite-url", "/t/other/.well-known/openid-configuration"),
        ("forwarded", "host=other.example;proto=https"),
        ("x-forwarded-proto", "https"),
    ] {
        let request = server.http.get(&url).header(name, value);
        let answer = Answer::of(request.send().await.expect("an answer")).await;
        assert_eq!((answer.status, &answer.body), (200, &plain.body), "{name}");
    }
    let request = server.http.get(&url).header("host", "other.example");
    let answer = Answer::of(request.send().await.expect("an answer")).await;
    assert!(answer.status == 200 || answer.status == 404 || answer.status == 421);
    assert!(!answer.body.contains("other.example"), "{}", answer.body);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_tenant_13() {
    let server = TestServer::start(Engine::Memory).await;
    let mut keys = Vec::new();
    for tenant in ["acme", "other"] {
        let set = server.get(&server.url(tenant, "/jwks.json")).await.json();
        let set = set["keys"].as_array().expect("keys").clone();
        assert!(set.len() >= 2, "ES256 and RS256");
        keys.extend(set);
    }
    for member in ["kid", "x", "n"] {
        let mut values: Vec<&str> = keys.iter().filter_map(|key| key[member].as_str()).collect();
        let count = values.len();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), count, "{member} is shared");
    }
    server.stop().await;
}

async fn sec_tenant_14(engine: Engine) {
    let server = TestServer::start(engine).await;
    let browser = Browser::new();
    let tokens = tokens(&server, "acme", &browser).await;
    let uid = server.tenant("acme").uid.clone();
    let audit = Audit::default();
    let now = pmp_auth::base::Clock::now(&server.clock);
    let change = Change { now, not_after: now.plus(Duration::from_hours(24)), audit: &audit };
    assert_eq!(
        server.app.store.suspend_tenant(&uid, &change).await.unwrap(),
        ChangeTenant::Changed
    );
    server.settle().await;
    for path in ["/jwks.json", "/authorize", "/.well-known/openid-configuration", "/userinfo"] {
        assert_eq!(server.get(&server.url("acme", path)).await.status, 404, "{path}");
    }
    assert_eq!(
        introspect(&server, "other", &tokens["access_token"]).await,
        json!({"active": false})
    );
    assert_eq!(server.get(&server.url("other", "/jwks.json")).await.status, 200);

    // Serving again revives nothing that was issued before.
    server.advance(Duration::from_secs(30)).await;
    let now = pmp_auth::base::Clock::now(&server.clock);
    let outcome = server.app.store.resume_tenant(&uid, now, &audit).await.unwrap();
    assert_eq!(outcome, ChangeTenant::Changed);
    server.settle().await;
    assert_eq!(
        introspect(&server, "acme", &tokens["access_token"]).await,
        json!({"active": false})
    );
    assert_eq!(userinfo(&server, "acme", &tokens["access_token"]).await, 401);

    let change = Change { now, ..change };
    assert_eq!(server.app.store.delete_tenant(&uid, &change).await.unwrap(), ChangeTenant::Changed);
    server.settle().await;
    for path in ["/jwks.json", "/authorize", "/.well-known/openid-configuration"] {
        assert_eq!(server.get(&server.url("acme", path)).await.status, 404, "{path}");
    }
    let form = [("grant_type", "client_credentials")];
    assert_eq!(post(&server, "acme", "/token", "web", &form).await.status, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_tenant_15_on_sqlite() {
    sec_tenant_15(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_tenant_15_on_postgres() {
    sec_tenant_15(Engine::Postgres).await;
}

async fn sec_tenant_15(engine: Engine) {
    let server = TestServer::start(engine).await;
    let tokens = tokens(&server, "acme", &Browser::new()).await;
    let old = server.tenant("acme").uid.clone();
    let keys = server.get(&server.url("acme", "/jwks.json")).await.body;
    let audit = Audit::default();
    let now = pmp_auth::base::Clock::now(&server.clock);
    let change = Change { now, not_after: now.plus(Duration::from_hours(24)), audit: &audit };
    let _ = server.app.store.delete_tenant(&old, &change).await.unwrap();
    let server = server.restart().await;
    server.advance(Duration::from_mins(1)).await;

    let slug = TenantSlug::parse("acme").unwrap();
    let new = server.app.store.find_tenant(&slug).await.unwrap().expect("made anew").uid;
    assert_ne!(new, old, "the slug is only a label");
    assert_ne!(server.get(&server.url("acme", "/jwks.json")).await.body, keys);
    for token in [&tokens["access_token"], &tokens["refresh_token"]] {
        assert_eq!(introspect(&server, "acme", token).await, json!({"active": false}));
    }
    assert_eq!(userinfo(&server, "acme", &tokens["access_token"]).await, 401);
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let answer = post(&server, "acme", "/token", "web", &form).await;
    assert_eq!((answer.status, answer.error().as_str()), (400, "invalid_grant"));
    server.stop().await;
}

async fn sec_tenant_17(engine: Engine) {
    let server = TestServer::start(engine).await;
    let form = [("grant_type", "client_credentials")];
    for round in 0..50 {
        let tenant = if round % 2 == 0 { "acme" } else { "other" };
        let answer = post(&server, tenant, "/token", "web", &form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let token = answer.json()["access_token"].clone();
        let live = introspect(&server, tenant, &token).await;
        assert_eq!(live["iss"], server.issuer(tenant), "{live}");
        let foreign = if tenant == "acme" { "other" } else { "acme" };
        assert_eq!(introspect(&server, foreign, &token).await, json!({"active": false}));
    }
    server.stop().await;
}

async fn sec_tenant_24(engine: Engine) {
    let server = TestServer::start(engine).await;
    let (acme, other) = (server.tenant("acme"), server.tenant("other"));
    let now = pmp_auth::base::Clock::now(&server.clock);
    let until = now.plus(Duration::from_mins(1));
    for tenant in [&acme, &other] {
        let seen = tenant.store.remember_jti("assertion", &[7; 32], until, now).await.unwrap();
        assert_eq!(seen, pmp_auth::storage::RememberJti::Fresh);
        let id = pmp_auth::base::Digest::of(b"the same id");
        tenant.store.push_request(&id, tenant.slug.as_str(), until, now).await.unwrap();
    }
    let id = pmp_auth::base::Digest::of(b"the same id");
    for tenant in [&acme, &other] {
        let taken = tenant.store.take_request(&id, now).await.unwrap();
        let own = pmp_auth::storage::TakePushed::Taken(tenant.slug.to_string());
        assert_eq!(taken, own);
    }
    // Both have a user `alice` and a client `web`; each gets its own.
    let at_acme = tokens(&server, "acme", &Browser::new()).await;
    let at_other = tokens(&server, "other", &Browser::new()).await;
    let subject = |live: Value| live["sub"].as_str().expect("a subject").to_owned();
    let one = subject(introspect(&server, "acme", &at_acme["access_token"]).await);
    let two = subject(introspect(&server, "other", &at_other["access_token"]).await);
    assert_ne!(one, two);
    server.stop().await;
}
