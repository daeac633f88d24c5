use pmp_auth::base::{Clock, Digest, base64url};
use pmp_auth::storage::{Engine, TakePushed};

use crate::support::browser::{Asking, Browser, Page};
use crate::support::server::{PASSWORD, TestServer};

async fn signed_in(server: &TestServer) -> Browser {
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    browser.decide(&page, "allow").await;
    browser
}

async fn is_signed_in(server: &TestServer, browser: &Browser) -> bool {
    let request = Asking::of("web").with("prompt", "none");
    let answer: Page = browser.get(request.at(&server.issuer("acme"))).await;
    answer.sent("code").is_some()
}

on_every_server! { logging_out_is_confirmed_and_ends_the_session }

async fn logging_out_is_confirmed_and_ends_the_session(engine: Engine) {
    let server = TestServer::start(engine).await;
    let browser = signed_in(&server).await;
    let page = browser.open(server.url("acme", "/logout")).await;
    assert_eq!(page.heading(), "Sign out of Acme?");
    assert!(is_signed_in(&server, &browser).await, "asking ends nothing");
    let page = browser.submit(&page, &[("decision", "logout")]).await;
    assert_eq!((page.status, page.heading().as_str()), (200, "Signed out"));
    assert!(!is_signed_in(&server, &browser).await);
    let page = browser.open(server.url("acme", "/logout")).await;
    assert_eq!(page.heading(), "Signed out");
    server.stop().await;
}

#[tokio::test]
async fn staying_changes_nothing() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = signed_in(&server).await;
    let page = browser.open(server.url("acme", "/logout")).await;
    let page = browser.submit(&page, &[("decision", "stay")]).await;
    assert_eq!(page.heading(), "Still signed in");
    assert!(is_signed_in(&server, &browser).await);
    server.stop().await;
}

#[tokio::test]
async fn a_registered_address_is_gone_to_with_the_state() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = signed_in(&server).await;
    let fields = [
        ("client_id", "web"),
        ("post_logout_redirect_uri", "http://localhost:3000/bye"),
        ("state", "a b&c"),
    ];
    // By POST, as applications may.
    let answer = browser.post(server.url("acme", "/logout"), &fields).await;
    assert_eq!(answer.status, 303);
    let page = browser.follow(answer).await;
    assert_eq!(page.heading(), "Sign out of Acme?");
    let answer = browser.submit(&page, &[("decision", "logout")]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.next().unwrap().as_str(), "http://localhost:3000/bye?state=a+b%26c");
    server.stop().await;
}

#[tokio::test]
async fn of_what_is_posted_only_a_small_form_is_kept() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    for path in ["/logout", "/authorize"] {
        let json = server.http.post(server.url("acme", path));
        let json = json.header("content-type", "application/json").body("state=1&client_id=web");
        assert_eq!(json.send().await.unwrap().status(), 400, "{path}");
    }
    let long = "x".repeat(4096);
    let answer = browser.post(server.url("acme", "/logout"), &[("state", &long)]).await;
    answer.is_error_page();
    assert!(answer.body.contains("longer than 4 KiB"), "{}", answer.body);
    let answer = browser.post(server.url("acme", "/logout"), &[("junk", &long)]).await;
    assert_eq!((answer.status, answer.sent("pushed")), (303, None), "nothing is kept of it");
    let fields = [("state", "x"), ("junk", &long)];
    let answer = browser.post(server.url("acme", "/logout"), &fields).await;
    let id = answer.sent("pushed").unwrap();
    let id = Digest::of(&base64url::decode(&id).unwrap());
    let now = Clock::now(&server.clock);
    let kept = server.tenant("acme").store.take_request(&id, now).await.unwrap();
    assert_eq!(kept, TakePushed::Taken("state=x".into()));
    server.stop().await;
}

#[tokio::test]
async fn one_address_has_sixty_posts_a_minute_kept() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let authorize = Asking::of("web");
    for _ in 0..30 {
        let answer = browser.post(server.url("acme", "/logout"), &[("state", "x")]).await;
        assert!(answer.sent("pushed").is_some());
        let answer = browser.post(server.url("acme", "/authorize"), &authorize.pairs()).await;
        assert!(answer.sent("pushed").is_some());
    }
    for path in ["/logout", "/authorize"] {
        let answer = browser.post(server.url("acme", path), &authorize.pairs()).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{path}");
        assert_eq!(answer.heading(), "Too many attempts");
    }
    let other = browser.post(server.url("other", "/logout"), &[("state", "x")]).await;
    assert!(other.sent("pushed").is_some(), "tenants are counted apart");
    server.clock.advance(std::time::Duration::from_secs(1));
    let answer = browser.post(server.url("acme", "/authorize"), &authorize.pairs()).await;
    assert_eq!(browser.follow(answer).await.heading(), "Sign in");
    server.stop().await;
}
