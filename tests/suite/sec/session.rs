//! Cases of sessions and forms.

use std::time::Duration;

use pmp_auth::base::Clock as _;
use pmp_auth::model::Audit;
use pmp_auth::model::user::{LoginName, User};
use pmp_auth::storage::{Change, ChangeUser, Engine};
use reqwest::Method;
use reqwest::header::SET_COOKIE;

use crate::support::browser::{Asking, Browser, Page};
use crate::support::server::{PASSWORD, TestServer};

on_every_server! {
    sec_session_01
    sec_session_11
    sec_session_13
    sec_session_14
}

fn cookie(page: &Page, kind: &str) -> Option<String> {
    let lines = page.headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.filter_map(|line| line.split(';').next()?.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.ends_with(kind));
    values.next().map(|(name, value)| format!("{name}={value}"))
}

async fn log_in(server: &TestServer, browser: &Browser, user: &str) -> Page {
    let request = Asking::of("web").with("prompt", "login");
    let page = browser.open(request.at(&server.issuer("acme"))).await;
    browser.submit(&page, &[("username", user), ("password", PASSWORD)]).await
}

/// Whether a cookie opens a session.
async fn opens(server: &TestServer, cookie: &str) -> bool {
    let headers = [("cookie", cookie)];
    let url = server.url("acme", "/logout");
    let page = Browser::new().send(Method::GET, &url, &headers, None).await;
    page.heading() == "Sign out of Acme?"
}

async fn user(server: &TestServer, name: &str) -> User {
    let store = &server.tenant("acme").store;
    store.find_user_by_login(&LoginName::canonical(name)).await.unwrap().unwrap()
}

async fn sec_session_01(engine: Engine) {
    let server = TestServer::start(engine).await;
    let browser = Browser::new();
    let first = cookie(&log_in(&server, &browser, "alice").await, "_sid").unwrap();
    assert!(opens(&server, &first).await);
    let second = cookie(&log_in(&server, &browser, "alice").await, "_sid").unwrap();
    assert_ne!(first, second);
    assert!(opens(&server, &second).await);
    assert!(!opens(&server, &first).await, "the old value is unknown afterwards");
    // A value that someone planted before sign-in is not taken over.
    let planted = format!("{}=planted", first.split_once('=').unwrap().0);
    assert!(!opens(&server, &planted).await);
    server.stop().await;
}

#[tokio::test]
async fn sec_session_05() {
    let server = TestServer::start(Engine::Memory).await;
    let issuer = server.issuer("acme");
    let (browser, other) = (Browser::new(), Browser::new());
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    let foreign = other.open(Asking::of("web").at(&issuer)).await;
    let field = |page: &Page, name: &str| {
        let form = page.forms().remove(0);
        form.fields.into_iter().find(|(other, _)| other == name).unwrap().1
    };
    let good = [("username", "alice"), ("password", PASSWORD)];
    for token in ["", "x", &field(&foreign, "csrf")] {
        let fields = [good[0], good[1], ("csrf", token)];
        let answer = browser.submit(&page, &fields).await;
        assert_eq!((answer.status, cookie(&answer, "_sid")), (403, None), "{token}");
    }
    for headers in [
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
        [("origin", "https://evil.example")],
    ] {
        let answer = browser.submit_with(&page, &good, &headers).await;
        assert_eq!((answer.status, cookie(&answer, "_sid")), (403, None), "{headers:?}");
    }
    let headers = [("sec-fetch-site", "same-origin"), ("origin", "null")];
    let answer = browser.submit_with(&page, &good, &headers).await;
    assert!(cookie(&answer, "_sid").is_some());
    server.stop().await;
}

#[tokio::test]
async fn sec_session_07() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let answer = browser.get(Asking::of("web").at(&server.issuer("acme"))).await;
    let ours = cookie(&answer, "_bid").unwrap();
    let page = browser.follow(answer).await;
    let (name, _) = ours.split_once('=').unwrap();
    let txn = page.url.query_pairs().find(|(name, _)| name == "txn").unwrap().1.into_owned();
    let fields =
        [("txn", txn.as_str()), ("csrf", "planted"), ("username", "alice"), ("password", PASSWORD)];
    // The token is no copy of the cookie, and the cookie is none that anyone could make.
    for cookie in [format!("{name}=planted"), ours] {
        let headers = [("cookie", cookie.as_str())];
        let url = server.url("acme", "/login");
        let answer = Browser::new().send(Method::POST, &url, &headers, Some(&fields)).await;
        assert_eq!(answer.status, 403, "{cookie}");
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_session_08() {
    let server = TestServer::start(Engine::Memory).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let login = browser.open(Asking::of("web").at(&issuer)).await;
    let wrong = browser.submit(&login, &[("username", "x"), ("password", "x")]).await;
    let forged = browser.submit(&login, &[("csrf", "x")]).await;
    let consent = browser.sign_in(&login, "alice", PASSWORD).await;
    let logout = browser.open(server.url("acme", "/logout")).await;
    let error = browser.get(Asking::of("nobody").at(&issuer)).await;
    let done = browser.submit(&consent, &[("decision", "allow")]).await;
    let missing = browser.get(server.url("acme", "/nothing")).await;
    for page in [login, wrong, forged, consent, logout, error, done, missing] {
        let header = |name| page.header(name).unwrap_or_default().to_owned();
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{page:?}");
        assert!(header("content-security-policy").starts_with("default-src 'none'"), "{page:?}");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(header("cache-control"), "no-store");
        assert!(!page.body.contains("<script") && !page.body.contains("style="), "{}", page.body);
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_session_09() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let session = cookie(&log_in(&server, &browser, "alice").await, "_sid").unwrap();
    let headers = [("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "image")];
    let url = server.url("acme", "/logout");
    let page = browser.send(Method::GET, &url, &headers, None).await;
    assert_eq!(page.heading(), "Sign out of Acme?");
    let answer = browser.send(Method::POST, &url, &headers, Some(&[("decision", "logout")])).await;
    assert_eq!(answer.status, 303);
    assert!(opens(&server, &session).await);
    server.stop().await;
}

#[tokio::test]
async fn sec_session_10() {
    let server = TestServer::start(Engine::Memory).await;
    let bye = "http://localhost:3000/bye";
    for (client, uri) in
        [("web", "http://localhost:3000/evil"), ("spa", bye), ("nobody", bye), ("", bye)]
    {
        let browser = Browser::new();
        log_in(&server, &browser, "alice").await;
        let query = [("client_id", client), ("post_logout_redirect_uri", uri)];
        let url = url::Url::parse_with_params(&server.url("acme", "/logout"), query).unwrap();
        let page = browser.open(url).await;
        assert_eq!(page.heading(), "Sign out of Acme?");
        let answer = browser.submit(&page, &[("decision", "logout")]).await;
        assert_eq!((answer.status, answer.next()), (200, None), "{client} {uri}");
        assert!(!answer.text().contains(uri), "{}", answer.body);
    }
    server.stop().await;
}

async fn sec_session_11(engine: Engine) {
    let server = TestServer::start(engine).await;
    let browser = Browser::new();
    let session = cookie(&log_in(&server, &browser, "alice").await, "_sid").unwrap();
    let page = browser.open(server.url("acme", "/logout")).await;
    browser.submit(&page, &[("decision", "logout")]).await;
    assert!(!opens(&server, &session).await);
    let server = server.restart().await;
    assert!(!opens(&server, &session).await);
    server.stop().await;
}

async fn sec_session_13(engine: Engine) {
    let server = TestServer::start(engine).await;
    let session = cookie(&log_in(&server, &Browser::new(), "alice").await, "_sid").unwrap();
    let alice = user(&server, "alice").await;
    let now = server.clock.now();
    let audit = Audit::default();
    let change = Change { now, not_after: now.plus(Duration::from_mins(11)), audit: &audit };
    let store = &server.tenant("acme").store;
    let disabled = store.set_user_disabled(alice.id, true, &change).await.unwrap();
    assert_eq!(disabled, ChangeUser::Changed);
    assert!(!opens(&server, &session).await);
    let page = log_in(&server, &Browser::new(), "alice").await;
    assert_eq!((page.status, cookie(&page, "_sid")), (422, None));
    server.stop().await;
}

async fn sec_session_14(engine: Engine) {
    let server = TestServer::start(engine).await;
    let session = cookie(&log_in(&server, &Browser::new(), "alice").await, "_sid").unwrap();
    let alice = user(&server, "alice").await;
    let now = server.clock.now();
    let audit = Audit::default();
    let change = Change { now, not_after: now.plus(Duration::from_mins(11)), audit: &audit };
    let password = pmp_auth::identity::Password::typed("another good one").unwrap();
    let hash = server.app.passwords.hash(password).await.unwrap();
    let store = &server.tenant("acme").store;
    let changed = store.set_password(alice.id, &hash, None, &change).await.unwrap();
    assert_eq!(changed, ChangeUser::Changed);
    assert!(!opens(&server, &session).await);
    server.stop().await;
}

#[tokio::test]
async fn sec_session_17() {
    let server = TestServer::start(Engine::Memory).await;
    let page = log_in(&server, &Browser::new(), "alice").await;
    let session = cookie(&page, "_sid").unwrap();
    let (name, value) = session.split_once('=').unwrap();
    assert!(opens(&server, &session).await);
    for at in 0..value.len() {
        let mut other = value.as_bytes().to_vec();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = format!("{name}={}", String::from_utf8(other).unwrap());
        assert!(!opens(&server, &other).await, "{other}");
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_session_22() {
    let server = TestServer::start(Engine::Memory).await;
    let page = log_in(&server, &Browser::new(), "alice").await;
    let session = cookie(&page, "_sid").unwrap();
    let name = session.split_once('=').unwrap().0;
    for value in ["", "!!!", "\"\"", "a b", "%00", "AAAA", &"A".repeat(5000), "=", "\u{e9}"] {
        assert!(!opens(&server, &format!("{name}={value}")).await, "{value}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_idle_session_ends_and_a_used_one_ends_at_its_absolute_end() {
    let server = TestServer::start(Engine::Memory).await;
    let idle = cookie(&log_in(&server, &Browser::new(), "alice").await, "_sid").unwrap();
    let used = cookie(&log_in(&server, &Browser::new(), "alice").await, "_sid").unwrap();
    for _ in 0..2 {
        server.clock.advance(Duration::from_mins(20));
        assert!(opens(&server, &used).await);
    }
    assert!(!opens(&server, &idle).await);
    for _ in 0..34 {
        server.clock.advance(Duration::from_mins(20));
        opens(&server, &used).await;
    }
    assert!(!opens(&server, &used).await, "12 hours are over");
    server.stop().await;
}
