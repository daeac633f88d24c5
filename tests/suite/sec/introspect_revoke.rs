//! Cases of introspection, revocation and userinfo, by id.

use std::time::{Duration, Instant};

use pmp_auth::base::{Clock as _, SystemEntropy, Timestamp};
use pmp_auth::model::client::AccessTokenFormat;
use pmp_auth::model::token::AccessClaims;
use pmp_auth::model::{Action, Audit, ClientId, Revocation, RevocationKey, Scope};
use pmp_auth::storage::{Change, ChangeUser, Engine, SetClientState};
use pmp_auth::token::access;
use serde_json::{Value, json};

use crate::support::flow::{Form, SignedIn};
use crate::support::server::{API, Answer, OTHER_SECRET, SECRET, TENANTS, TestServer};

const ENGINES: [Engine; 3] = [Engine::Memory, Engine::Sqlite, Engine::Postgres];
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn text(token: &Value) -> &str {
    token.as_str().expect("a token")
}

async fn tokens(server: &TestServer, client: &str) -> Value {
    SignedIn::at(server).await.tokens(server, client).await.0
}

/// POST to `/revoke` of `acme`.
async fn revoke(server: &TestServer, basic: Option<(&str, &str)>, token: &Value) -> Answer {
    server.post(&server.url("acme", "/revoke"), basic, &[("token", text(token))]).await
}

/// It is gone, or there was nothing: RFC 7009 §2.2 says so in the same words.
#[track_caller]
fn is_empty_ok(answer: &Answer) {
    assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
}

async fn userinfo(server: &TestServer, authorization: &str) -> Answer {
    let request = server.http.get(server.url("acme", "/userinfo"));
    let request = request.header("authorization", authorization);
    Answer::of(request.send().await.expect("an answer")).await
}

async fn userinfo_status(server: &TestServer, token: &Value) -> u16 {
    userinfo(server, &format!("Bearer {}", text(token))).await.status
}

fn claims_of(jwt: &str) -> Value {
    let payload = jwt.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&pmp_auth::base::base64url::decode(payload).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_01() {
    let server = TestServer::start(Engine::Memory).await;
    let (web, spa) = (tokens(&server, "web").await, tokens(&server, "spa").await);
    let url = server.url("acme", "/introspect");
    for (token, client) in [
        (&web["access_token"], None),
        (&web["refresh_token"], None),
        (&web["access_token"], Some("web")),
        (&web["access_token"], Some("api")),
        (&spa["access_token"], Some("spa")),
        (&spa["refresh_token"], Some("spa")),
        (&spa["access_token"], Some("nobody")),
    ] {
        let form = Form::of("x").without("grant_type").with("token", text(token));
        let form = client.map_or(form.clone(), |client| form.with("client_id", client));
        let answer = server.post(&url, None, &form.pairs()).await;
        answer.is_refusal(401, "invalid_client");
        let told = answer.json();
        let members: Vec<_> = told.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["error", "error_description"], "no data of the token");
    }
    // A bearer token is no client authentication here, either.
    let request = server.http.post(&url).bearer_auth(text(&web["access_token"]));
    let request = request.form(&[("token", text(&web["access_token"]))]);
    let answer = Answer::of(request.send().await.unwrap()).await;
    answer.is_refusal(401, "invalid_client");
    assert!(server.is_active("api", &web["access_token"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_06() {
    let server = TestServer::start(Engine::Memory).await;
    let token = server.client_token("web").await;
    let url = format!("{}?token={token}", server.url("acme", "/introspect"));
    let request = server.http.get(url).basic_auth("api", Some(SECRET));
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, 405, "{answer:?}");
    assert!(!answer.body.contains("active"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_07() {
    let server = TestServer::start(Engine::Memory).await;
    let tokens = tokens(&server, "web").await;
    for token in [&tokens["access_token"], &tokens["refresh_token"]] {
        let told = server.introspect("web", token).await;
        assert_eq!(told["active"], Value::Bool(true));
        assert!(told["exp"].is_i64() && told["iat"].is_i64(), "{told}");
        assert!(told["scope"].is_string() && told["sub"].is_string(), "{told}");
        assert!(told.get("nbf").is_none_or(Value::is_i64), "{told}");
        assert!(told.get("aud").is_none_or(|aud| aud.is_string() || aud.is_array()), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_09() {
    let strict = TENANTS.replace("    name: Acme\n", "    name: Acme\n    revocation: strict\n");
    assert_ne!(strict, TENANTS);
    for (yaml, bound) in [(TENANTS, Duration::from_secs(1)), (strict.as_str(), Duration::ZERO)] {
        let one = TestServer::with(Engine::Postgres, yaml).await;
        let two = one.beside().await;
        let alice = SignedIn::at(&one).await;
        for _ in 0..5 {
            let (tokens, _) = alice.tokens(&one, "web").await;
            let access = &tokens["access_token"];
            assert!(two.is_active("api", access).await);
            is_empty_ok(&revoke(&one, Some(("web", SECRET)), access).await);
            assert!(!one.is_active("api", access).await, "0 s on the same node");
            let revoked = Instant::now();
            while two.is_active("api", access).await {
                assert!(revoked.elapsed() < bound, "still active after {:?}", revoked.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(userinfo_status(&two, access).await, 401);
        }
        two.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_10() {
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        server.advance(Duration::from_secs(100)).await;
        let now = server.clock.now();
        let (before, after) = (now.minus(Duration::from_secs(50)), now);
        let web = || RevocationKey::Client("web".into());
        // The client's is the later one at acme, the tenant's at other.
        for (slug, secret, entries) in [
            ("acme", SECRET, [(RevocationKey::Tenant, before), (web(), after)]),
            ("other", OTHER_SECRET, [(web(), before), (RevocationKey::Tenant, after)]),
        ] {
            let form = Form::of("client_credentials");
            let token = server.url(slug, "/token");
            let token = server.post(&token, Some(("web", secret)), &form.pairs()).await.granted();
            let (url, form) =
                (server.url(slug, "/introspect"), [("token", text(&token["access_token"]))]);
            for ((key, at), active) in entries.into_iter().zip([true, false]) {
                not_before(&server, slug, key, at).await;
                let told = server.post(&url, Some(("api", secret)), &form).await;
                assert_eq!((told.status, &told.json()["active"]), (200, &json!(active)), "{slug}");
                assert!(active || told.body == r#"{"active":false}"#, "{}", told.body);
            }
        }
    }
}

async fn not_before(server: &TestServer, slug: &str, key: RevocationKey, at: Timestamp) {
    let now = server.clock.now();
    let expires_at = now.plus(Duration::from_hours(1));
    let entry = Revocation { key, audience: None, not_before: Some(at), expires_at, at: now };
    let store = &server.tenant(slug).store;
    store.append_revocations(&[entry], now, &Audit::default()).await.unwrap();
    server.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_11() {
    for engine in ENGINES {
        for client in ["web", "opaque"] {
            let server = TestServer::start(engine).await;
            let alice = SignedIn::at(&server).await;
            let (tokens, _) = alice.tokens(&server, client).await;
            let access = &tokens["access_token"];
            assert_eq!(userinfo_status(&server, access).await, 200);
            let (store, audit) = (&server.tenant("acme").store, Audit::default());
            let now = server.clock.now();
            let change =
                Change { now, not_after: now.plus(Duration::from_hours(1)), audit: &audit };
            let done = store.set_user_disabled(alice.user, true, &change).await;
            assert_eq!(done.unwrap(), ChangeUser::Changed);
            is_dead(&server, client, &tokens).await;
            let done = store.set_user_disabled(alice.user, false, &change).await;
            assert_eq!(done.unwrap(), ChangeUser::Changed);
            server.advance(Duration::from_secs(11)).await;
            is_dead(&server, client, &tokens).await;

            let (tokens, _) = SignedIn::at(&server).await.tokens(&server, client).await;
            let access = &tokens["access_token"];
            assert_eq!(userinfo_status(&server, access).await, 200);
            let now = server.clock.now();
            let change =
                Change { now, not_after: now.plus(Duration::from_hours(1)), audit: &audit };
            let done = store.set_client_disabled(&ClientId::new(client), true, &change).await;
            assert_eq!(done.unwrap(), SetClientState::Changed);
            server.settle().await;
            assert!(!server.is_active("api", access).await, "{engine:?} {client}");
            assert_eq!(userinfo_status(&server, access).await, 401, "{engine:?} {client}");
        }
    }
}

/// Neither token is active any more, for the API or its own client.
async fn is_dead(server: &TestServer, client: &str, tokens: &Value) {
    server.settle().await;
    let access = &tokens["access_token"];
    assert!(!server.is_active("api", access).await, "{client}");
    assert!(!server.is_active(client, access).await, "{client}");
    assert!(!server.is_active(client, &tokens["refresh_token"]).await, "{client}");
    assert_eq!(userinfo_status(server, access).await, 401, "{client}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_12() {
    let server = TestServer::start(Engine::Memory).await;
    let tokens = tokens(&server, "web").await;
    for unknown in ["x", "a.b.c", "pmp_at_x", "pmp_rt_x", "%00", " "] {
        is_empty_ok(&revoke(&server, Some(("web", SECRET)), &json!(unknown)).await);
    }
    for token in [&tokens["access_token"], &tokens["refresh_token"]] {
        is_empty_ok(&revoke(&server, Some(("opaque", SECRET)), token).await); // not its own
        assert!(server.is_active("web", token).await);
    }
    for action in [Action::TokenRevoked, Action::GrantRevoked] {
        assert_eq!(server.times(action).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_14() {
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        for client in ["web", "opaque"] {
            let one = tokens(&server, client).await;
            let refresh = Form::refresh(text(&one["refresh_token"]));
            let two = server.ask(client, &refresh).await.granted();
            for _ in 0..2 {
                is_empty_ok(&revoke(&server, Some((client, SECRET)), &two["refresh_token"]).await);
                is_dead(&server, client, &one).await;
                is_dead(&server, client, &two).await;
            }
            let refresh = Form::refresh(text(&two["refresh_token"]));
            server.ask(client, &refresh).await.is_refusal(400, "invalid_grant");
        }
        assert_eq!(server.times(Action::GrantRevoked).await, 2, "{engine:?}: once each");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_15() {
    for engine in ENGINES {
        let server = TestServer::start(engine).await;
        let tokens = tokens(&server, "web").await;
        let access = &tokens["access_token"];
        let (jti, exp) = {
            let claims = claims_of(text(access));
            (text(&claims["jti"]).to_owned(), claims["exp"].as_i64().expect("a time"))
        };
        is_empty_ok(&revoke(&server, Some(("web", SECRET)), access).await);
        assert!(!server.is_active("api", access).await, "{engine:?}");
        assert!(!server.is_active("web", access).await, "{engine:?}");
        assert_eq!(userinfo_status(&server, access).await, 401, "{engine:?}");
        let last = Timestamp::from_seconds(exp + 60).minus(Duration::from_millis(1));
        let listed = server.app.store.revocation_snapshot(last).await.unwrap().entries;
        let uid = &server.tenant("acme").uid;
        let is_it = |key: &RevocationKey| *key == RevocationKey::Jti(jti.clone());
        let found = listed.iter().find(|entry| is_it(&entry.revocation.key)).expect("listed");
        assert_eq!((&found.tenant, found.revocation.not_before), (uid, None), "{engine:?}");
        // It goes alone: the refresh token is another credential (and revokes all when revoked).
        let refresh = Form::refresh(text(&tokens["refresh_token"]));
        let next = server.ask("web", &refresh).await.granted();
        assert!(server.is_active("api", &next["access_token"]).await, "{engine:?}");
        assert!(!server.is_active("api", access).await, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_17() {
    let server = TestServer::start(Engine::Memory).await;
    let tokens = tokens(&server, "web").await;
    let url = server.url("acme", "/revoke");
    for token in [&tokens["access_token"], &tokens["refresh_token"]] {
        revoke(&server, None, token).await.is_refusal(401, "invalid_client");
        revoke(&server, Some(("web", "guess")), token).await.is_refusal(401, "invalid_client");
        let named = [("token", text(token)), ("client_id", "web")];
        server.post(&url, None, &named).await.is_refusal(401, "invalid_client");
        let other_way = [("token", text(token)), ("client_id", "web"), ("client_secret", SECRET)];
        server.post(&url, None, &other_way).await.is_refusal(401, "invalid_client");
        assert!(server.is_active("web", token).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_19() {
    for engine in ENGINES {
        for format in [AccessTokenFormat::Jwt, AccessTokenFormat::Opaque] {
            let server = TestServer::start(engine).await;
            let jti = access::new_jti(&SystemEntropy);
            let ours = with_jti(&server, "acme", &jti, format).await;
            let theirs = with_jti(&server, "other", &jti, format).await;
            for (slug, secret, token) in [("acme", SECRET, &ours), ("other", OTHER_SECRET, &theirs)]
            {
                assert!(is_active_at(&server, slug, secret, token).await);
            }
            is_empty_ok(&revoke(&server, Some(("web", SECRET)), &json!(ours)).await);
            assert!(!is_active_at(&server, "acme", SECRET, &ours).await, "{engine:?}");
            assert!(is_active_at(&server, "other", OTHER_SECRET, &theirs).await, "{engine:?}");
            server.advance(Duration::from_secs(5)).await;
            assert!(is_active_at(&server, "other", OTHER_SECRET, &theirs).await, "{engine:?}");
        }
    }
}

/// An access token of `web` itself with a `jti` of our choice.
async fn with_jti(server: &TestServer, slug: &str, jti: &str, format: AccessTokenFormat) -> String {
    let (tenant, now) = (server.tenant(slug), server.clock.now());
    let claims = AccessClaims {
        jti: jti.to_owned(),
        client: ClientId::new("web"),
        user: None,
        subject: "web".into(),
        audience: vec![API.into()],
        scope: Scope::parse("orders:read").unwrap(),
        grant: None,
        session: None,
        generation: None,
        auth_time: None,
        acr: None,
        amr: vec![],
        issued_at: now,
        expires_at: now.plus(Duration::from_mins(10)),
        status: None,
    };
    let minted = access::mint(&tenant, &claims, format, now, &SystemEntropy).await.unwrap();
    if let Some(row) = &minted.opaque {
        tenant.store.issue_access_token(row).await.unwrap();
    }
    minted.token.reveal().clone()
}

async fn is_active_at(server: &TestServer, slug: &str, secret: &str, token: &str) -> bool {
    let url = server.url(slug, "/introspect");
    let told = server.post(&url, Some(("api", secret)), &[("token", token)]).await;
    assert_eq!(told.status, 200, "{told:?}");
    told.json()["active"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_20() {
    let server = TestServer::start(Engine::Memory).await;
    let token = server.client_token("web").await;
    // The second one is registered by a client of acme: for token, revocation and userinfo.
    for origin in ["https://evil.example", "http://localhost:5173"] {
        for path in ["/introspect", "/revoke"] {
            let url = server.url("acme", path);
            let query = format!("{url}?callback=foo&token={token}");
            let get = server.http.get(query).basic_auth("web", Some(SECRET));
            let get = Answer::of(get.header("origin", origin).send().await.unwrap()).await;
            assert_eq!(get.status, 405, "{get:?}");
            let form = [("token", token.as_str()), ("callback", "foo")];
            let post = server.http.post(&url).basic_auth("web", Some(SECRET)).form(&form);
            let post = Answer::of(post.header("origin", origin).send().await.unwrap()).await;
            assert!(!post.body.contains("foo"), "{post:?}");
            for answer in [&get, &post] {
                assert!(!answer.header("content-type").contains("javascript"), "{answer:?}");
                let shared = answer.header("access-control-allow-origin");
                let registered = path == "/revoke" && origin == "http://localhost:5173";
                assert_eq!(shared, if registered { origin } else { "" }, "{path} {origin}");
                assert_eq!(answer.header("access-control-allow-credentials"), "");
            }
            if path == "/introspect" && post.status == 200 {
                assert!(post.json().is_object(), "{post:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_23() {
    let server = TestServer::start(Engine::Memory).await;
    let tokens = tokens(&server, "web").await;
    let access = text(&tokens["access_token"]);
    let url = server.url("acme", "/userinfo");
    let in_query = format!("{url}?access_token={access}");
    let body = [("access_token", access)];
    let header = format!("Bearer {access}");
    let requests = [
        server.http.get(&in_query),
        server.http.post(&in_query),
        server.http.get(&in_query).header("authorization", &header),
        server.http.post(&url).header("authorization", &header).form(&body),
        server.http.get(&url).header("authorization", &header).header("authorization", &header),
        server.http.post(&url).form(&[("access_token", access), ("access_token", access)]),
    ];
    for (number, request) in requests.into_iter().enumerate() {
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert!(matches!(answer.status, 400 | 401), "{number}: {answer:?}");
        assert!(answer.json().get("sub").is_none(), "{number}: {answer:?}");
    }
    assert_eq!(userinfo(&server, &header).await.status, 200);
    let in_body = Answer::of(server.http.post(&url).form(&body).send().await.unwrap()).await;
    assert_eq!(in_body.status, 200, "{in_body:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_24() {
    let server = TestServer::start(Engine::Memory).await;
    let tokens = tokens(&server, "web").await;
    let access = text(&tokens["access_token"]);
    for good in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let answer = userinfo(&server, &format!("{good} {access}")).await;
        assert_eq!(answer.status, 200, "{good}: {answer:?}");
    }
    for bad in [
        format!("Bearer\t{access}"),
        format!("Bearer  {access}"),
        format!("Bearer {access},{access}"),
        format!("Bearer {access} {access}"),
        format!("Bearer,{access}"),
        format!("Bearer{access}"),
        format!("Bearer \"{access}\""),
        format!("Bearer {access}\t."),
        format!("Token {access}"),
        format!("Basic {access}"),
        access.to_owned(),
        "Bearer".to_owned(),
    ] {
        let answer = userinfo(&server, &bad).await;
        assert_eq!(answer.status, 401, "{bad:?}: {answer:?}");
        assert!(answer.header("www-authenticate").starts_with("Bearer "), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_introrev_25() {
    let server = TestServer::start(Engine::Memory).await;
    let tokens = tokens(&server, "web").await;
    let access = text(&tokens["access_token"]);
    // 64 bytes are 86 letters; the last four bits of the last letter say nothing.
    let (head, last) = access.split_at(access.len() - 1);
    let place = BASE64URL.iter().position(|letter| *letter == last.as_bytes()[0]).unwrap();
    assert_eq!(place % 16, 0, "an ES256 signature in its one spelling");
    let mut twins: Vec<Value> = (1..16)
        .map(|bits| json!(format!("{head}{}", char::from(BASE64URL[place + bits]))))
        .collect();
    twins.extend([json!(format!("{access}=")), json!(format!("{access}=="))]);
    for revoked in [false, true] {
        for twin in &twins {
            assert!(!server.is_active("api", twin).await, "{twin}");
            assert_eq!(userinfo_status(&server, twin).await, 401, "{twin}");
            // It cannot be revoked by a spelling that is none, either; nor does that do harm.
            is_empty_ok(&revoke(&server, Some(("web", SECRET)), twin).await);
        }
        assert_eq!(server.is_active("api", &tokens["access_token"]).await, !revoked);
        is_empty_ok(&revoke(&server, Some(("web", SECRET)), &tokens["access_token"]).await);
    }
}
