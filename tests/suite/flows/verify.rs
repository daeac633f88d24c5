//! Forward authentication, as a proxy asks.

use std::time::Duration;

use pmp_auth::storage::Engine;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::flow::{Form, SignedIn};
use crate::support::server::{API, Answer, OTHER_SECRET, SECRET, TENANTS, TestServer};

on_every_server! {
    a_live_token_lets_through_and_says_whose_it_is
    a_revoked_token_is_refused_at_once
    an_api_key_is_as_good_as_a_token_until_it_is_revoked
}

const FILES: &str = "https://files.acme.example";

/// What a proxy is told about a token.
async fn asked(server: &TestServer, query: &str, token: &str, headers: &[(&str, &str)]) -> Answer {
    let url = server.url("acme", &format!("/verify{query}"));
    let mut request = server.http.get(url).bearer_auth(token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sent(request).await
}

async fn sent(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await.expect("an answer")).await
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

#[track_caller]
fn is_refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status, answer.error().as_str()), (status, error), "{}", answer.body);
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer realm=\"acme\", error=\""), "{challenge}");
    assert!(challenge.contains(&format!("error=\"{error}\"")), "{challenge}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("x-auth-")));
}

async fn a_live_token_lets_through_and_says_whose_it_is(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    for client in ["web", "opaque"] {
        let (tokens, _) = alice.tokens(&server, client).await;
        let answer = asked(&server, "", text(&tokens["access_token"]), &[]).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
        assert_eq!(answer.header("x-auth-subject"), alice.user.to_string());
        assert_eq!(answer.header("x-auth-client"), client);
        assert_eq!(answer.header("x-auth-scopes"), "openid orders:read offline_access");
        assert_eq!(answer.header("x-auth-audience"), API);
        assert_eq!(answer.header("x-auth-tenant"), "acme");
        let live = server.introspect("api", &tokens["access_token"]).await;
        assert_eq!(answer.header("x-auth-expires"), live["exp"].to_string());
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    server.stop().await;
}

async fn a_revoked_token_is_refused_at_once(engine: Engine) {
    let server = TestServer::start(engine).await;
    for client in ["web", "opaque"] {
        let token = server.client_token(client).await;
        assert_eq!(asked(&server, "", &token, &[]).await.status, 204);
        let form = [("token", &*token)];
        let url = server.url("acme", "/revoke");
        let revoked = server.post(&url, Some((client, SECRET)), &form);
        assert_eq!(revoked.await.status, 200);
        is_refused(&asked(&server, "", &token, &[]).await, 401, "invalid_token");
    }
    server.stop().await;
}

async fn an_api_key_is_as_good_as_a_token_until_it_is_revoked(engine: Engine) {
    let yaml =
        TENANTS.replacen("\"orders:write\"]\n", "\"orders:write\", \"api_keys:manage\"]\n", 1);
    let server = TestServer::with(engine, &yaml).await;
    let form = Form::of("client_credentials").with("scope", "orders:read api_keys:manage");
    let owner = server.ask("web", &form).await.granted()["access_token"].clone();
    let keys = server.url("acme", "/api-keys");
    let make = async |from: &str| {
        let wanted = json!({
            "name": "ci", "scopes": ["orders:read"], "audiences": [API],
            "expires_at": "2027-02-14T08:00:00Z", "allowed_ips": [from],
        });
        let request = server.http.post(&keys).bearer_auth(text(&owner)).json(&wanted);
        let made = sent(request).await;
        assert_eq!(made.status, 201, "{}", made.body);
        (text(&made.json()["id"]).to_owned(), text(&made.json()["key"]).to_owned())
    };
    let (id, key) = make("127.0.0.0/8").await;
    let answer = asked(&server, "?scope=orders:read", &key, &[]).await;
    assert_eq!((answer.status, answer.header("x-auth-subject")), (204, "web"), "{}", answer.body);
    assert_eq!(answer.header("x-auth-scopes"), "orders:read");
    is_refused(&asked(&server, "?scope=orders:write", &key, &[]).await, 403, "insufficient_scope");
    let elsewhere = format!("?audience={FILES}");
    is_refused(&asked(&server, &elsewhere, &key, &[]).await, 401, "invalid_token");
    let (_, foreign) = make("203.0.113.0/24").await;
    is_refused(&asked(&server, "", &foreign, &[]).await, 401, "invalid_token");
    let request = server.http.delete(format!("{keys}/{id}")).bearer_auth(text(&owner));
    assert_eq!(sent(request).await.status, 204);
    is_refused(&asked(&server, "", &key, &[]).await, 401, "invalid_token");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_token_is_challenged_and_told_nothing_else() {
    let server = TestServer::start(Engine::Memory).await;
    let url = server.url("acme", "/verify?scope=orders:read");
    for request in [server.http.get(&url), server.http.get(&url).basic_auth("web", Some(SECRET))] {
        let answer = sent(request).await;
        assert_eq!((answer.status, answer.error().as_str()), (401, ""));
        let metadata = server.url("acme", "/resources/");
        let challenge = answer.header("www-authenticate");
        let start =
            format!("Bearer realm=\"acme\", scope=\"orders:read\", resource_metadata=\"{metadata}");
        assert!(challenge.starts_with(&start), "{challenge}");
        let document =
            challenge.split("resource_metadata=\"").nth(1).unwrap().trim_end_matches('"');
        assert_eq!(server.get(document).await.json()["resource"], API);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_live_token_here_is_refused() {
    let server = TestServer::start(Engine::Memory).await;
    let own = server.client_token("web").await;
    let form = Form::of("client_credentials");
    let url = server.url("other", "/token");
    let pairs = form.pairs();
    let there = server.post(&url, Some(("web", OTHER_SECRET)), &pairs);
    let foreign = there.await.granted()["access_token"].clone();
    for token in ["x", "a.b.c", "pmp_at_x", "pak_x", text(&foreign), &format!("{own}x")] {
        is_refused(&asked(&server, "", token, &[]).await, 401, "invalid_token");
    }
    let (tokens, _) = SignedIn::at(&server).await.tokens(&server, "web").await;
    for other in ["refresh_token", "id_token"] {
        let answer = asked(&server, "", text(&tokens[other]), &[]).await;
        is_refused(&answer, 401, "invalid_token");
    }
    let twice = server.http.get(server.url("acme", "/verify")).bearer_auth(&own).bearer_auth(&own);
    is_refused(&sent(twice).await, 401, "invalid_request");
    let in_query = server.get(&server.url("acme", &format!("/verify?access_token={own}"))).await;
    is_refused(&in_query, 401, "invalid_request");
    server.advance(Duration::from_secs(601)).await;
    is_refused(&asked(&server, "", &own, &[]).await, 401, "invalid_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scope_must_go_as_far_as_the_proxy_says() {
    let server = TestServer::start(Engine::Memory).await;
    let form = Form::of("client_credentials").with("scope", "orders:read");
    let token = server.ask("web", &form).await.granted()["access_token"].clone();
    let token = text(&token);
    assert_eq!(asked(&server, "?scope=orders:read", token, &[]).await.status, 204);
    assert_eq!(asked(&server, "", token, &[("x-required-scope", "orders:read")]).await.status, 204);
    let both = "orders:read orders:write";
    for (query, header) in [
        ("?scope=orders:read+orders:write", ""),
        ("", both),
        // A header asks for more than the address, never for less.
        ("?scope=orders:write", "orders:read"),
        ("?scope=orders:read", "orders:write"),
    ] {
        let answer = asked(&server, query, token, &[("x-required-scope", header)]).await;
        is_refused(&answer, 403, "insufficient_scope");
        assert!(answer.header("www-authenticate").contains("orders:write"));
    }
    let wrong = asked(&server, "?scope=%22", token, &[]).await;
    assert_eq!((wrong.status, wrong.error().as_str()), (400, "invalid_request"));
    assert_eq!(asked(&server, "?scope=a&scope=b", token, &[]).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_audience_is_refused_whatever_the_client_says() {
    let server = TestServer::start(Engine::Memory).await;
    let form = Form::of("client_credentials").with("resource", FILES);
    let files = server.ask("web", &form).await.granted()["access_token"].clone();
    let files = text(&files);
    is_refused(&asked(&server, "", files, &[]).await, 401, "invalid_token");
    assert_eq!(asked(&server, &format!("?audience={FILES}"), files, &[]).await.status, 204);
    assert_eq!(asked(&server, "", files, &[("x-audience", FILES)]).await.status, 204);
    let claimed =
        asked(&server, &format!("?audience={API}"), files, &[("x-audience", FILES)]).await;
    is_refused(&claimed, 401, "invalid_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_answered_alike_and_trace_is_not() {
    let server = TestServer::start(Engine::Memory).await;
    let token = server.client_token("web").await;
    let url = server.url("acme", "/verify");
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let request = |token: &str| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = server.http.request(method, &url).bearer_auth(token);
            request.header("content-encoding", "gzip").header("x-forwarded-method", "DELETE")
        };
        let answer = sent(request(&token)).await;
        assert_eq!((answer.status, answer.header("x-auth-client")), (204, "web"), "{method}");
        assert_eq!(sent(request("x")).await.status, 401, "{method}");
    }
    let trace = server.http.request(Method::TRACE, &url).bearer_auth(&token);
    assert_eq!(sent(trace).await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_know_says_so() {
    let strict = TENANTS.replace("    name: Acme\n", "    name: Acme\n    revocation: strict\n");
    let server = TestServer::with(Engine::Sqlite, &strict).await;
    let token = server.client_token("web").await;
    assert_eq!(asked(&server, "", &token, &[]).await.status, 204);
    server.app.store.close().await;
    let answer = asked(&server, "", &token, &[]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{}", answer.body);
    assert!(!answer.headers.contains_key("www-authenticate"));
}
