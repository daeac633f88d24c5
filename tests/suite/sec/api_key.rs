//! Cases of API keys. Where a case says 401, a key opens nothing: introspection calls it inactive and
//! nobody gets a token for it.

use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use pmp_auth::base::{Clock as _, CredentialKind, Secret, hex};
use pmp_auth::config::settings::RingKey;
use pmp_auth::config::{self, Environment};
use pmp_auth::keys::{PepperFault, Peppers};
use pmp_auth::storage::Engine;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api_keys::{Key, tenants, wanted, wanted_with};
use crate::support::flow::Form;
use crate::support::logs::Logs;
use crate::support::server::{Answer, PEPPER, SECRET, TestServer};

on_every_server! {
    sec_apikey_02
    sec_apikey_03
    sec_apikey_06
    sec_apikey_07
    sec_apikey_12
    sec_apikey_15
    sec_apikey_16
    a_node_does_not_start_with_other_peppers_than_the_stores
}
mod restart {
    use super::*;
    on_every_server!(@ sqlite, Sqlite, sec_apikey_04);
    on_every_server!(@ postgres, Postgres, sec_apikey_04);
}

pub(super) fn pepper(id: u8, secret: &str) -> RingKey {
    RingKey { id, secret: Secret::new(secret.as_bytes().to_vec()) }
}

const NEXT_PEPPER: &str = "Zr4Tg8Kd1Hs6Yf3Np5Jc0Gqb7Qm2xVw9L-e_Oa";

/// The id and the secret of a key.
fn payload(key: &Key) -> ([u8; 16], [u8; 32]) {
    let payload = CredentialKind::ApiKey.parse(&key.text, 48).unwrap();
    (payload[..16].try_into().unwrap(), payload[16..].try_into().unwrap())
}

fn spell(id: &[u8], secret: &[u8]) -> String {
    CredentialKind::ApiKey.spell(&[id, secret].concat()).reveal().clone()
}

async fn opens_nothing(server: &TestServer, text: &str) {
    assert!(!server.key_is_live(text).await, "{text}");
    server.exchange(text, &[]).await.is_refusal(400, "invalid_request");
}

async fn sec_apikey_02(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let (one, other) = (server.key().await, server.key().await);
    let text = &one.text;
    let swapped: String = text
        .chars()
        .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
        .collect();
    let last = text.chars().last().unwrap();
    let case =
        if last.is_lowercase() { last.to_ascii_uppercase() } else { last.to_ascii_lowercase() };
    let (of_one, of_other) = (payload(&one), payload(&other));
    let mut wrong = vec![
        text[..text.len() - 1].to_owned(),
        format!("{text}x"),
        format!("{text}="),
        format!("{text}{text}"),
        swapped,
        text.to_uppercase(),
        format!("{}{}", &one.text[..26], &other.text[26..]),
        spell(&of_one.0, &of_other.1),
        spell(&of_one.0, &[0; 32]),
        spell(&[0; 16], &of_one.1),
    ];
    if case != last {
        wrong.push(format!("{}{case}", &text[..text.len() - 1]));
    }
    for text in &wrong {
        opens_nothing(&server, text).await;
    }
    for key in [&one, &other] {
        assert!(server.key_is_live(&key.text).await);
    }
    server.stop().await;
}

async fn sec_apikey_03(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let key = server.key().await;
    let (pepper, stored) = server.stored(&key).await;
    let (id, secret) = payload(&key);

    // What is stored is an HMAC under the pepper, and the pepper is in no database.
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, PEPPER.as_bytes()));
    let uid = server.tenant("acme").uid.clone();
    for part in [b"api_key".as_slice(), uid.as_str().as_bytes(), &id, &secret] {
        mac.update(&u32::try_from(part.len()).unwrap().to_be_bytes());
        mac.update(part);
    }
    assert_eq!((pepper, stored.clone()), (1, hex(mac.sign().as_ref())));

    let bytes: Vec<u8> =
        (0..32).map(|n| u8::from_str_radix(&stored[2 * n..2 * n + 2], 16).unwrap()).collect();
    for text in [stored.clone(), format!("pak_{stored}"), spell(&id, &bytes)] {
        opens_nothing(&server, &text).await;
    }
    assert!(server.key_is_live(&key.text).await);
    server.stop().await;
}

async fn sec_apikey_04(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let (used, unused) = (server.key().await, server.key().await);
    let both = |settings: &mut config::Settings| {
        settings.server.api_key_peppers = vec![pepper(2, NEXT_PEPPER), pepper(1, PEPPER)];
    };
    let server = server.restart_with(both).await;
    assert!(server.key_is_live(&used.text).await);
    let begun = Instant::now();
    while server.stored(&used).await.0 != 2 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it moves to the newest pepper");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.stored(&unused).await.0, 1);
    assert_eq!(server.stored(&server.key().await).await.0, 2);

    let now = server.clock.now();
    assert!(server.app.store.retire_pepper(1, now).await.unwrap());
    server.app.services.api_keys.peppers().refresh(&*server.app.store).await.unwrap();
    assert!(server.key_is_live(&used.text).await);
    opens_nothing(&server, &unused.text).await;

    let gone = |settings: &mut config::Settings| {
        settings.server.api_key_peppers = vec![pepper(2, NEXT_PEPPER)];
    };
    let server = server.restart_with(gone).await;
    assert!(server.key_is_live(&used.text).await);
    opens_nothing(&server, &unused.text).await;
    server.stop().await;
}

#[test]
fn sec_apikey_05() {
    let parse = |text: &str| config::parse("c.yaml", Path::new("."), text, &Environment::empty());
    let with = |peppers: &str| {
        let text = format!("server: {{api_key_peppers: {peppers}}}\ntenants: {{acme: {{}}}}");
        parse(&text)
    };
    assert!(with(&format!("[{{id: 1, secret: {PEPPER}}}]")).is_ok());
    for (peppers, told) in [
        ("[]", "the list is empty"),
        ("[{id: 1, secret: \"\"}]", "api_key_peppers"),
        ("[{id: 1, secret: short}]", "weak"),
        ("[{id: 1}]", "no secret"),
        ("[{id: 0, secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq}]", "id"),
        ("[{id: 256, secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq}]", "id"),
        (
            "[{id: 1, secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq}, \
             {id: 1, secret: u3Xk8Zt5Wb1Rn6Mv9Cq2Lj7Hd4Fs0Pab}]",
            "twice",
        ),
        ("[{id: 1, secret_file: no-such-file}]", "no-such-file"),
        ("[{id: 1, secret: changemechangemechangemechangeme}]", "weak"),
    ] {
        let faults = with(peppers).expect_err(peppers).to_string();
        assert!(faults.contains(told), "{peppers}: {faults}");
    }
    // With Postgres nothing is made up: whoever uses keys names a pepper.
    let postgres = format!(
        "server: {{secret_keys: [{{id: 1, secret: {SECRET}}}]}}\n\
         storage: {{type: postgres, connection_string: \"postgres://db/auth\"}}\n{}",
        tenants().replace("{public_url}", "http://127.0.0.1:8080"),
    );
    let faults = parse(&postgres).expect_err("no pepper").to_string();
    assert!(faults.contains("`api_key_peppers` is missing"), "{faults}");
    let named = postgres.replace(
        "server: {",
        &format!("server: {{api_key_peppers: [{{id: 1, secret: {PEPPER}}}], "),
    );
    assert!(parse(&named).is_ok(), "{}", parse(&named).unwrap_err());
}

async fn a_node_does_not_start_with_other_peppers_than_the_stores(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let (store, now) = (&*server.app.store, server.clock.now());
    let check = async |all: Vec<RingKey>| Peppers::new(all).check(store, now).await;
    let other = check(vec![pepper(1, NEXT_PEPPER)]).await;
    assert!(matches!(other, Err(PepperFault::Mismatch(1))), "{other:?}");
    let none = check(vec![]).await;
    assert!(matches!(none, Err(PepperFault::Missing(1))), "{none:?}");
    assert_eq!(check(vec![pepper(2, NEXT_PEPPER)]).await.unwrap(), [1]);
    assert!(store.retire_pepper(1, now).await.unwrap());
    let retired = check(vec![pepper(1, PEPPER), pepper(2, NEXT_PEPPER)]).await;
    assert!(matches!(retired, Err(PepperFault::FirstIsRetired(1))), "{retired:?}");
    server.stop().await;
}

async fn sec_apikey_06(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let mut others = Vec::new();
    if engine == Engine::Postgres {
        others = vec![server.beside().await, server.beside().await];
    }
    let manager = server.manager().await;
    for _ in 0..3 {
        let key = server.make_key(&manager, &wanted()).await;
        let jwt = server.exchange(&key.text, &[]).await.granted();
        for node in std::iter::once(&server).chain(&others) {
            assert!(node.key_is_live(&key.text).await);
        }
        let revoked =
            server.keys(Method::DELETE, &format!("/{}", key.id), &manager, &Value::Null).await;
        let since = Instant::now();
        assert_eq!(revoked.status, 204, "{}", revoked.body);
        opens_nothing(&server, &key.text).await;
        assert!(!server.is_active("api", &jwt["access_token"]).await);
        for node in &others {
            while node.key_is_live(&key.text).await
                || node.is_active("api", &jwt["access_token"]).await
            {
                assert!(since.elapsed() < Duration::from_secs(1), "within the bound");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opens_nothing(node, &key.text).await;
        }
    }
    for node in others {
        node.stop().await;
    }
    server.stop().await;
}

async fn sec_apikey_07(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    let key = server.make_key(&manager, &wanted_with("expires_at", "2027-01-15T08:01:00Z")).await;
    server.advance(Duration::from_secs(59)).await;
    assert!(server.key_is_live(&key.text).await);
    let tokens = server.exchange(&key.text, &[]).await.granted();
    assert_eq!(tokens["expires_in"], 1, "what is exchanged ends with the key");
    for _ in 0..2 {
        server.advance(Duration::from_secs(1)).await;
        opens_nothing(&server, &key.text).await;
        assert!(!server.is_active("api", &tokens["access_token"]).await);
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_apikey_09() {
    let logs = Logs::listen();
    let server = TestServer::with_api_keys(Engine::Memory).await;
    let (key, manager) = (server.key().await, server.manager().await);
    for path in [
        "/introspect?token=",
        "/userinfo?access_token=",
        "/api-keys?api_key=",
        "/token?subject_token=",
        "/authorize?client_id=web&state=",
        "/jwks.json?",
    ] {
        let url = format!("{}{}", server.url("acme", path), key.text);
        for method in [Method::GET, Method::POST] {
            let request = server.http.request(method, &url).bearer_auth(&manager);
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert!([400, 401, 405].contains(&answer.status), "{path}: {}", answer.status);
            assert!(!answer.body.contains(&key.text), "{}", answer.body);
        }
    }
    assert!(server.key_is_live(&key.text).await);
    server.stop().await;
    let text = logs.text();
    assert!(text.contains("answered"), "the log has the requests");
    assert!(!text.contains(&key.text) && !text.contains(&key.text[12..40]), "{text}");
}

async fn sec_apikey_12(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    let created = server.keys(Method::POST, "", &manager, &wanted()).await;
    let key = Key::of(&created);
    let (_, stored) = server.stored(&key).await;
    for rest in [format!("/{}", key.id), String::new(), "?limit=1".to_owned()] {
        let shown = server.keys(Method::GET, &rest, &manager, &Value::Null).await;
        assert_eq!((shown.status, shown.header("cache-control")), (200, "no-store"), "{rest}");
        let (json, text) = (shown.json(), &shown.body);
        let one = if rest.starts_with('/') { &json } else { &json["items"][0] };
        assert_eq!(one["id"], key.id.as_str());
        assert_eq!(one["prefix"], &key.text[..12]);
        assert_eq!((&one["name"], &one["scopes"]), (&json!("ci"), &json!(["orders:read"])));
        assert!(one.get("key").is_none() && !text.contains(&key.text[12..]), "{text}");
        assert!(!text.contains(&stored), "{text}");
    }
    server.stop().await;
}

async fn sec_apikey_15(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let (alice, manager) = server.alices_manager().await;
    let key = server.make_key(&manager, &wanted()).await;
    let form = [("grant_type", "client_credentials")];
    let token = server.url("acme", "/token");
    server.post(&token, Some(("web", &key.text)), &form).await.is_refusal(401, "invalid_client");
    let posted = [form[0], ("client_id", "post"), ("client_secret", &key.text)];
    server.post(&token, None, &posted).await.is_refusal(401, "invalid_client");
    let refresh = Form::refresh(&key.text);
    server.ask("web", &refresh).await.is_refusal(400, "invalid_grant");
    let code = alice.code(&server, "web").await;
    let as_code = code.form.clone().with("code", &key.text);
    server.ask("web", &as_code).await.is_refusal(400, "invalid_grant");
    for path in ["/userinfo", "/api-keys"] {
        let request = server.http.get(server.url("acme", path)).bearer_auth(&key.text);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 401, "{path}: {}", answer.body);
        assert!(answer.header("www-authenticate").contains("invalid_token"));
    }
    assert!(server.key_is_live(&key.text).await);
    server.stop().await;
}

/// As many uses as the case has in a second; what they come to is the same in sixty.
async fn sec_apikey_16(engine: Engine) {
    const TIMES: u64 = 5_000;
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    let rate = json!({"limit": 1_000_000, "window_seconds": 1});
    let key = server.make_key(&manager, &wanted_with("rate", rate)).await;
    // Past what the start of the store revoked.
    server.advance(Duration::from_secs(10)).await;
    let (app, tenant) = (&server.app, server.tenant("acme"));
    let now = server.clock.now();
    let check = async || {
        let keys = &app.services.api_keys;
        let checked = keys.check(&tenant, &app.services.revocations, &key.text, None, now).await;
        matches!(checked, Ok(pmp_auth::token::api_key::Checked::Live(_)))
    };
    assert!(check().await);
    let before = app.store.round_trips();
    for _ in 1..TIMES {
        assert!(check().await);
    }
    // Others follow the log meanwhile.
    assert!(app.store.round_trips() - before < 50, "a known key costs no query");
    let row = async || tenant.store.find_api_key(key.id()).await.unwrap().unwrap().key;
    assert_eq!(row().await.usage_count, 0, "nothing is written for each use");
    app.services.api_keys.flush(&*app.store).await;
    assert_eq!((row().await.usage_count, row().await.last_used_at), (TIMES, Some(now)));
    app.services.api_keys.flush(&*app.store).await;
    assert_eq!(row().await.usage_count, TIMES, "each use counts once");
    server.stop().await;
}
