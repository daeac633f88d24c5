use pmp_auth::storage::Engine;

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
