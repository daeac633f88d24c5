//! Status lists as resource servers see them: from the claim to the bit, over HTTP.

use std::io::Read as _;
use std::time::Duration;

use flate2::read::ZlibDecoder;
use pmp_auth::base::base64url;
use pmp_auth::config::settings::StatusLists;
use pmp_auth::storage::Engine;
use serde_json::{Value, json};

use crate::support::flow::{Form, SignedIn};
use crate::support::server::{Answer, SECRET, TENANTS, TestServer};

on_every_server! {
    a_revoked_token_is_revoked_in_its_list_and_no_other_is
    what_was_revoked_is_so_after_a_restart
    each_grant_gives_its_tokens_places
    a_list_is_a_document_that_caches_keep
    a_tenant_without_the_switch_knows_nothing_of_lists
}

async fn server(engine: Engine) -> TestServer {
    TestServer::configured(engine, TENANTS, |settings| {
        for (slug, tenant) in &mut settings.tenants {
            if slug.as_str() == "acme" {
                tenant.status_lists = Some(StatusLists { ttl: Duration::from_secs(30) });
            }
        }
    })
    .await
}

/// The payload of a JWT, whoever signed it.
fn payload(jwt: &str) -> Value {
    let part = jwt.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&base64url::decode(part).unwrap()).expect("JSON")
}

/// Where the status of a token stands: list and index.
fn place(token: &str) -> (String, usize) {
    let status = payload(token)["status"]["status_list"].clone();
    let uri = status["uri"].as_str().unwrap_or_else(|| panic!("no status: {status}"));
    (uri.to_owned(), usize::try_from(status["idx"].as_u64().unwrap()).unwrap())
}

fn bit(list: &Value, index: usize) -> bool {
    assert_eq!(list["status_list"]["bits"], 1);
    let packed = base64url::decode(list["status_list"]["lst"].as_str().unwrap()).unwrap();
    let mut bits = Vec::new();
    ZlibDecoder::new(&packed[..]).read_to_end(&mut bits).unwrap();
    assert_eq!(bits.len(), 1 << 17);
    bits[index / 8] >> (index % 8) & 1 == 1
}

async fn is_revoked(server: &TestServer, token: &str) -> bool {
    let (uri, index) = place(token);
    let answer = server.get(&uri).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let list = payload(&answer.body);
    assert_eq!(list["sub"], uri);
    bit(&list, index)
}

async fn revoke(server: &TestServer, client: &str, token: &str) {
    let url = server.url("acme", "/revoke");
    let answer = server.post(&url, Some((client, SECRET)), &[("token", token)]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a token")
}

async fn a_revoked_token_is_revoked_in_its_list_and_no_other_is(engine: Engine) {
    let server = server(engine).await;
    let alice = SignedIn::at(&server).await;
    let machine = server.client_token("web").await;
    let other = server.client_token("web").await;
    let (tokens, grant) = alice.tokens(&server, "web").await;
    let access = text(&tokens["access_token"]);
    for token in [&machine[..], &other, access] {
        assert!(!is_revoked(&server, token).await);
    }
    assert_ne!(place(&machine).1, place(&other).1);
    revoke(&server, "web", &machine).await;
    assert!(is_revoked(&server, &machine).await);
    assert!(!is_revoked(&server, &other).await);
    revoke(&server, "web", text(&tokens["refresh_token"])).await;
    assert!(is_revoked(&server, access).await, "with its grant");
    assert!(!server.is_live(grant).await && !is_revoked(&server, &other).await);
    server.stop().await;
}

async fn what_was_revoked_is_so_after_a_restart(engine: Engine) {
    if engine == Engine::Memory {
        return; // its tokens die with the process
    }
    let server = server(engine).await;
    let (revoked, live) = (server.client_token("web").await, server.client_token("web").await);
    revoke(&server, "web", &revoked).await;
    let server = server.restart().await;
    assert!(is_revoked(&server, &revoked).await && !is_revoked(&server, &live).await);
    // A place that was given before is not given again.
    let next = server.client_token("web").await;
    assert!(![place(&revoked), place(&live)].contains(&place(&next)));
    server.stop().await;
}

async fn each_grant_gives_its_tokens_places(engine: Engine) {
    let server = server(engine).await;
    let alice = SignedIn::at(&server).await;
    let (tokens, _) = alice.tokens(&server, "web").await;
    let refreshed = server.ask("web", &Form::refresh(text(&tokens["refresh_token"]))).await;
    let refreshed = refreshed.granted();
    let (first, second) = (text(&tokens["access_token"]), text(&refreshed["access_token"]));
    assert_ne!(place(first), place(second));
    assert_eq!(place(first).0, place(second).0, "they end in the same hour");
    let told = server.introspect("api", &refreshed["access_token"]).await;
    let (uri, idx) = place(second);
    assert_eq!(told["status"], json!({ "status_list": { "idx": idx, "uri": uri } }));
    // A refresh token that is used again takes the whole family along.
    server.advance(Duration::from_hours(1)).await;
    let third =
        server.ask("web", &Form::refresh(text(&refreshed["refresh_token"]))).await.granted();
    let again = server.ask("web", &Form::refresh(text(&tokens["refresh_token"]))).await;
    again.is_refusal(400, "invalid_grant");
    assert!(is_revoked(&server, text(&third["access_token"])).await);
    server.advance(Duration::from_hours(1)).await;
    assert_eq!(server.get(&uri).await.status, 404, "nothing of that hour lives");
    server.stop().await;
}

async fn ask(server: &TestServer, uri: &str, header: (&str, &str)) -> Answer {
    let asked = server.http.get(uri).header(header.0, header.1).send().await.expect("an answer");
    Answer::of(asked).await
}

async fn a_list_is_a_document_that_caches_keep(engine: Engine) {
    let server = server(engine).await;
    let token = server.client_token("web").await;
    let (uri, _) = place(&token);
    let list = server.get(&uri).await;
    assert_eq!(list.header("content-type"), "application/statuslist+jwt");
    assert_eq!(list.header("cache-control"), "public, max-age=30");
    assert_eq!(list.header("access-control-allow-origin"), "*");
    let header = base64url::decode(list.body.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!((&header["typ"], &header["alg"]), (&json!("statuslist+jwt"), &json!("ES256")));
    let keys = server.get(&server.url("acme", "/jwks.json")).await.json();
    assert!(keys["keys"].as_array().unwrap().iter().any(|key| key["kid"] == header["kid"]));

    let tag = list.header("etag").to_owned();
    let same = ask(&server, &uri, ("if-none-match", &tag)).await;
    assert_eq!((same.status, same.body.as_str(), same.header("etag")), (304, "", tag.as_str()));
    let packed = ask(&server, &uri, ("accept-encoding", "gzip")).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    revoke(&server, "web", &token).await;
    let other = ask(&server, &uri, ("if-none-match", &tag)).await;
    assert_eq!(other.status, 200, "it changed");
    assert_ne!(other.header("etag"), tag);

    let metadata =
        server.get(&server.url("acme", "/.well-known/openid-configuration")).await.json();
    let endpoint = server.url("acme", "/statuslists");
    assert_eq!(metadata["status_list_aggregation_endpoint"], endpoint);
    assert_eq!(server.get(&endpoint).await.json(), json!({ "status_lists": [uri] }));
    for wrong in ["x", "AAAAAAAAAAAAAAAAAAAAAA", "..%2F"] {
        assert_eq!(server.get(&format!("{endpoint}/{wrong}")).await.status, 404, "{wrong}");
    }
    let elsewhere = uri.replace("/t/acme/", "/t/other/");
    assert_eq!(server.get(&elsewhere).await.status, 404);
    server.stop().await;
}

async fn a_tenant_without_the_switch_knows_nothing_of_lists(engine: Engine) {
    let server = TestServer::start(engine).await;
    let token = server.client_token("web").await;
    assert_eq!(payload(&token).get("status"), None);
    assert_eq!(server.get(&server.url("acme", "/statuslists")).await.status, 404);
    let metadata =
        server.get(&server.url("acme", "/.well-known/openid-configuration")).await.json();
    assert_eq!(metadata.get("status_list_aggregation_endpoint"), None);
    server.stop().await;
}
