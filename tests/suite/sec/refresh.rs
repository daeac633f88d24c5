//! Cases of refresh tokens, by id. `RT1`, `RT2`, … are the tokens of one family, in order.

use std::path::Path;
use std::time::Duration;

use pmp_auth::base::{Clock as _, CredentialKind, Entropy, SystemEntropy};
use pmp_auth::config::{self, Environment, Settings};
use pmp_auth::model::client::GrantType;
use pmp_auth::model::refresh::PresentedRefresh;
use pmp_auth::model::{Action, Audit, Client, ClientId, GrantId, Scope, TenantSlug, UserId};
use pmp_auth::storage::{
    Change, ChangeTenant, ChangeUser, Engine, SetClientState, WithdrawConsent,
};
use serde_json::Value;

use crate::support::flow::{Form, SignedIn};
use crate::support::server::{Answer, SECRET, TestServer};

const ENGINES: [Engine; 3] = [Engine::Memory, Engine::Sqlite, Engine::Postgres];
const MINUTE: Duration = Duration::from_mins(1);

fn refresh_form(tokens: &Value) -> Form {
    Form::refresh(tokens["refresh_token"].as_str().expect("a refresh token"))
}

async fn refresh(server: &TestServer, client: &str, tokens: &Value) -> Answer {
    server.ask(client, &refresh_form(tokens)).await
}

/// Uses the newest token of a family `times` times; all that the client got, in order.
async fn family(server: &TestServer, client: &str, tokens: Value, times: usize) -> Vec<Value> {
    let mut all = vec![tokens];
    for _ in 0..times {
        let next = refresh(server, client, all.last().expect("one")).await.granted();
        all.push(next);
    }
    all
}

async fn first(server: &TestServer, client: &str) -> Value {
    SignedIn::at(server).await.tokens(server, client).await.0
}

/// The token that says `with`, under a checksum that fits.
fn spelt(with: &PresentedRefresh, version: u8) -> String {
    let mut bytes = vec![version, with.kid];
    bytes.extend(with.grant.0.as_bytes());
    bytes.extend(with.generation.to_be_bytes());
    bytes.extend(with.nonce);
    bytes.extend(with.mac);
    CredentialKind::RefreshToken.spell(&bytes).reveal().clone()
}

fn read(tokens: &Value) -> PresentedRefresh {
    let text = tokens["refresh_token"].as_str().expect("a refresh token");
    pmp_auth::token::refresh::parse(text).expect("a good spelling")
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_01() {
    let server = TestServer::start(Engine::Memory).await;
    let (one, grant) = SignedIn::at(&server).await.tokens(&server, "spa").await;
    let two = refresh(&server, "spa", &one).await.granted();
    assert_ne!(one["refresh_token"], two["refresh_token"]);
    let head = server.grant(grant).await.refresh.expect("a refresh token");
    assert_eq!((head.head, head.head_nonce), (read(&two).generation, read(&two).nonce));
    // A refresh never kills the access token of before: it may be under way to an API.
    assert!(server.is_active("api", &one["access_token"]).await);
    assert!(server.is_active("api", &two["access_token"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_02() {
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        let tokens = family(&server, "web", first(&server, "web").await, 2).await;
        server.advance(MINUTE).await;
        refresh(&server, "web", &tokens[0]).await.is_refusal(400, "invalid_grant");
        for one in &tokens {
            assert!(!server.is_active("web", &one["access_token"]).await, "{engine:?}");
            assert!(!server.is_active("web", &one["refresh_token"]).await, "{engine:?}");
        }
        refresh(&server, "web", &tokens[2]).await.is_refusal(400, "invalid_grant");
        assert_eq!(server.times(Action::RefreshReused).await, 1, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_04() {
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        let (one, grant) = SignedIn::at(&server).await.tokens(&server, "web").await;
        let two = refresh(&server, "web", &one).await.granted();
        let again = refresh(&server, "web", &one).await.granted();
        assert_eq!(again["refresh_token"], two["refresh_token"], "within grace");
        let three = refresh(&server, "web", &two).await.granted();
        refresh(&server, "web", &one).await.is_refusal(400, "invalid_grant");
        assert!(!server.is_live(grant).await, "{engine:?}");
        refresh(&server, "web", &three).await.is_refusal(400, "invalid_grant");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_06() {
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        let (one, grant) = SignedIn::at(&server).await.tokens(&server, "web").await;
        let tokens = family(&server, "web", one, 2).await;
        for other in ["opaque", "post", "spa"] {
            refresh(&server, other, &tokens[0]).await.is_refusal(400, "invalid_grant");
        }
        assert!(server.is_live(grant).await, "{engine:?}");
        assert_eq!(server.times(Action::RefreshReused).await, 0, "{engine:?}");
        refresh(&server, "web", &tokens[2]).await.granted();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_07() {
    let server = TestServer::start(Engine::Memory).await;
    let (one, grant) = SignedIn::at(&server).await.tokens(&server, "web").await;
    let tokens = family(&server, "web", one, 2).await;
    let url = server.url("acme", "/token");
    let spent = refresh_form(&tokens[0]);
    let named = spent.clone().with("client_id", "web");
    let in_body = named.clone().with("client_secret", SECRET); // right, but not its method
    for (basic, form) in [
        (None, &named),
        (None, &spent),
        (None, &in_body),
        (Some(("web", "guess")), &spent),
        (Some(("web", "")), &spent),
    ] {
        let answer = server.post(&url, basic, &form.pairs()).await;
        answer.is_refusal(401, "invalid_client");
    }
    assert!(server.is_live(grant).await);
    refresh(&server, "web", &tokens[2]).await.granted();
}

/// A thousand tries here, spread over ten minutes; each is on its own, so more would be the same.
#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_08() {
    let server = TestServer::start(Engine::Memory).await;
    let (one, grant) = SignedIn::at(&server).await.tokens(&server, "web").await;
    let entropy: &dyn Entropy = &SystemEntropy;
    for _ in 0..10 {
        let mut limited = 0;
        for attempt in 0..100 {
            let forged = PresentedRefresh { mac: entropy.bytes(), ..read(&one) };
            let answer = server.ask("web", &Form::refresh(&spelt(&forged, 1))).await;
            if attempt < 20 {
                answer.is_refusal(400, "invalid_grant");
            } else {
                assert!(answer.json().get("access_token").is_none());
                limited +=
                    usize::from(answer.status == 429 && !answer.header("retry-after").is_empty());
            }
        }
        assert_eq!(limited, 80);
        server.advance(MINUTE).await;
    }
    assert!(server.is_live(grant).await);
    let alarms = [Action::RefreshReused, Action::RefreshForged, Action::GrantRevoked];
    for alarm in alarms {
        assert_eq!(server.times(alarm).await, 0, "{alarm:?}");
    }
    refresh(&server, "web", &one).await.granted();
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_10() {
    let server = TestServer::start(Engine::Memory).await;
    let one = first(&server, "web").await;
    let narrow =
        server.ask("web", &refresh_form(&one).with("scope", "orders:read")).await.granted();
    assert_eq!(narrow["scope"], "orders:read");
    assert_eq!(server.introspect("api", &narrow["access_token"]).await["scope"], "orders:read");
    let full = refresh(&server, "web", &narrow).await.granted();
    assert_eq!(full["scope"], one["scope"]);
    assert_eq!(server.introspect("api", &full["access_token"]).await["scope"], one["scope"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_13() {
    let idle = Duration::from_hours(24 * 30);
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        let (just, late) = (first(&server, "web").await, first(&server, "web").await);
        server.advance(idle.checked_sub(Duration::from_secs(1)).expect("a while")).await;
        let just = refresh(&server, "web", &just).await.granted();
        server.advance(Duration::from_secs(1)).await;
        refresh(&server, "web", &late).await.is_refusal(400, "invalid_grant");
        assert_eq!(server.times(Action::RefreshReused).await, 0, "{engine:?}: late is not stolen");
        refresh(&server, "web", &just).await.granted();
    }
}

/// What became of the user, the consent, the client and the tenant, one after the other; each kills
/// a refresh token that was good just before.
#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_14() {
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        consent_is_withdrawn(&server).await;
        client_is_disabled(&server).await;
        user_is_disabled_and_then_deleted(&server).await;
        tenant_is_suspended(&server).await;
    }
    right_to_refresh_is_gone().await;
}

/// Ten seconds long, what ends all that somebody has keeps new tokens from being minted at all.
async fn is_dead(server: &TestServer, client: &str, tokens: &Value) {
    server.settle().await;
    let at_once = refresh(server, client, tokens).await;
    assert!(matches!(at_once.status, 400 | 503), "{at_once:?}");
    assert!(at_once.json().get("access_token").is_none(), "{at_once:?}");
    server.advance(Duration::from_secs(11)).await;
    refresh(server, client, tokens).await.is_refusal(400, "invalid_grant");
}

fn change<'a>(server: &TestServer, audit: &'a Audit) -> Change<'a> {
    let now = server.clock.now();
    Change { now, not_after: now.plus(Duration::from_hours(1)), audit }
}

async fn consent_is_withdrawn(server: &TestServer) {
    let alice = SignedIn::at(server).await;
    let (tokens, _) = alice.tokens(server, "post").await;
    let tokens = refresh(server, "post", &tokens).await.granted();
    let (store, client) = (&server.tenant("acme").store, ClientId::new("post"));
    let now = server.clock.now();
    let withdrawn = store.withdraw_consent(alice.user, &client, now, &Audit::default()).await;
    assert_eq!(withdrawn.unwrap(), WithdrawConsent::Withdrawn { grants: 1 });
    refresh(server, "post", &tokens).await.is_refusal(400, "invalid_grant");
}

async fn client_is_disabled(server: &TestServer) {
    let tokens = first(server, "opaque").await;
    let tokens = refresh(server, "opaque", &tokens).await.granted();
    let (store, client) = (&server.tenant("acme").store, ClientId::new("opaque"));
    let audit = Audit::default();
    let disabled = store.set_client_disabled(&client, true, &change(server, &audit)).await;
    assert_eq!(disabled.unwrap(), SetClientState::Changed);
    server.settle().await;
    refresh(server, "opaque", &tokens).await.is_refusal(401, "invalid_client");
    server.advance(Duration::from_secs(11)).await;
    let enabled = store.set_client_disabled(&client, false, &change(server, &audit)).await;
    assert_eq!(enabled.unwrap(), SetClientState::Changed);
    server.settle().await;
    refresh(server, "opaque", &tokens).await.is_refusal(400, "invalid_grant");
}

async fn user_is_disabled_and_then_deleted(server: &TestServer) {
    let (user, tokens) = alice_with_tokens(server).await;
    let (store, audit) = (&server.tenant("acme").store, Audit::default());
    let disabled = store.set_user_disabled(user, true, &change(server, &audit)).await;
    assert_eq!(disabled.unwrap(), ChangeUser::Changed);
    is_dead(server, "web", &tokens).await;
    let enabled = store.set_user_disabled(user, false, &change(server, &audit)).await;
    assert_eq!(enabled.unwrap(), ChangeUser::Changed);
    refresh(server, "web", &tokens).await.is_refusal(400, "invalid_grant");

    let (user, tokens) = alice_with_tokens(server).await;
    let deleted = store.delete_user(user, &change(server, &audit)).await;
    assert_eq!(deleted.unwrap(), ChangeUser::Changed);
    is_dead(server, "web", &tokens).await;
}

async fn alice_with_tokens(server: &TestServer) -> (UserId, Value) {
    let alice = SignedIn::at(server).await;
    let (tokens, _) = alice.tokens(server, "web").await;
    (alice.user, refresh(server, "web", &tokens).await.granted())
}

async fn tenant_is_suspended(server: &TestServer) {
    let acme = server.tenant("acme");
    let before = server.client_token("web").await;
    let audit = Audit::default();
    let suspended = server.app.store.suspend_tenant(&acme.uid, &change(server, &audit)).await;
    assert_eq!(suspended.unwrap(), ChangeTenant::Changed);
    server.settle().await;
    let url = server.url("acme", "/token");
    let form = Form::of("client_credentials");
    let answer = server.post(&url, Some(("web", SECRET)), &form.pairs()).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    let form = Form::refresh("pmp_rt_x");
    assert_eq!(server.post(&url, Some(("web", SECRET)), &form.pairs()).await.status, 404);
    let info = server.http.get(server.url("acme", "/userinfo")).bearer_auth(before).send().await;
    assert_eq!(info.unwrap().status(), 404);
}

async fn right_to_refresh_is_gone() {
    let server = TestServer::start(Engine::Sqlite).await;
    let tokens = first(&server, "web").await;
    let no_refresh = |settings: &mut Settings| {
        web_of(settings).grants.retain(|grant| *grant != GrantType::RefreshToken);
    };
    let server = server.restart_with(no_refresh).await;
    refresh(&server, "web", &tokens).await.is_refusal(400, "unauthorized_client");
}

/// The client `web` of `acme`.
fn web_of(settings: &mut Settings) -> &mut Client {
    let acme = TenantSlug::parse("acme").expect("a slug");
    let acme = settings.tenants.get_mut(&acme).expect("the tenant");
    acme.clients.iter_mut().find(|client| client.id.as_str() == "web").expect("the client")
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_17() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let server = TestServer::start(engine).await;
        let alice = SignedIn::at(&server).await;
        let spent = family(&server, "web", alice.tokens(&server, "web").await.0, 2).await;
        let (revoked, _) = alice.tokens(&server, "web").await;
        let (untouched, _) = alice.tokens(&server, "web").await;
        let form = [("token", revoked["refresh_token"].as_str().unwrap())];
        let url = server.url("acme", "/revoke");
        assert_eq!(server.post(&url, Some(("web", SECRET)), &form).await.status, 200);

        let server = server.restart().await;
        refresh(&server, "web", &revoked).await.is_refusal(400, "invalid_grant");
        assert_eq!(server.times(Action::RefreshReused).await, 0, "{engine:?}");
        refresh(&server, "web", &spent[0]).await.is_refusal(400, "invalid_grant");
        assert_eq!(server.times(Action::RefreshReused).await, 1, "{engine:?}");
        assert!(!server.is_active("web", &spent[2]["access_token"]).await);

        let server = server.restart().await;
        refresh(&server, "web", &spent[2]).await.is_refusal(400, "invalid_grant");
        assert!(!server.is_active("web", &spent[2]["access_token"]).await);
        refresh(&server, "web", &untouched).await.granted();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_19() {
    let server = TestServer::start(Engine::Memory).await;
    let (one, grant) = SignedIn::at(&server).await.tokens(&server, "web").await;
    let text = one["refresh_token"].as_str().unwrap().to_owned();
    let mut bad: Vec<String> = (0..text.len()).step_by(7).map(|end| text[..end].into()).collect();
    bad.remove(0); // an empty parameter is no parameter
    for at in 0..text.len() {
        let mut flipped = text.clone().into_bytes();
        flipped[at] ^= 1;
        bad.push(String::from_utf8(flipped).expect("ASCII"));
    }
    let suffixes = ["=", " ", "\n", "\0", "A", ".", "&"];
    bad.extend(suffixes.map(|suffix| format!("{text}{suffix}")));
    bad.extend([format!(" {text}"), text.to_uppercase(), text.to_lowercase()]);
    bad.extend([format!("PMP_RT_{}", &text[7..]), format!("{text}{text}")]);
    // With a checksum that fits, other bytes than ours are still not ours.
    let good = read(&one);
    let mut id = *good.grant.0.as_bytes();
    id[0] ^= 1;
    let (mut nonce, mut mac) = (good.nonce, good.mac);
    (nonce[0], mac[0]) = (nonce[0] ^ 1, mac[0] ^ 1);
    bad.extend([
        spelt(&good, 2),
        spelt(&PresentedRefresh { kid: good.kid ^ 1, ..good.clone() }, 1),
        spelt(&PresentedRefresh { generation: good.generation + 1, ..good.clone() }, 1),
        spelt(&PresentedRefresh { grant: GrantId(uuid::Uuid::from_bytes(id)), ..good.clone() }, 1),
        spelt(&PresentedRefresh { nonce, ..good.clone() }, 1),
        spelt(&PresentedRefresh { mac, ..good.clone() }, 1),
    ]);
    assert_eq!(spelt(&good, 1), text, "the spelling of this test is that of the server");
    for bad in bad {
        let answer = server.ask("web", &Form::refresh(&bad)).await;
        assert_eq!((answer.status, answer.error()), (400, "invalid_grant".into()), "{bad:?}");
    }
    assert!(server.is_live(grant).await);
    refresh(&server, "web", &one).await.granted();
}

#[test]
fn sec_refresh_21() {
    let client = |more: &str| {
        let text = format!(
            "tenants: {{acme: {{clients: [{{client_id: a, {more}, \
             redirect_uris: ['https://a.example/cb'], grants: [authorization_code, refresh_token]}}]}}}}"
        );
        config::parse("config.yaml", Path::new(""), &text, &Environment::empty())
    };
    let faults = client("type: public, refresh_rotation: false").expect_err("it does not start");
    let told = faults.to_string();
    assert!(told.contains("tenants.acme.clients[0].refresh_rotation"), "{told}");
    assert!(told.contains("have to be rotated"), "{told}");
    assert!(client("type: public, refresh_rotation: true").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_22() {
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        let stolen = family(&server, "web", first(&server, "web").await, 2).await;
        let other = family(&server, "web", first(&server, "web").await, 1).await;
        refresh(&server, "web", &stolen[0]).await.is_refusal(400, "invalid_grant");
        assert!(!server.is_active("web", &stolen[2]["access_token"]).await, "{engine:?}");
        assert!(server.is_active("web", &other[1]["access_token"]).await, "{engine:?}");
        refresh(&server, "web", &other[1]).await.granted();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_23() {
    let server = TestServer::start(Engine::Sqlite).await;
    let tokens = first(&server, "web").await;
    assert_eq!(tokens["scope"], "openid orders:read offline_access");
    let fewer = |settings: &mut Settings| {
        web_of(settings).scopes = Scope::parse("openid offline_access").unwrap();
    };
    let server = server.restart_with(fewer).await;
    let asked = refresh_form(&tokens).with("scope", "orders:read");
    server.ask("web", &asked).await.is_refusal(400, "invalid_scope");
    let less = refresh(&server, "web", &tokens).await.granted();
    assert_eq!(less["scope"], "openid offline_access");
    let told = server.introspect("web", &less["access_token"]).await;
    assert_eq!(told["scope"], "openid offline_access");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_refresh_25() {
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        let elsewhere = |address: [u8; 4], agent: &str| {
            let from = reqwest::Client::builder().local_address(std::net::IpAddr::from(address));
            from.user_agent(agent).no_proxy().build().expect("a client")
        };
        let victim = elsewhere([127, 0, 0, 1], "victim");
        let thief = elsewhere([127, 0, 77, 1], "thief");
        let (mut tokens, grant) = SignedIn::at(&server).await.tokens(&server, "spa").await;
        for generation in 1..=3 {
            let next = from(&server, &victim, &tokens).await.granted();
            let copied = from(&server, &thief, &tokens).await.granted();
            assert_eq!(next["refresh_token"], copied["refresh_token"], "{generation}");
            tokens = next;
        }
        from(&server, &victim, &tokens).await.is_refusal(400, "invalid_grant");
        assert!(!server.is_live(grant).await, "{engine:?}");
        assert!(!server.is_active("api", &tokens["access_token"]).await, "{engine:?}");
        assert_eq!(server.times(Action::RefreshReused).await, 1, "{engine:?}");
    }
}

async fn from(server: &TestServer, who: &reqwest::Client, tokens: &Value) -> Answer {
    let form = refresh_form(tokens).with("client_id", "spa");
    let request = who.post(server.url("acme", "/token")).form(&form.pairs());
    Answer::of(request.send().await.expect("an answer")).await
}
