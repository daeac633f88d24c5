use pmp_auth::storage::Engine;
use serde_json::json;

use crate::support::server::{TENANTS, TestServer};

#[tokio::test(flavor = "multi_thread")]
async fn discovery_is_the_same_bytes_at_all_four_addresses() {
    let server = TestServer::start(Engine::Memory).await;
    let mut documents = Vec::new();
    for path in [
        "/t/acme/.well-known/openid-configuration",
        "/t/acme/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration/t/acme",
        "/.well-known/oauth-authorization-server/t/acme",
    ] {
        let answer = server.get(&format!("{}{path}", server.base)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        assert_eq!(answer.header("cache-control"), "public, max-age=300", "{path}");
        documents.push(answer);
    }
    assert!(documents.iter().all(|other| other.body == documents[0].body));
    let document = documents[0].json();
    assert_eq!(document["issuer"], server.issuer("acme"));
    assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
    for (member, path) in [
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
        ("userinfo_endpoint", "/userinfo"),
        ("introspection_endpoint", "/introspect"),
        ("revocation_endpoint", "/revoke"),
        ("jwks_uri", "/jwks.json"),
        ("end_session_endpoint", "/logout"),
    ] {
        let address = document[member].as_str().unwrap();
        assert_eq!(address, server.url("acme", path));
        assert_ne!(server.get(address).await.status, 404, "{member} is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_its_own_host_is_described_there_alone() {
    let yaml = TENANTS.replace("name: Other", "name: Other\n    host: other.localhost");
    let server = TestServer::with(Engine::Memory, &yaml).await;
    let issuer = server.tenant("other").issuer().to_owned();
    let host = issuer.split_once("//").unwrap().1;
    let mut bodies = Vec::new();
    for name in ["openid-configuration", "oauth-authorization-server"] {
        let url = format!("{}/.well-known/{name}", server.base);
        let request = server.http.get(&url).header("host", host);
        let answer = crate::support::server::Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["issuer"], issuer);
        bodies.push(answer.body);
        let by_path = server.get(&format!("{}/t/other/.well-known/{name}", server.base)).await;
        assert_eq!(by_path.status, 404);
    }
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_set_has_public_keys_and_may_be_kept() {
    let server = TestServer::start(Engine::Memory).await;
    server.client_token("web").await;
    let answer = server.get(&server.url("acme", "/jwks.json")).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    let keys = answer.json();
    let keys = keys["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        assert!(key["kid"].is_string() && key["use"] == "sig" && key["alg"].is_string());
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{private}");
        }
    }
}
