//! API keys from their making to their end.

use std::time::Duration;

use pmp_auth::base::{Clock as _, base64url};
use pmp_auth::model::{Action, Audit};
use pmp_auth::storage::{Change, ChangeUser, Engine};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api_keys::{FILES, KEY_TYPE, Key, wanted, wanted_with};
use crate::support::flow::Form;
use crate::support::server::{API, SECRET, TestServer};

on_every_server! {
    a_client_makes_lists_rotates_and_revokes_its_keys
    a_users_key_speaks_for_the_user_until_they_are_disabled
    owners_see_their_own_keys_only
    a_key_goes_no_further_than_the_token_it_was_made_with
    what_a_request_must_not_say
    a_key_is_exchanged_for_a_short_lived_jwt_that_dies_with_it
    what_is_not_exchanged
    addresses_and_rates_of_a_key_are_kept_to
    only_those_a_key_is_for_learn_of_it
    a_client_that_is_disabled_takes_its_keys_along
}
mod restart {
    use super::*;
    on_every_server!(@ sqlite, Sqlite, uses_are_written_at_shutdown);
    on_every_server!(@ postgres, Postgres, uses_are_written_at_shutdown);
}

const NOTHING: Value = Value::Null;

async fn a_client_makes_lists_rotates_and_revokes_its_keys(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    let first = server.make_key(&manager, &wanted()).await;
    assert!(first.text.starts_with("pak_"));
    server.advance(Duration::from_secs(1)).await;
    let second = server.make_key(&manager, &wanted_with("name", "deploy")).await;

    let told = server.check_key(&first.text).await.json();
    assert_eq!((&told["active"], &told["token_type"]), (&json!(true), &json!("api_key")));
    assert_eq!((&told["sub"], &told["client_id"]), (&json!("web"), &json!("web")));
    assert_eq!((&told["scope"], &told["aud"]), (&json!("orders:read"), &json!(API)));
    assert_eq!(told["jti"], first.id.as_str());

    let page = server.keys(Method::GET, "?limit=1", &manager, &NOTHING).await.json();
    assert_eq!(page["items"][0]["id"], second.id.as_str(), "newest first");
    let rest = format!("?limit=1&after={}", page["next"].as_str().unwrap());
    let page = server.keys(Method::GET, &rest, &manager, &NOTHING).await.json();
    assert_eq!((&page["items"][0]["id"], &page["next"]), (&json!(first.id), &NOTHING));

    // Two live secrets, until the grace of the old one is over.
    let rotate = format!("/{}/rotate", first.id);
    let grace = json!({"grace_seconds": 3_600});
    let next = Key::of(&server.keys(Method::POST, &rotate, &manager, &grace).await);
    let again = server.keys(Method::POST, &rotate, &manager, &grace).await;
    assert_eq!((again.status, again.json()["code"].as_str()), (409, Some("rotated_before")));
    assert!(server.key_is_live(&first.text).await && server.key_is_live(&next.text).await);
    server.advance(Duration::from_secs(3_599)).await;
    assert!(server.key_is_live(&first.text).await);
    server.advance(Duration::from_secs(1)).await;
    assert!(!server.key_is_live(&first.text).await && server.key_is_live(&next.text).await);

    // Without grace the old one is gone at once, wherever it was seen before.
    let manager = server.manager().await;
    let rest = format!("/{}/rotate", second.id);
    assert!(server.key_is_live(&second.text).await);
    let none = json!({"grace_seconds": 0});
    let last = Key::of(&server.keys(Method::POST, &rest, &manager, &none).await);
    assert!(!server.key_is_live(&second.text).await && server.key_is_live(&last.text).await);

    for _ in 0..2 {
        let rest = format!("/{}", next.id);
        assert_eq!(server.keys(Method::DELETE, &rest, &manager, &NOTHING).await.status, 204);
        assert!(!server.key_is_live(&next.text).await);
    }
    let shown = server.keys(Method::GET, &format!("/{}", next.id), &manager, &NOTHING).await;
    assert!(shown.json()["revoked_at"].is_string() && shown.json()["live"] == false);
    assert!(server.key_is_live(&last.text).await);
    for (action, times) in
        [(Action::ApiKeyCreated, 2), (Action::ApiKeyRotated, 2), (Action::ApiKeyRevoked, 2)]
    {
        assert_eq!(server.times(action).await, times, "{action:?}");
    }
    server.stop().await;
}

async fn a_users_key_speaks_for_the_user_until_they_are_disabled(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let (alice, manager) = server.alices_manager().await;
    let key = server.make_key(&manager, &wanted()).await;
    let told = server.check_key(&key.text).await.json();
    assert_eq!(told["sub"], alice.user.to_string());
    assert_eq!(told["client_id"], "web");
    let jwt = server.exchange(&key.text, &[]).await.granted();
    let told = server.introspect("api", &jwt["access_token"]).await;
    assert_eq!((&told["active"], &told["sub"]), (&json!(true), &json!(alice.user.to_string())));

    let (tenant, audit) = (server.tenant("acme"), Audit::default());
    let now = server.clock.now();
    let change = Change { now, not_after: now.plus(Duration::from_hours(1)), audit: &audit };
    let disabled = tenant.store.set_user_disabled(alice.user, true, &change).await.unwrap();
    assert_eq!(disabled, ChangeUser::Changed);
    assert!(!server.key_is_live(&key.text).await, "at once");
    assert!(!server.is_active("api", &jwt["access_token"]).await);
    server.exchange(&key.text, &[]).await.is_refusal(400, "invalid_request");
    assert_eq!(server.keys(Method::POST, "", &manager, &wanted()).await.status, 401);
    let enabled = tenant.store.set_user_disabled(alice.user, false, &change).await.unwrap();
    assert_eq!(enabled, ChangeUser::Changed);
    assert!(server.key_is_live(&key.text).await, "a key is no session: it goes on with its user");
    server.stop().await;
}

async fn owners_see_their_own_keys_only(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let (of_web, (_, of_alice)) = (server.manager().await, server.alices_manager().await);
    let webs = server.make_key(&of_web, &wanted()).await;
    let alices = server.make_key(&of_alice, &wanted()).await;
    for (key, stranger) in [(&webs, &of_alice), (&alices, &of_web)] {
        let listed = server.keys(Method::GET, "", stranger, &NOTHING).await.json();
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
        assert_ne!(listed["items"][0]["id"], key.id.as_str());
        let one = format!("/{}", key.id);
        let nobodys = "/0d39f6ab-7e9b-4f10-8a4f-4f2c7a3f8a53".to_owned();
        for (method, tail) in [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "/rotate")] {
            let ask = |which: &String| format!("{which}{tail}");
            let theirs = server.keys(method.clone(), &ask(&one), stranger, &NOTHING).await;
            let unknown = server.keys(method, &ask(&nobodys), stranger, &NOTHING).await;
            assert_eq!((theirs.status, &theirs.body), (404, &unknown.body));
        }
        assert!(server.key_is_live(&key.text).await);
    }
    server.stop().await;
}

async fn a_key_goes_no_further_than_the_token_it_was_made_with(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let narrow = server.manager_of("orders:read api_keys:manage").await;
    let wide = server.manager().await;
    let both = wanted_with("scopes", json!(["orders:read", "orders:write"]));
    let key = server.make_key(&wide, &both).await;
    let refused = server.keys(Method::POST, "", &narrow, &both).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("beyond_the_token")));
    assert_eq!(refused.header("content-type"), "application/problem+json");
    // Rotating would hand out what the token could not make.
    let rotate = format!("/{}/rotate", key.id);
    assert_eq!(server.keys(Method::POST, &rotate, &narrow, &NOTHING).await.status, 403);
    let foreign = wanted_with("audiences", json!(["https://other.example"]));
    assert_eq!(server.keys(Method::POST, "", &wide, &foreign).await.status, 403);

    let without = server.manager_of("orders:read").await;
    let refused = server.keys(Method::GET, "", &without, &NOTHING).await;
    assert_eq!(refused.status, 403);
    assert!(refused.header("www-authenticate").contains("scope=\"api_keys:manage\""));
    let bare = server.http.get(server.url("acme", "/api-keys")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert!(server.key_is_live(&key.text).await);
    server.stop().await;
}

async fn what_a_request_must_not_say(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    for (name, value) in [
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("expires_at", json!("2028-02-01T00:00:00Z")),
        ("expires_at", json!("tomorrow")),
        ("expires_at", NOTHING),
        ("name", json!("")),
        ("scopes", json!(["api_keys:manage"])),
        ("scopes", json!(["openid"])),
        ("scopes", json!("orders:read")),
        ("audiences", json!([])),
        ("allowed_ips", json!(["localhost"])),
        ("rate", json!({"limit": 0, "window_seconds": 60})),
        ("admin", json!(true)),
    ] {
        let refused = server.keys(Method::POST, "", &manager, &wanted_with(name, value)).await;
        assert_eq!(refused.status, 400, "{name}: {}", refused.body);
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(refused.json()["status"], 400);
    }
    let url = server.url("acme", "/api-keys");
    let form = server.http.post(&url).bearer_auth(&manager).form(&[("name", "x")]);
    assert_eq!(form.send().await.unwrap().status(), 415);
    for rest in ["?limit=0", "?limit=201", "?after=x"] {
        assert_eq!(server.keys(Method::GET, rest, &manager, &NOTHING).await.status, 400, "{rest}");
    }
    let listed = server.keys(Method::GET, "", &manager, &NOTHING).await.json();
    assert_eq!(listed, json!({"items": [], "next": null}));
    server.stop().await;
}

fn claims(jwt: &Value) -> Value {
    let payload = jwt.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64url::decode(payload).unwrap()).unwrap()
}

async fn a_key_is_exchanged_for_a_short_lived_jwt_that_dies_with_it(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    let both = json!([API, FILES]);
    let key = server.make_key(&manager, &wanted_with("audiences", both)).await;
    let wanted_type = "urn:ietf:params:oauth:token-type:access_token";
    let more = [("resource", API), ("requested_token_type", wanted_type)];
    let tokens = server.exchange(&key.text, &more).await.granted();
    assert_eq!(tokens["issued_token_type"], wanted_type);
    assert_eq!((&tokens["expires_in"], &tokens["scope"]), (&json!(300), &json!("orders:read")));
    assert!(tokens.get("refresh_token").is_none() && tokens.get("id_token").is_none());
    let said = claims(&tokens["access_token"]);
    assert_eq!((&said["gid"], &said["aud"]), (&json!(key.id), &json!(API)));
    assert_eq!((&said["client_id"], &said["sub"]), (&json!("web"), &json!("web")));
    assert!(server.is_active("api", &tokens["access_token"]).await);

    // `audience` is another word for it; one audience each.
    let files = server.exchange(&key.text, &[("audience", FILES)]).await.granted();
    assert_eq!(claims(&files["access_token"])["aud"], FILES);
    server.exchange(&key.text, &[]).await.is_refusal(400, "invalid_target");

    let rest = format!("/{}", key.id);
    assert_eq!(server.keys(Method::DELETE, &rest, &manager, &NOTHING).await.status, 204);
    assert!(!server.is_active("api", &tokens["access_token"]).await, "it dies with its key");
    server.stop().await;
}

async fn what_is_not_exchanged(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    let key = server.make_key(&manager, &wanted()).await;
    let exchange =
        async |name: &str, value: &str| server.exchange(&key.text, &[(name, value)]).await;
    for (name, value, error) in [
        ("audience", FILES, "invalid_target"),
        ("resource", "https://other.example", "invalid_target"),
        ("scope", "orders:read orders:write", "invalid_scope"),
        ("scope", "openid", "invalid_scope"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token", "invalid_request"),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:refresh_token",
            "invalid_request",
        ),
        ("actor_token", "x", "invalid_request"),
        ("subject_token", &manager, "invalid_request"),
    ] {
        exchange(name, value).await.is_refusal(400, error);
    }
    let form = Form::of(crate::support::api_keys::EXCHANGE)
        .with("subject_token", &key.text)
        .with("subject_token_type", KEY_TYPE);
    server.ask("post", &form).await.is_refusal(400, "unauthorized_client");
    server.ask("spa", &form).await.is_refusal(400, "unauthorized_client");
    // Off unless the tenant says so.
    let plain = TestServer::start(engine).await;
    plain.ask("web", &form).await.is_refusal(400, "unsupported_grant_type");
    plain.stop().await;

    let bound = wanted_with("allowed_ips", json!(["127.0.0.0/8", "::1"]));
    let closed = server.make_key(&manager, &bound).await;
    server.exchange(&closed.text, &[]).await.is_refusal(400, "invalid_request");
    let mut open = bound.clone();
    open["exchange"] = true.into();
    let open = server.make_key(&manager, &open).await;
    server.exchange(&open.text, &[]).await.granted();
    let mut elsewhere = wanted_with("allowed_ips", json!(["192.0.2.0/24"]));
    elsewhere["exchange"] = true.into();
    let elsewhere = server.make_key(&manager, &elsewhere).await;
    server.exchange(&elsewhere.text, &[]).await.is_refusal(400, "invalid_request");
    exchange("scope", "orders:read").await.granted();
    server.stop().await;
}

async fn addresses_and_rates_of_a_key_are_kept_to(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    let mut bound = wanted_with("allowed_ips", json!(["192.0.2.0/24", "2001:db8::/32"]));
    bound["rate"] = json!({"limit": 3, "window_seconds": 60});
    let key = server.make_key(&manager, &bound).await;
    let from = async |ip: &str| {
        let form = [("token", key.text.as_str()), ("client_ip", ip)];
        server.post(&server.url("acme", "/introspect"), Some(("api", SECRET)), &form).await
    };
    assert!(!server.key_is_live(&key.text).await, "the resource server itself is elsewhere");
    assert_eq!(from("198.51.100.7").await.json(), json!({"active": false}));
    from("nonsense").await.is_refusal(400, "invalid_request");
    for ip in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.8"] {
        assert_eq!(from(ip).await.json()["active"], true, "{ip}");
    }
    let often = from("192.0.2.7").await;
    often.is_refusal(429, "temporarily_unavailable");
    assert_eq!(often.header("retry-after"), "20");
    server.advance(Duration::from_secs(20)).await;
    assert_eq!(from("192.0.2.7").await.json()["active"], true);
    server.stop().await;
}

async fn only_those_a_key_is_for_learn_of_it(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let manager = server.manager().await;
    let files = server.make_key(&manager, &wanted_with("audiences", json!([FILES]))).await;
    assert!(!server.key_is_live(&files.text).await, "it is for another API");
    let own = server.introspect("web", &json!(files.text)).await;
    assert_eq!((&own["active"], &own["aud"]), (&json!(true), &json!(FILES)));
    assert!(!server.is_active("opaque", &json!(files.text)).await);
    server.stop().await;
}

async fn a_client_that_is_disabled_takes_its_keys_along(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let key = server.key().await;
    server.advance(Duration::from_secs(10)).await;
    assert!(server.key_is_live(&key.text).await);
    let (tenant, audit) = (server.tenant("acme"), Audit::default());
    let now = server.clock.now();
    let change = Change { now, not_after: now.plus(Duration::from_hours(1)), audit: &audit };
    let web = pmp_auth::model::ClientId::new("web");
    let _ = tenant.store.set_client_disabled(&web, true, &change).await.unwrap();
    assert!(!server.key_is_live(&key.text).await, "at once");
    let _ = tenant.store.set_client_disabled(&web, false, &change).await.unwrap();
    server.settle().await;
    assert!(server.key_is_live(&key.text).await);
    server.stop().await;
}

async fn uses_are_written_at_shutdown(engine: Engine) {
    let server = TestServer::with_api_keys(engine).await;
    let key = server.key().await;
    for _ in 0..7 {
        assert!(server.key_is_live(&key.text).await);
    }
    let server = server.restart().await;
    let manager = server.manager().await;
    let shown = server.keys(Method::GET, &format!("/{}", key.id), &manager, &NOTHING).await.json();
    assert_eq!((&shown["usage_count"], &shown["last_used_ip"]), (&json!(7), &json!("127.0.0.1")));
    assert!(shown["last_used_at"].is_string());
    server.stop().await;
}
