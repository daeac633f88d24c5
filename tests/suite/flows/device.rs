use std::time::{Duration, Instant};

use pmp_auth::base::base64url;
use pmp_auth::model::Action;
use pmp_auth::storage::Engine;
use serde_json::{Value, json};

use crate::support::browser::{CHALLENGE, VERIFIER};
use crate::support::device::{DEVICE_GRANT, Device};
use crate::support::flow::{Form, SignedIn};
use crate::support::server::{API, SECRET, TENANTS, TestServer};

on_every_server! {
    an_allowed_device_gets_its_tokens_once
    a_denied_device_is_told_so_and_gets_nothing
    a_code_that_nobody_used_expires
    a_device_that_polls_too_fast_is_slowed_down_without_a_query
    another_client_cannot_use_the_code_and_its_own_still_can
    a_challenge_that_was_sent_is_enforced
    what_is_issued_was_approved
    a_waiting_poll_is_answered_when_the_user_decides
    a_wait_that_ends_without_a_decision_lets_the_next_poll_come_at_once
    the_newest_of_two_waiting_polls_gets_the_tokens
    a_poll_that_nobody_waits_for_any_more_does_not_spend_the_code
    waiting_polls_are_answered_when_the_server_stops
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn claims(token: &Value) -> Value {
    let payload = token.as_str().expect("a token").split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&base64url::decode(payload).unwrap()).unwrap()
}

async fn an_allowed_device_gets_its_tokens_once(engine: Engine) {
    for client in ["tv", "settop"] {
        let server = TestServer::start(engine).await;
        let asked = [("scope", "openid orders:read offline_access"), ("nonce", "n-7")];
        let device = Device::asking(&server, client, &asked).await;
        let pending = device.poll(&server).await;
        pending.is_refusal(400, "authorization_pending");
        assert_eq!(pending.header("cache-control"), "no-store");
        let alice = SignedIn::at(&server).await;
        let grant = device.approve(&server, &alice).await;
        // Never early: this one follows the decision.
        let tokens = device.poll(&server).await.granted();
        let (access, id) = (claims(&tokens["access_token"]), claims(&tokens["id_token"]));
        assert_eq!((&access["aud"], &access["client_id"]), (&json!(API), &json!(client)));
        assert_eq!(tokens["scope"], "openid orders:read offline_access");
        assert_eq!((&id["nonce"], &id["aud"]), (&json!("n-7"), &json!(client)));
        assert!(id.get("sid").is_none() && access.get("sid").is_none(), "{id} {access}");
        assert!(server.is_active("api", &tokens["access_token"]).await);

        device.poll(&server).await.is_refusal(400, "invalid_grant");
        assert!(server.is_live(grant).await);
        let refreshed = Form::refresh(tokens["refresh_token"].as_str().expect("a refresh token"));
        assert!(server.ask(client, &refreshed).await.granted()["refresh_token"].is_string());
        assert_eq!(server.times(Action::DeviceRedeemed).await, 1);
    }
}

async fn a_denied_device_is_told_so_and_gets_nothing(engine: Engine) {
    let server = TestServer::start(engine).await;
    let device = Device::of(&server, "tv").await;
    device.poll(&server).await.is_refusal(400, "authorization_pending");
    device.deny(&server).await;
    for _ in 0..3 {
        device.poll(&server).await.is_refusal(400, "access_denied");
    }
}

async fn a_code_that_nobody_used_expires(engine: Engine) {
    let server = TestServer::start(engine).await;
    let device = Device::of(&server, "tv").await;
    server.clock.advance(seconds(599));
    device.poll(&server).await.is_refusal(400, "authorization_pending");
    server.clock.advance(seconds(1));
    for _ in 0..3 {
        device.poll(&server).await.is_refusal(400, "expired_token");
    }
    server.app.services.recorder.flush().await;
    assert_eq!(server.times(Action::DeviceExpired).await, 1);
}

async fn a_device_that_polls_too_fast_is_slowed_down_without_a_query(engine: Engine) {
    let server = TestServer::start(engine).await;
    let device = Device::of(&server, "tv").await;
    device.poll(&server).await.is_refusal(400, "authorization_pending");
    server.clock.advance(seconds(4));
    let before = server.app.store.round_trips();
    device.poll(&server).await.is_refusal(400, "slow_down");
    // Background work asks now and then; polls do not.
    let polled: Vec<_> = (0..20).map(|_| device.poll(&server)).collect();
    for poll in polled {
        poll.await.is_refusal(400, "slow_down");
    }
    assert!(server.app.store.round_trips() < before + 15, "too early polls ask the store");
    // 21 polls were too early: 5 s and 21 times 5 s more.
    server.clock.advance(seconds(110));
    device.poll(&server).await.is_refusal(400, "authorization_pending");
    assert_eq!(device.record(&server).await.interval, seconds(110));
}

async fn another_client_cannot_use_the_code_and_its_own_still_can(engine: Engine) {
    let server = TestServer::start(engine).await;
    let device = Device::of(&server, "tv").await;
    let alice = SignedIn::at(&server).await;
    server.ask("settop", &device.form).await.is_refusal(400, "invalid_grant");
    device.approve(&server, &alice).await;
    server.ask("settop", &device.form).await.is_refusal(400, "invalid_grant");
    let foreign = server.url("other", "/token");
    let form = device.form.clone().with("client_id", "tv");
    server.post(&foreign, None, &form.pairs()).await.is_refusal(400, "invalid_grant");
    device.poll(&server).await.granted();
}

async fn a_challenge_that_was_sent_is_enforced(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    let sent = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
    let device = Device::asking(&server, "tv", &sent).await;
    device.approve(&server, &alice).await;
    device.poll(&server).await.is_refusal(400, "invalid_grant");
    let wrong = device.form.clone().with("code_verifier", &"x".repeat(43));
    server.ask("tv", &wrong).await.is_refusal(400, "invalid_grant");
    let right = device.form.clone().with("code_verifier", VERIFIER);
    server.ask("tv", &right).await.granted();

    let without = Device::of(&server, "tv").await;
    without.approve(&server, &alice).await;
    let unasked = without.form.clone().with("code_verifier", VERIFIER);
    server.ask("tv", &unasked).await.is_refusal(400, "invalid_grant");
    without.poll(&server).await.granted();
}

async fn what_is_issued_was_approved(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    let device = Device::asking(&server, "tv", &[("scope", "orders:read")]).await;
    device.approve(&server, &alice).await;
    let wider = device.form.clone().with("scope", "orders:read orders:write openid");
    let tokens = server.ask("tv", &wider).await.granted();
    assert_eq!(tokens["scope"], "orders:read");
    assert!(tokens.get("refresh_token").is_none() && tokens.get("id_token").is_none());
}

async fn a_waiting_poll_is_answered_when_the_user_decides(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    let (yes, no) = (Device::of(&server, "tv").await, Device::of(&server, "settop").await);
    let (allowed, denied, ()) = tokio::join!(yes.wait(&server, 60), no.wait(&server, 30), async {
        Device::is_waited_for(&server, 2).await;
        yes.approve(&server, &alice).await;
        no.deny(&server).await;
    });
    assert_eq!(allowed.header("preference-applied"), "wait=30");
    allowed.granted();
    denied.is_refusal(400, "access_denied");
    assert_eq!(server.app.services.devices.waiting(), 0);
}

async fn a_wait_that_ends_without_a_decision_lets_the_next_poll_come_at_once(engine: Engine) {
    let server = TestServer::start(engine).await;
    let device = Device::of(&server, "tv").await;
    let began = Instant::now();
    let waited = device.wait(&server, 1).await;
    waited.is_refusal(400, "authorization_pending");
    assert_eq!(waited.header("preference-applied"), "wait=1");
    assert!(began.elapsed() >= seconds(1));
    device.poll(&server).await.is_refusal(400, "authorization_pending");
    device.poll(&server).await.is_refusal(400, "slow_down");
    device.wait(&server, 5).await.is_refusal(400, "slow_down");
}

async fn the_newest_of_two_waiting_polls_gets_the_tokens(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    let device = Device::of(&server, "tv").await;
    let (older, newer) = tokio::join!(device.wait(&server, 30), async {
        Device::is_waited_for(&server, 1).await;
        // Its place is taken before storage has its poll.
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.clock.advance(seconds(5));
        let (newer, ()) = tokio::join!(device.wait(&server, 30), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Device::is_waited_for(&server, 1).await;
            device.approve(&server, &alice).await;
        });
        newer
    });
    older.is_refusal(400, "authorization_pending");
    newer.granted();
}

async fn a_poll_that_nobody_waits_for_any_more_does_not_spend_the_code(engine: Engine) {
    let server = TestServer::start(engine).await;
    let alice = SignedIn::at(&server).await;
    let device = Device::of(&server, "tv").await;
    tokio::select! {
        answer = device.wait(&server, 30) => panic!("nobody decided: {answer:?}"),
        () = Device::is_waited_for(&server, 1) => {}
    }
    // The connection is closed by now; the server hears of it in a moment.
    Device::is_waited_for(&server, 0).await;
    device.approve(&server, &alice).await;
    device.poll(&server).await.granted();
}

async fn waiting_polls_are_answered_when_the_server_stops(engine: Engine) {
    let server = TestServer::start(engine).await;
    let device = Device::of(&server, "tv").await;
    let began = Instant::now();
    let (answer, ()) = tokio::join!(device.wait(&server, 30), async {
        Device::is_waited_for(&server, 1).await;
        server.begin_stop();
    });
    answer.is_refusal(400, "authorization_pending");
    assert!(began.elapsed() < seconds(10));
    server.stop().await;
}

mod restart {
    use super::*;

    on_every_server!(@ sqlite, Sqlite, the_flow_survives_restarts what_only_memory_knew_of_pace_is_kept);
    on_every_server!(@ postgres, Postgres, the_flow_survives_restarts what_only_memory_knew_of_pace_is_kept);

    async fn the_flow_survives_restarts(engine: Engine) {
        let server = TestServer::start(engine).await;
        let device = Device::of(&server, "tv").await;
        let server = server.restart().await;
        device.poll(&server).await.is_refusal(400, "authorization_pending");
        let server = server.restart().await;
        let alice = SignedIn::at(&server).await;
        device.approve(&server, &alice).await;
        let server = server.restart().await;
        let tokens = device.poll(&server).await.granted();
        let server = server.restart().await;
        assert!(server.is_active("api", &tokens["access_token"]).await);
        device.poll(&server).await.is_refusal(400, "invalid_grant");
    }

    async fn what_only_memory_knew_of_pace_is_kept(engine: Engine) {
        let server = TestServer::start(engine).await;
        let device = Device::of(&server, "tv").await;
        device.poll(&server).await.is_refusal(400, "authorization_pending");
        device.poll(&server).await.is_refusal(400, "slow_down");
        // On Postgres a listener that just connected may make the node ask storage.
        if engine != Engine::Postgres {
            assert_eq!(device.record(&server).await.interval, seconds(5));
        }
        let server = server.restart().await;
        assert_eq!(device.record(&server).await.interval, seconds(10));
        // … and who was polled last is kept, too.
        device.poll(&server).await.is_refusal(400, "slow_down");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_waits_on_one_node_hears_of_a_decision_on_another() {
    let here = TestServer::start(Engine::Postgres).await;
    let there = here.beside().await;
    let alice = SignedIn::at(&here).await;
    let device = Device::of(&here, "tv").await;
    let mut decided = Instant::now();
    let (answer, ()) = tokio::join!(device.wait(&there, 30), async {
        Device::is_waited_for(&there, 1).await;
        device.approve(&here, &alice).await;
        decided = Instant::now();
    });
    answer.granted();
    assert!(decided.elapsed() < seconds(5), "{:?}", decided.elapsed());
}

#[tokio::test]
async fn what_a_device_is_told_is_what_it_needs() {
    let server = TestServer::start(Engine::Memory).await;
    let answer = server.device_authorization("tv", &[("scope", "openid")]).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    let told = answer.json();
    let page = server.url("acme", "/device");
    assert_eq!(told["verification_uri"], json!(page));
    let code = told["user_code"].as_str().unwrap();
    assert_eq!(told["verification_uri_complete"], json!(format!("{page}?user_code={code}")));
    assert_eq!((&told["expires_in"], &told["interval"]), (&json!(600), &json!(5)));
    assert!(told["device_code"].as_str().unwrap().starts_with("pmp_dc_"));
}

#[tokio::test]
async fn a_tenant_alone_has_the_short_address() {
    let alone = TENANTS.split("  other:").next().unwrap();
    let server = TestServer::with(Engine::Memory, alone).await;
    let told = server.device_authorization("tv", &[]).await.json();
    assert_eq!(told["verification_uri"], json!(format!("{}/device", server.base)));
    let complete = told["verification_uri_complete"].as_str().unwrap();
    assert!(complete.starts_with(&server.url("acme", "/device?user_code=")), "{complete}");
}

#[tokio::test]
async fn what_cannot_be_granted_is_refused_at_once() {
    let server = TestServer::start(Engine::Memory).await;
    for (client, form, status, error) in [
        ("web", &[][..], 400, "unauthorized_client"),
        ("tv", &[("scope", "openid nonsense")], 400, "invalid_scope"),
        ("tv", &[("scope", "orders:write")], 400, "invalid_scope"),
        ("tv", &[("resource", "https://elsewhere.example")], 400, "invalid_target"),
        ("tv", &[("code_challenge", CHALLENGE)], 400, "invalid_request"),
        (
            "tv",
            &[("code_challenge", CHALLENGE), ("code_challenge_method", "plain")],
            400,
            "invalid_request",
        ),
        ("tv", &[("nonce", "a\nb")], 400, "invalid_request"),
    ] {
        server.device_authorization(client, form).await.is_refusal(status, error);
    }
    let url = server.url("acme", "/device_authorization");
    // Only named, though it has a secret; not named at all.
    let answer = server.post(&url, None, &[("client_id", "settop")]).await;
    answer.is_refusal(401, "invalid_client");
    assert!(answer.body.contains("send it"), "{}", answer.body);
    let answer = server.post(&url, None, &[("scope", "openid")]).await;
    answer.is_refusal(401, "invalid_client");
    assert!(answer.body.contains("client_id"), "{}", answer.body);
    // Polls of nobody, and of nothing.
    let poll = [("grant_type", DEVICE_GRANT), ("device_code", "pmp_dc_x")];
    let answer = server.post(&server.url("acme", "/token"), None, &poll).await;
    answer.is_refusal(401, "invalid_client");
    assert!(answer.body.contains("client_id"), "{}", answer.body);
    let unknown = Form::of(DEVICE_GRANT).with("device_code", "pmp_dc_x");
    server.ask("tv", &unknown).await.is_refusal(400, "invalid_grant");
    server.ask("tv", &Form::of(DEVICE_GRANT)).await.is_refusal(400, "invalid_request");
    server.ask("native", &unknown).await.is_refusal(400, "unauthorized_client");
}

#[tokio::test]
async fn a_public_client_may_send_its_name_by_basic_with_an_empty_password() {
    let server = TestServer::start(Engine::Memory).await;
    let empty = Some(("tv", ""));
    let answer = server.post(&server.url("acme", "/device_authorization"), empty, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let code = answer.json()["device_code"].as_str().unwrap().to_owned();
    let poll = [("grant_type", DEVICE_GRANT), ("device_code", &code)];
    let answer = server.post(&server.url("acme", "/token"), empty, &poll).await;
    answer.is_refusal(400, "authorization_pending");
    // A confidential client proves itself by a secret, and an empty one is none.
    let answer = server.post(&server.url("acme", "/token"), Some(("settop", "")), &poll).await;
    answer.is_refusal(401, "invalid_client");
    let answer = server.post(&server.url("acme", "/token"), Some(("tv", SECRET)), &poll).await;
    answer.is_refusal(401, "invalid_client");
}

#[tokio::test]
async fn a_client_gets_so_many_codes_and_is_then_told_when_to_come_back() {
    let server = TestServer::start(Engine::Memory).await;
    let mut codes = std::collections::HashSet::new();
    for _ in 0..50 {
        codes.insert(Device::of(&server, "tv").await.user_code);
    }
    assert_eq!(codes.len(), 50);
    let refused = server.device_authorization("tv", &[]).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert_eq!(refused.header("retry-after"), "1");
    Device::of(&server, "settop").await;
    server.clock.advance(seconds(1));
    Device::of(&server, "tv").await;
}
