//! Cases of the authorization endpoint.

use pmp_auth::model::Audit;
use pmp_auth::storage::Engine;
use reqwest::Method;

use crate::support::browser::{Asking, Browser, CHALLENGE, VERIFIER, callback};
use crate::support::server::{PASSWORD, TENANTS, TestServer};

async fn server() -> TestServer {
    TestServer::start(Engine::Memory).await
}

async fn ask(server: &TestServer, request: &Asking) -> crate::support::browser::Page {
    Browser::new().get(request.at(&server.issuer("acme"))).await
}

#[tokio::test]
async fn sec_authz_01() {
    let server = server().await;
    ask(&server, &Asking::of("web").without("client_id")).await.is_error_page();
    ask(&server, &Asking::of("web").with("client_id", "")).await.is_error_page();
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_02() {
    let server = server().await;
    let page = ask(&server, &Asking::of("nobody")).await;
    page.is_error_page();
    assert!(!page.text().contains("localhost:3000"), "{}", page.body);
    let page = ask(&server, &Asking::of("web").with("client_id", "a\0b")).await;
    page.is_error_page();
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_03() {
    let disabled =
        TENANTS.replacen("client_id: web\n", "client_id: web\n        enabled: false\n", 1);
    assert_ne!(disabled, TENANTS);
    let off = TestServer::with(Engine::Memory, &disabled).await;
    let (known, unknown) =
        (ask(&off, &Asking::of("web")).await, ask(&off, &Asking::of("no")).await);
    known.is_error_page();
    let body = |page: &crate::support::browser::Page| {
        page.body.split("<footer").next().unwrap().to_owned()
    };
    assert_eq!(body(&known), body(&unknown));
    off.stop().await;
}

#[tokio::test]
async fn sec_authz_04() {
    let server = server().await;
    for other in ["token", "id_token", "code token", "code id_token", "none", "CODE"] {
        let page = ask(&server, &Asking::of("web").with("response_type", other)).await;
        page.is_redirected_error(callback("web"), "unsupported_response_type");
        assert_eq!(page.sent("state").as_deref(), Some("st-1"));
        assert_eq!(page.sent("access_token"), None);
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_09() {
    let server = server().await;
    for (name, value) in [("scope", "openid"), ("code_challenge", CHALLENGE)] {
        let page = ask(&server, &Asking::of("web").and(name, value)).await;
        page.is_redirected_error(callback("web"), "invalid_request");
        assert_eq!(page.sent("state").as_deref(), Some("st-1"));
    }
    let page = ask(&server, &Asking::of("web").and("state", "other")).await;
    page.is_redirected_error(callback("web"), "invalid_request");
    assert_eq!(page.sent("state"), None);
    for name in ["client_id", "redirect_uri"] {
        ask(&server, &Asking::of("web").and(name, "x")).await.is_error_page();
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_10() {
    let server = server().await;
    let browser = Browser::new();
    let request = Asking::of("web").with("scope", "").with("state", "");
    let page = browser.open(request.at(&server.issuer("acme"))).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    let answer = browser.decide(&page, "allow").await;
    assert!(answer.sent("code").is_some());
    assert_eq!(answer.sent("state"), None);
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_11() {
    let server = server().await;
    let many = (0..50).fold(Asking::of("web"), |ask, n| ask.with(&format!("foo{n}"), "bar"));
    let page = Browser::new().open(many.at(&server.issuer("acme"))).await;
    assert_eq!(page.heading(), "Sign in");
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_13() {
    let server = server().await;
    let long = (0..600).map(|n| format!("s{n}")).collect::<Vec<_>>().join(" ");
    for bad in ["openid \"x\"", "openid \\", "openid  email", "openid \u{e9}", "unknown", &long] {
        let page = ask(&server, &Asking::of("web").with("scope", bad)).await;
        page.is_redirected_error(callback("web"), "invalid_scope");
    }
    let page = ask(&server, &Asking::of("web").with("scope", "openid\u{1}")).await;
    page.is_redirected_error(callback("web"), "invalid_request");
    let huge = "x".repeat(10 * 1024);
    assert_eq!(ask(&server, &Asking::of("web").with("scope", &huge)).await.status, 414);
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_15() {
    let server = server().await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    browser.decide(&page, "allow").await;
    let more = Asking::of("web").with("scope", "openid email").with("prompt", "none");
    let answer = browser.get(more.at(&issuer)).await;
    answer.is_redirected_error(callback("web"), "consent_required");
    let stranger = ask(&server, &Asking::of("web").with("prompt", "none")).await;
    stranger.is_redirected_error(callback("web"), "login_required");
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_18() {
    let server = server().await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    browser.decide(&page, "allow").await;
    // Even one of this very moment is too old for 0.
    for (wait, max_age) in [(0, "0"), (10, "0"), (10, "1")] {
        server.clock.advance(std::time::Duration::from_secs(wait));
        let page = browser.open(Asking::of("web").with("max_age", max_age).at(&issuer)).await;
        assert_eq!(page.heading(), "Confirm that it is you", "{max_age} after {wait} s");
        let code = browser.sign_in(&page, "alice", PASSWORD).await.sent("code").unwrap();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", callback("web")),
            ("code_verifier", VERIFIER),
        ];
        let tokens = server.token("web", &form).await.json();
        let payload = tokens["id_token"].as_str().unwrap().split('.').nth(1).unwrap();
        let claims = pmp_auth::base::base64url::decode(payload).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let now = pmp_auth::base::Clock::now(&server.clock).seconds();
        assert_eq!(claims["auth_time"], now);
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_19() {
    let server = server().await;
    for bad in ["-1", "abc", "1e3", "9223372036854775808", " 5"] {
        let page = ask(&server, &Asking::of("web").with("max_age", bad)).await;
        page.is_redirected_error(callback("web"), "invalid_request");
    }
    server.stop().await;
}

on_every_server! { sec_authz_21 sec_authz_22 sec_authz_24 sec_authz_26 sec_authz_27 }

async fn sec_authz_21(engine: Engine) {
    let server = TestServer::start(engine).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let form = &page.forms()[0];
    let hidden = |name: &str| {
        form.fields.iter().find(|(other, _)| other == name).expect("a field").1.clone()
    };
    let (txn, csrf) = (hidden("txn"), hidden("csrf"));
    let fields = [("txn", txn.as_str()), ("csrf", &csrf), ("decision", "allow")];
    let answer = browser.post(server.url("acme", "/consent"), &fields).await;
    assert_eq!((answer.status, answer.next()), (403, None));
    // The transaction is as it was.
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    assert!(browser.decide(&page, "allow").await.sent("code").is_some());
    server.stop().await;
}

async fn sec_authz_22(engine: Engine) {
    let server = TestServer::start(engine).await;
    let issuer = server.issuer("acme");
    let victim = Browser::new();
    let page = victim.open(Asking::of("web").at(&issuer)).await;
    let txn = page.url.query_pairs().find(|(name, _)| name == "txn").unwrap().1.into_owned();
    victim.sign_in(&page, "alice", PASSWORD).await;
    // One without any cookie, one with a cookie of its own, and one who is signed in.
    let (stranger, begun, signed_in) = (Browser::new(), Browser::new(), Browser::new());
    begun.open(Asking::of("web").at(&issuer)).await;
    let own = signed_in.open(Asking::of("web").at(&issuer)).await;
    signed_in.sign_in(&own, "bob", PASSWORD).await;
    for second in [stranger, begun, signed_in] {
        for path in ["/authorize", "/login", "/consent"] {
            let url = format!("{}?txn={txn}", server.url("acme", path));
            second.get(url).await.is_error_page();
        }
    }
    server.stop().await;
}

async fn sec_authz_24(engine: Engine) {
    let server = TestServer::start(engine).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page = browser.open(Asking::of("native").at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    assert!(browser.decide(&page, "allow").await.sent("code").is_some());
    let page = browser.open(Asking::of("native").at(&issuer)).await;
    assert_eq!(page.heading(), "Allow native to use your account?");
    let silent = browser.get(Asking::of("native").with("prompt", "none").at(&issuer)).await;
    silent.is_redirected_error(callback("native"), "consent_required");
    server.stop().await;
}

async fn sec_authz_26(engine: Engine) {
    let server = TestServer::start(engine).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let request = Asking::of("web").with("scope", "openid offline_access");
    let page = browser.open(request.at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    let code = browser.decide(&page, "allow").await.sent("code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", callback("web")),
        ("code_verifier", VERIFIER),
    ];
    let tokens = server.token("web", &form).await.json();
    let tenant = server.tenant("acme");
    let login = pmp_auth::model::user::LoginName::canonical("alice");
    let alice = tenant.store.find_user_by_login(&login).await.unwrap().unwrap();
    let now = pmp_auth::base::Clock::now(&server.clock);
    let web = pmp_auth::model::ClientId::new("web");
    let withdrawn = tenant.store.withdraw_consent(alice.id, &web, now, &Audit::default()).await;
    assert_eq!(withdrawn.unwrap(), pmp_auth::storage::WithdrawConsent::Withdrawn { grants: 1 });
    let answer = browser.get(request.with("prompt", "none").at(&issuer)).await;
    answer.is_redirected_error(callback("web"), "consent_required");
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    assert_eq!(server.token("web", &form).await.error(), "invalid_grant");
    let bearer = tokens["access_token"].as_str().unwrap();
    let userinfo = server.http.get(server.url("acme", "/userinfo")).bearer_auth(bearer);
    assert_eq!(userinfo.send().await.unwrap().status(), 401);
    server.stop().await;
}

async fn sec_authz_27(engine: Engine) {
    let server = TestServer::start(engine).await;
    let browser = Browser::new();
    let mut seen = Vec::new();
    let answer = browser.get(Asking::of("spa").at(&server.issuer("acme"))).await;
    seen.push(answer.status);
    let page = browser.follow(answer).await;
    let fields = [("username", "alice"), ("password", PASSWORD)];
    let answer = browser.submit(&page, &fields).await;
    seen.push(answer.status);
    let page = browser.follow(answer).await;
    let answer = browser.submit(&page, &[("decision", "allow")]).await;
    seen.push(answer.status);
    seen.push(
        browser.post(server.url("acme", "/authorize"), &Asking::of("spa").pairs()).await.status,
    );
    assert!(seen.iter().all(|status| matches!(status, 200 | 303)), "{seen:?}");
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_30() {
    let server = server().await;
    for mode in ["fragment", "jwt", "web_message", "form_post", "../x"] {
        let page = ask(&server, &Asking::of("web").with("response_mode", mode)).await;
        page.is_redirected_error(callback("web"), "invalid_request");
        assert_eq!(page.next().unwrap().fragment(), None);
    }
    let page = ask(&server, &Asking::of("web").with("response_mode", "query")).await;
    assert_eq!(page.sent("error"), None);
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_31() {
    let server = server().await;
    for name in ["login_hint", "ui_locales", "nonce"] {
        for value in ["<script>alert(1)</script>", "../../etc/passwd"] {
            let page = Browser::new()
                .open(Asking::of("web").with(name, value).at(&server.issuer("acme")))
                .await;
            assert_eq!((page.status, page.heading().as_str()), (200, "Sign in"));
            assert!(!page.body.contains("<script"), "{}", page.body);
        }
        let page = ask(&server, &Asking::of("web").with(name, &"x".repeat(5_000))).await;
        page.is_redirected_error(callback("web"), "invalid_request");
    }
    server.stop().await;
}

on_every_server! { @ on_each, Memory, sec_authz_32 }

async fn sec_authz_32(engine: Engine) {
    let server = TestServer::start(engine).await;
    let issuer = server.issuer("acme");
    let mut hints = Vec::new();
    let mut browsers = Vec::new();
    for user in ["alice", "bob"] {
        let browser = Browser::new();
        let page = browser.open(Asking::of("web").at(&issuer)).await;
        let page = browser.sign_in(&page, user, PASSWORD).await;
        let code = browser.decide(&page, "allow").await.sent("code").unwrap();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", callback("web")),
            ("code_verifier", VERIFIER),
        ];
        let tokens = server.token("web", &form).await.json();
        hints.push(tokens["id_token"].as_str().unwrap().to_owned());
        browsers.push(browser);
    }
    let asking = |hint: &str| {
        Asking::of("web").with("id_token_hint", hint).with("prompt", "none").at(&issuer)
    };
    let answer = browsers[0].get(asking(&hints[1])).await;
    answer.is_redirected_error(callback("web"), "login_required");
    assert!(browsers[0].get(asking(&hints[0])).await.sent("code").is_some());
    let answer = browsers[0].get(asking("not.a.token")).await;
    answer.is_redirected_error(callback("web"), "login_required");
    // Asked openly, the other one may sign in; nobody else is answered for.
    let open = Asking::of("web").with("id_token_hint", &hints[1]).at(&issuer);
    let page = browsers[0].open(&open).await;
    assert_eq!(page.heading(), "Sign in");
    let answer = browsers[0].sign_in(&page, "alice", PASSWORD).await;
    assert_eq!(answer.sent("error").as_deref(), Some("login_required"));
    let page = browsers[0].open(&open).await;
    assert!(browsers[0].sign_in(&page, "bob", PASSWORD).await.sent("code").is_some());
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_34() {
    let server = server().await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let consent = browser.sign_in(&page, "alice", PASSWORD).await;
    server.clock.advance(std::time::Duration::from_mins(29));
    // The session is used meanwhile, the transaction is not.
    browser.get(server.url("acme", "/logout")).await;
    server.clock.advance(std::time::Duration::from_mins(2));
    let answer = browser.submit(&consent, &[("decision", "allow")]).await;
    answer.is_error_page();
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_35() {
    let server = server().await;
    for name in ["scope", "prompt", "claims", "code_challenge", "response_mode", "max_age"] {
        let page = ask(&server, &Asking::of("web").with(name, "\u{1f600}\"\\")).await;
        assert_eq!(page.status, 303, "{name}");
        let error = page.sent("error").unwrap();
        page.is_redirected_error(callback("web"), &error);
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_authz_37() {
    let server = server().await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    browser.decide(&page, "allow").await;
    let answer = browser.send(Method::HEAD, &Asking::of("web").at(&issuer), &[], None).await;
    assert_eq!((answer.status, answer.next()), (405, None));
    server.stop().await;
}
