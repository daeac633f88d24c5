//! Protected resource metadata (RFC 9728).

use pmp_auth::storage::Engine;
use serde_json::json;

use crate::support::server::{Answer, TestServer};

const TENANTS: &str = r#"
tenants:
  acme:
    scopes: [openid, offline_access, "orders:read", "orders:write", files]
    resources:
      - {uri: "https://api.example/orders", name: Orders API, scopes: ["orders:read", "orders:write"]}
      - https://files.example
      - https://both.example
    default_resource: https://files.example
  other:
    resources: [https://both.example]
"#;

async fn at_host(server: &TestServer, host: &str, path: &str) -> Answer {
    let url = format!("{}/.well-known/oauth-protected-resource{path}", server.base);
    Answer::of(server.http.get(url).header("host", host).send().await.expect("an answer")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_described_at_its_own_host_and_below_the_issuer() {
    let server = TestServer::with(Engine::Memory, TENANTS).await;
    let answer = at_host(&server, "api.example", "/orders").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    assert_eq!(
        answer.json(),
        json!({
            "resource": "https://api.example/orders",
            "authorization_servers": [server.issuer("acme")],
            "scopes_supported": ["orders:read", "orders:write"],
            "bearer_methods_supported": ["header"],
            "resource_name": "Orders API",
        })
    );
    let list = server.get(&server.url("acme", "/resources")).await.json();
    let list = list["resources"].as_array().unwrap().clone();
    assert_eq!(list.len(), 3);
    let url = list[0]["resource_metadata"].as_str().unwrap();
    let below = server.get(url).await;
    assert_eq!(
        (below.body.as_str(), below.header("access-control-allow-origin")),
        (&*answer.body, "*")
    );
    // What has no scopes of its own has all that are not about users.
    let files = at_host(&server, "files.example", "").await.json();
    assert_eq!(files["scopes_supported"], json!(["orders:read", "orders:write", "files"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_described_at_an_address_that_is_not_the_resources_own() {
    let server = TestServer::with(Engine::Memory, TENANTS).await;
    for (host, path) in [
        ("api.example", ""),
        ("api.example", "/orders/x"),
        ("api.example:8443", "/orders"),
        ("evil.example", "/orders"),
        // Two tenants have it, and neither may speak for the other.
        ("both.example", ""),
    ] {
        assert_eq!(at_host(&server, host, path).await.status, 404, "{host}{path}");
    }
    let both = server.get(&server.url("acme", "/resources")).await.json();
    let both = both["resources"][2]["resource_metadata"].as_str().unwrap().to_owned();
    assert_eq!(
        server.get(&both).await.json()["authorization_servers"],
        json!([server.issuer("acme")])
    );
    assert_eq!(server.get(&both.replace("/acme/", "/other/")).await.status, 200, "its own view");
    assert_eq!(server.get(&server.url("acme", "/resources/AAAA")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_tokens_are_for_is_a_resource_and_discovery_names_them() {
    let server = TestServer::with(Engine::Memory, TENANTS).await;
    let host = server.base.trim_start_matches("http://").to_owned();
    let own = at_host(&server, &host, "/t/other").await;
    assert_eq!((own.status, &own.json()["resource"]), (200, &json!(server.issuer("other"))));
    assert_eq!(at_host(&server, &host, "/t/acme").await.status, 404);
    let metadata = server.get(&server.url("acme", "/.well-known/oauth-authorization-server")).await;
    let named = ["https://api.example/orders", "https://files.example", "https://both.example"];
    assert_eq!(metadata.json()["protected_resources"], json!(named));
}
