use pmp_auth::storage::Engine;

use crate::support::browser::{Asking, Browser, callback};
use crate::support::server::{PASSWORD, TestServer};

#[tokio::test]
async fn denying_tells_the_client_and_nothing_is_remembered() {
    let server = TestServer::start(Engine::Memory).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    let answer = browser.decide(&page, "deny").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.sent("error").as_deref(), Some("access_denied"));
    assert_eq!(answer.sent("state").as_deref(), Some("st-1"));
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    assert_eq!(page.heading(), "Allow Acme Web to use your account?");
    server.stop().await;
}

#[tokio::test]
async fn asking_for_consent_asks_again() {
    let server = TestServer::start(Engine::Memory).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    browser.decide(&page, "allow").await;
    let page = browser.open(Asking::of("web").with("prompt", "consent").at(&issuer)).await;
    assert_eq!(page.heading(), "Allow Acme Web to use your account?");
    assert!(browser.decide(&page, "allow").await.sent("code").is_some());
    server.stop().await;
}

#[tokio::test]
async fn someone_else_can_sign_in_instead() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    let page = browser.decide(&page, "other").await;
    assert_eq!(page.heading(), "Sign in");
    let page = browser.sign_in(&page, "bob", PASSWORD).await;
    assert!(page.body.contains("Bob Brown"), "{}", page.body);
    assert!(browser.decide(&page, "allow").await.sent("code").is_some());
    server.stop().await;
}

#[tokio::test]
async fn offline_access_and_resources_are_said_in_words() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let request = Asking::of("web")
        .with("scope", "openid offline_access")
        .with("resource", "https://files.acme.example");
    let page = browser.open(request.at(&server.issuer("acme"))).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    assert!(page.body.contains("Stay signed in and act when you are away"), "{}", page.body);
    assert!(!page.body.contains("offline_access"), "{}", page.body);
    let foreign = Asking::of("web").with("resource", "https://evil.example");
    let answer = browser.get(foreign.at(&server.issuer("acme"))).await;
    answer.is_redirected_error(callback("web"), "invalid_target");
    server.stop().await;
}
