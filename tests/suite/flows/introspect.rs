//! The forms in which introspection answers.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use pmp_auth::base::Clock as _;
use pmp_auth::storage::Engine;
use serde_json::{Value, json};

use crate::support::flow::{Form, SignedIn};
use crate::support::server::{API, Answer, SECRET, TENANTS, TestServer};

on_every_server! {
    several_tokens_are_told_of_in_order_each_as_if_alone
}

const SIGNED: &str = "application/token-introspection+jwt";

async fn asked(server: &TestServer, accept: &str, form: &[(&str, &str)]) -> Answer {
    let request = server.http.post(server.url("acme", "/introspect")).form(form);
    let request = request.basic_auth("api", Some(SECRET)).header("accept", accept);
    Answer::of(request.send().await.expect("an answer")).await
}

async fn several_tokens_are_told_of_in_order_each_as_if_alone(engine: Engine) {
    let server = TestServer::start(engine).await;
    let (jwt, opaque) = (server.client_token("web").await, server.client_token("opaque").await);
    let form = Form::of("client_credentials").with("resource", "https://files.acme.example");
    let files = server.ask("web", &form).await.granted()["access_token"].clone();
    let files = files.as_str().unwrap();
    let tokens = format!("{jwt} x {opaque} {files} {jwt}");
    let answer = asked(&server, SIGNED, &[("tokens", &tokens)]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("cache-control"), "no-store");
    let told = answer.json();
    let told = told["tokens"].as_array().unwrap();
    let inactive = json!({"active": false});
    let alone = async |token: &str| server.introspect("api", &token.into()).await;
    let expected =
        [alone(&jwt).await, inactive.clone(), alone(&opaque).await, inactive, alone(&jwt).await];
    assert_eq!(told, &expected);
    assert_eq!((&told[0]["active"], &told[2]["active"]), (&json!(true), &json!(true)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_tokens_are_the_most_and_the_same_one_is_looked_up_once() {
    let server = TestServer::start(Engine::Sqlite).await;
    let opaque = server.client_token("opaque").await;
    let url = server.url("acme", "/introspect");
    let many = |count: usize| vec![opaque.as_str(); count].join(" ");
    let before = server.app.metrics.render();
    let answer = asked(&server, "", &[("tokens", &many(100))]).await;
    assert_eq!(answer.json()["tokens"].as_array().unwrap().len(), 100);
    let after = server.app.metrics.render();
    let statements = |page: &str| -> u64 {
        let line = page.lines().find(|line| line.starts_with("pmp_auth_db_statements_total"));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    };
    assert!(statements(&after) - statements(&before) < 20, "not one for each");
    for form in [
        vec![("tokens", many(101))],
        vec![("tokens", " ".to_owned())],
        vec![("tokens", many(1)), ("token", opaque.clone())],
    ] {
        let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        server.post(&url, Some(("api", SECRET)), &form).await.is_refusal(400, "invalid_request");
    }
    // As many tokens as that do not fit into other forms.
    let long = vec!["x".repeat(2_000); 100].join(" ");
    assert_eq!(asked(&server, "", &[("tokens", &long)]).await.status, 200);
    server.post(&url, None, &[("tokens", &opaque)]).await.is_refusal(401, "invalid_client");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_counts_as_one() {
    let server = TestServer::configured(Engine::Memory, TENANTS, |settings| {
        settings.tenants.values_mut().for_each(|tenant| tenant.introspection_rate = 2);
    })
    .await;
    assert_eq!(asked(&server, "", &[("tokens", "a b c d e f g h")]).await.status, 200);
    let answer = asked(&server, "", &[("tokens", "a b c")]).await;
    assert_eq!(answer.status, 429, "{}", answer.body);
    assert!(!answer.header("retry-after").is_empty());
}

/// What a signed answer says, checked as the resource server would.
async fn signed_claims(server: &TestServer, answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.header("content-type")), (200, SIGNED), "{}", answer.body);
    let header = jsonwebtoken::decode_header(&answer.body).unwrap();
    assert_eq!(header.typ.as_deref(), Some("token-introspection+jwt"));
    let keys = server.get(&server.url("acme", "/jwks.json")).await.json();
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys).unwrap();
    let key = keys.find(header.kid.as_deref().unwrap()).expect("a published key");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&[server.issuer("acme")]);
    validation.set_audience(&["api"]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    let key = DecodingKey::from_jwk(key).unwrap();
    jsonwebtoken::decode(&answer.body, &key, &validation).unwrap().claims
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_signed_for_its_caller_who_asks_for_that() {
    let server = TestServer::start(Engine::Memory).await;
    let (tokens, _) = SignedIn::at(&server).await.tokens(&server, "web").await;
    let token = tokens["access_token"].as_str().unwrap();
    let claims = signed_claims(&server, &asked(&server, SIGNED, &[("token", token)]).await).await;
    let mut names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["aud", "iat", "iss", "token_introspection"]);
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(server.issuer("acme")), &json!("api")));
    assert_eq!(claims["iat"], server.clock.now().seconds());
    let plain = server.introspect("api", &tokens["access_token"]).await;
    assert_eq!((&claims["token_introspection"], &plain["active"]), (&plain, &json!(true)));

    let nothing = asked(&server, SIGNED, &[("token", "x")]).await;
    let nothing = signed_claims(&server, &nothing).await;
    assert_eq!(nothing["token_introspection"], json!({"active": false}));
    // RFC 9701 §8.1: it is no access token, whoever presents it.
    let answer = asked(&server, SIGNED, &[("token", token)]).await;
    assert!(!server.is_active("api", &answer.body.clone().into()).await);
    let userinfo = server.http.get(server.url("acme", "/userinfo")).bearer_auth(&answer.body);
    assert_eq!(userinfo.send().await.unwrap().status(), 401);

    let metadata =
        server.get(&server.url("acme", "/.well-known/openid-configuration")).await.json();
    let algs = metadata["introspection_signing_alg_values_supported"].as_array().unwrap().clone();
    assert!(algs.contains(&json!("RS256")), "{algs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_be_kept_as_long_as_policy_and_token_allow() {
    let yaml = TENANTS.replace(
        &format!("        audiences: [\"{API}\"]\n"),
        &format!("        audiences: [\"{API}\"]\n        introspection_cache: 30s\n"),
    );
    let server = TestServer::with(Engine::Memory, &yaml).await;
    let token = server.client_token("web").await;
    let kept = async |accept: &str, name: &str, value: &str| {
        asked(&server, accept, &[(name, value)]).await.header("cache-control").to_owned()
    };
    assert_eq!(kept("", "token", &token).await, "private, max-age=30");
    assert_eq!(kept(SIGNED, "token", &token).await, "private, max-age=30");
    assert_eq!(kept("", "tokens", &token).await, "private, max-age=30");
    assert_eq!(kept("", "tokens", &format!("{token} x")).await, "no-store");
    assert_eq!(kept("", "token", "x").await, "no-store");
    server.advance(Duration::from_secs(590)).await;
    assert_eq!(kept("", "token", &token).await, "private, max-age=10");
    // Its own client has no such policy.
    let (url, form) = (server.url("acme", "/introspect"), [("token", &*token)]);
    let own = server.post(&url, Some(("web", SECRET)), &form);
    assert_eq!(own.await.header("cache-control"), "no-store");
}
