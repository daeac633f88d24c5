//! Cases of the device's side of the device flow.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use pmp_auth::base::{CredentialKind, base64url};
use pmp_auth::config::{self, Environment};
use pmp_auth::model::Action;
use pmp_auth::model::device::DeviceStatus;
use pmp_auth::storage::Engine;
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::device::{DEVICE_GRANT, Device};
use crate::support::flow::{Form, SignedIn};
use crate::support::race::{RACERS, race};
use crate::support::server::{API, PASSWORD, SECRET, TestServer};
use crate::support::temp::TempDir;

on_every_server! {
    sec_device_04
    sec_device_09
    sec_device_10
    sec_device_11
}

#[tokio::test]
async fn sec_device_02() {
    let server = TestServer::start(Engine::Memory).await;
    let endpoint = server.url("acme", "/device_authorization");
    let unknown = CredentialKind::DeviceCode.generate(&pmp_auth::base::SystemEntropy);
    for client in ["web", "post", "native", "api"] {
        let (basic, body) = match client {
            "web" | "api" => (Some((client, SECRET)), vec![]),
            "post" => (None, vec![("client_id", client), ("client_secret", SECRET)]),
            _ => (None, vec![("client_id", client)]),
        };
        server.post(&endpoint, basic, &body).await.is_refusal(400, "unauthorized_client");
        let poll = Form::of(DEVICE_GRANT).with("device_code", unknown.reveal());
        server.ask(client, &poll).await.is_refusal(400, "unauthorized_client");
    }
    assert_eq!(server.times(Action::DeviceRequested).await, 0);
    Device::of(&server, "tv").await;
    server.stop().await;
}

#[tokio::test]
async fn sec_device_03() {
    let server = TestServer::start(Engine::Memory).await;
    let (mut codes, mut letters) = (HashSet::new(), BTreeSet::new());
    for _ in 0..50 {
        let answer = server.device_authorization("tv", &[("scope", "openid")]).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
        assert_eq!(answer.header("content-type"), "application/json");
        let told = answer.json();
        let members: Vec<&String> = told.as_object().unwrap().keys().collect();
        assert_eq!(
            members,
            [
                "device_code",
                "expires_in",
                "interval",
                "user_code",
                "verification_uri",
                "verification_uri_complete"
            ]
        );
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        // 256 bits of chance, and none of them twice.
        let random = CredentialKind::DeviceCode.parse(&text("device_code"), 32).unwrap();
        assert_eq!(random.len(), 32);
        assert!(codes.insert(random));
        let code = text("user_code");
        let (first, second) = code.split_once('-').unwrap();
        assert_eq!((first.len(), second.len()), (4, 4));
        letters.extend(code.replace('-', "").chars());
        assert!(told["expires_in"].as_u64().unwrap() <= 600);
        assert_eq!(told["interval"], 5);
        assert!(text("verification_uri_complete").ends_with(&code));
    }
    // 20⁸ codes: more than 34 bits. Each letter is missing from 400 once in 10⁹ times.
    assert_eq!(letters.iter().collect::<String>(), "BCDFGHJKLMNPQRSTVWXZ");
    server.stop().await;
    // The address is https wherever a browser would not believe http.
    let dir = TempDir::new();
    let key = dir.path().join("key");
    std::fs::write(&key, SECRET).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let configured = |public_url: &str| {
        let text = format!(
            "server:\n  public_url: {public_url}\n  secret_keys: [{{id: 1, secret_file: {}}}]\n\
             tenants:\n  acme:\n    clients:\n      - {{client_id: tv, type: public, grants: [device_code]}}\n",
            key.display()
        );
        config::parse("test.yaml", dir.path(), &text, &Environment::empty())
    };
    let settings = configured("https://id.example.com").unwrap();
    for tenant in settings.tenants.values() {
        assert_eq!(tenant.device.verification_uri, "https://id.example.com/device");
    }
    let faults = format!("{:?}", configured("http://id.example.com").unwrap_err());
    assert!(faults.contains("server.public_url"), "{faults}");
}

async fn sec_device_04(engine: Engine) {
    let server = TestServer::start(engine).await;
    let (browser, tv) = (Browser::new(), Device::of(&server, "tv").await);
    let pending = async || {
        let answer = tv.poll(&server).await;
        answer.is_refusal(400, "authorization_pending");
        server.clock.advance(Duration::from_secs(5));
    };
    pending().await;
    // Nothing but Allow changes that.
    let card = browser.enter(&server, &tv.user_code).await;
    pending().await;
    let login = browser.decide(&card, "continue").await;
    pending().await;
    let page = browser.sign_in(&login, "alice", PASSWORD).await;
    pending().await;
    assert_eq!(tv.record(&server).await.status, DeviceStatus::Pending);
    browser.decide(&page, "allow").await;
    tv.poll(&server).await.granted();
    server.stop().await;
}

async fn sec_device_09(engine: Engine) {
    let server = Arc::new(TestServer::start(engine).await);
    let alice = SignedIn::at(&server).await;
    for client in ["tv", "settop"] {
        let device = Device::of(&server, client).await;
        let grant = device.approve(&server, &alice).await;
        let answers = race(RACERS, |_| {
            let (server, device) = (Arc::clone(&server), device.clone());
            async move { device.poll(&server).await }
        })
        .await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|one| one.status == 200);
        assert_eq!(won.len(), 1, "one token set");
        for answer in lost {
            answer.is_refusal(400, "invalid_grant");
        }
        server.clock.advance(Duration::from_secs(30));
        device.poll(&server).await.is_refusal(400, "invalid_grant");
        // A second poll is no theft: an answer may have been lost.
        let tokens = won[0].granted();
        assert!(server.is_active("api", &tokens["access_token"]).await);
        assert_eq!(server.grant(grant).await.refresh.expect("a family").head, 1);
        let refresh = Form::refresh(tokens["refresh_token"].as_str().unwrap());
        server.ask(client, &refresh).await.granted();
    }
    assert_eq!(server.times(Action::DeviceRedeemed).await, 2);
    if engine != Engine::Memory {
        assert_eq!(server.place.sql("SELECT count(*) FROM grants").await, ["2"]);
    }
    Arc::into_inner(server).expect("nobody else holds it").stop().await;
}

async fn sec_device_10(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    for (own, other) in [("tv", "settop"), ("settop", "tv")] {
        let device = Device::of(&server, own).await;
        let stolen = Device { client: other, ..device.clone() };
        device.poll(&server).await.is_refusal(400, "authorization_pending");
        // Whoever else has the code neither learns anything nor slows its owner down.
        for _ in 0..5 {
            stolen.poll(&server).await.is_refusal(400, "invalid_grant");
        }
        stolen.wait(&server, 5).await.is_refusal(400, "invalid_grant");
        server.clock.advance(Duration::from_secs(5));
        device.poll(&server).await.is_refusal(400, "authorization_pending");
        assert_eq!(device.record(&server).await.interval, Duration::from_secs(5));
        let grant = device.approve(&server, &alice).await;
        for _ in 0..3 {
            stolen.poll(&server).await.is_refusal(400, "invalid_grant");
        }
        assert!(server.is_live(grant).await);
        let tokens = device.poll(&server).await.granted();
        stolen.poll(&server).await.is_refusal(400, "invalid_grant");
        assert!(server.is_active("api", &tokens["access_token"]).await);
    }
    assert_eq!(server.times(Action::DeviceRedeemed).await, 2);
    server.stop().await;
}

fn claims(token: &Value) -> Value {
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64url::decode(payload).unwrap()).unwrap()
}

async fn sec_device_11(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    let asked = [("scope", "orders:read offline_access")];
    let device = Device::asking(&server, "tv", &asked).await;
    let grant = device.approve(&server, &alice).await;
    let wider = device.form.clone().with("scope", "admin orders:write orders:read openid email");
    let tokens = server.ask("tv", &wider).await.granted();
    assert_eq!(tokens["scope"], "orders:read offline_access");
    assert!(tokens.get("id_token").is_none(), "{tokens}");
    let access = claims(&tokens["access_token"]);
    assert_eq!((&access["scope"], &access["aud"]), (&tokens["scope"], &json!(API)));
    assert_eq!(server.grant(grant).await.terms.scope.to_string(), "orders:read offline_access");
    // Nor does it come by refreshing.
    let refresh = Form::refresh(tokens["refresh_token"].as_str().unwrap());
    let more = refresh.clone().with("scope", "orders:read email");
    server.ask("tv", &more).await.is_refusal(400, "invalid_scope");
    assert_eq!(server.ask("tv", &refresh).await.granted()["scope"], tokens["scope"]);
    server.stop().await;
}

#[tokio::test]
async fn sec_device_22() {
    let server = TestServer::start(Engine::Memory).await;
    // 10,000 within the life of a code, by one who never waits when told to.
    let mut live = HashSet::new();
    let mut refused = 0;
    for second in 0..600 {
        let calls = if second == 0 { 16 + 400 } else { 16 };
        for _ in 0..calls {
            match server.decide_device("tv", "openid").await {
                Ok(told) => {
                    let code = told["user_code"].as_str().unwrap().to_owned();
                    assert!(live.insert(code), "two live codes are the same");
                }
                Err(error) => {
                    assert_eq!(
                        (error.status(), error.code().as_str()),
                        (429, "temporarily_unavailable")
                    );
                    refused += 1;
                }
            }
        }
        server.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(live.len() + refused, 10_000);
    // Ten a second, and five seconds' worth at once.
    assert!((6_000..=6_050).contains(&live.len()), "{}", live.len());
    let answer = loop {
        let answer = server.device_authorization("tv", &[]).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(answer.status, 429, "{}", answer.body);
    assert_eq!(answer.header("retry-after"), "1");
    // NS: others are served meanwhile, and so is it, a second later.
    Device::of(&server, "settop").await;
    server.clock.advance(Duration::from_secs(1));
    Device::of(&server, "tv").await;
    server.stop().await;
}
