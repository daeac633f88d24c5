//! Resource indicators (RFC 8707) at every grant: what is asked for is what the token is for, its
//! scope is cut to that, and nothing that was not granted can be had later.

use std::time::Duration;

use pmp_auth::storage::Engine;
use serde_json::Value;

use crate::support::browser::{Asking, Browser, VERIFIER, callback};
use crate::support::device::Device;
use crate::support::flow::{Form, SignedIn};
use crate::support::server::{API, PASSWORD, SECRET, TENANTS, TestServer};

on_every_server! { each_grant_takes_a_resource_and_cuts_the_scope_to_it }

const FILES: &str = "https://files.acme.example";
const ELSEWHERE: &str = "https://elsewhere.example";

/// Tokens for the files have no use for `orders:read`; the television may ask for either.
fn tenants() -> String {
    let both = format!("resources: [\"{API}\", \"{FILES}\"]");
    let yaml = TENANTS
        .replacen(
            &both,
            &format!("resources: [\"{API}\", {{uri: \"{FILES}\", scopes: [\"orders:write\"]}}]"),
            1,
        )
        .replace("        name: Acme TV\n", &format!("        name: Acme TV\n        {both}\n"));
    assert!(yaml.contains("{uri:") && yaml.matches(&both).count() == 2, "{yaml}");
    yaml
}

/// Audience and scope of the access token of an answer.
fn of(answer: &Value) -> (String, String) {
    let payload =
        answer["access_token"].as_str().expect("a token").split('.').nth(1).expect("a JWT");
    let payload = pmp_auth::base::base64url::decode(payload).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer["scope"].as_str().unwrap_or_default(), text("scope"));
    (text("aud"), text("scope"))
}

fn are(audience: &str, scope: &str) -> (String, String) {
    (audience.to_owned(), scope.to_owned())
}

async fn each_grant_takes_a_resource_and_cuts_the_scope_to_it(engine: Engine) {
    let server = TestServer::with(engine, &tenants()).await;
    for_a_client_itself(&server).await;
    for_a_code_and_its_refresh_tokens(&server).await;
    for_a_device_and_its_refresh_tokens(&server).await;
    server.stop().await;
}

async fn for_a_client_itself(server: &TestServer) {
    let form = Form::of("client_credentials").with("scope", "orders:read orders:write");
    let asked =
        async |resource: &str| server.ask("web", &form.clone().with("resource", resource)).await;
    assert_eq!(of(&asked(API).await.granted()), are(API, "orders:read orders:write"));
    assert_eq!(of(&asked(FILES).await.granted()), are(FILES, "orders:write"));
    asked(ELSEWHERE).await.is_refusal(400, "invalid_target");
    let two = form.with("resource", API).and("resource", FILES);
    server.ask("web", &two).await.is_refusal(400, "invalid_target");
}

async fn for_a_code_and_its_refresh_tokens(server: &TestServer) {
    let browser = Browser::new();
    let scope = "openid offline_access orders:read orders:write";
    let request =
        Asking::of("web").with("scope", scope).and("resource", API).and("resource", FILES);
    let page = browser.open(request.at(&server.issuer("acme"))).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    let code = browser.decide(&page, "allow").await.sent("code").expect("a code");
    let redeem = Form::of("authorization_code")
        .with("code", &code)
        .with("redirect_uri", callback("web"))
        .with("code_verifier", VERIFIER);
    // Two were granted; one token is for one of them.
    server.ask("web", &redeem).await.is_refusal(400, "invalid_target");
    server
        .ask("web", &redeem.clone().with("resource", ELSEWHERE))
        .await
        .is_refusal(400, "invalid_target");
    let files = server.ask("web", &redeem.with("resource", FILES)).await.granted();
    assert_eq!(of(&files), are(FILES, "openid offline_access orders:write"));
    let refresh = Form::refresh(files["refresh_token"].as_str().expect("a refresh token"));
    server
        .ask("web", &refresh.clone().with("resource", ELSEWHERE))
        .await
        .is_refusal(400, "invalid_target");
    let api = server.ask("web", &refresh.with("resource", API)).await.granted();
    assert_eq!(of(&api), are(API, scope), "the grant was not narrowed by the first token");
    let told = [("token", api["access_token"].as_str().expect("a token"))];
    let told =
        server.post(&server.url("acme", "/introspect"), Some(("api", SECRET)), &told).await.json();
    assert_eq!(told["aud"], API);
}

async fn for_a_device_and_its_refresh_tokens(server: &TestServer) {
    let alice = SignedIn::at(server).await;
    let scope = "openid offline_access orders:read";
    let form = [("scope", scope), ("resource", API), ("resource", FILES)];
    let device = Device::asking(server, "tv", &form).await;
    device.approve(server, &alice).await;
    let poll = async |resource: &str| {
        server.ask("tv", &device.form.clone().with("resource", resource)).await
    };
    poll(ELSEWHERE).await.is_refusal(400, "invalid_target");
    server.advance(Duration::from_secs(6)).await;
    let files = poll(FILES).await.granted();
    assert_eq!(of(&files), are(FILES, "openid offline_access"));
    let refresh = Form::refresh(files["refresh_token"].as_str().expect("a refresh token"));
    let api = server.ask("tv", &refresh.with("resource", API)).await.granted();
    assert_eq!(of(&api), are(API, scope));
}
