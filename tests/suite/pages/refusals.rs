use pmp_auth::storage::Engine;
use reqwest::Method;

use crate::support::browser::{Asking, Browser};
use crate::support::server::{PASSWORD, TENANTS, TestServer};

#[tokio::test]
async fn a_browser_without_the_cookie_is_told_so() {
    let server = TestServer::start(Engine::Memory).await;
    let issuer = server.issuer("acme");
    let answer = Browser::new().get(Asking::of("web").at(&issuer)).await;
    let login = answer.next().unwrap();
    let page = Browser::new().get(&login).await;
    page.is_error_page();
    assert_eq!(page.heading(), "Cookies are blocked");
    server.stop().await;
}

#[tokio::test]
async fn a_program_that_asks_for_json_gets_json() {
    let server = TestServer::start(Engine::Memory).await;
    let url = Asking::of("nobody").at(&server.issuer("acme"));
    let headers = [("accept", "application/json")];
    let answer = Browser::new().send(Method::GET, &url, &headers, None).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["error"], "invalid_request");
    server.stop().await;
}

#[tokio::test]
async fn only_developers_are_shown_what_is_registered() {
    let wrong = Asking::of("web").with("redirect_uri", "http://localhost:3000/calback");
    for dev in [false, true] {
        let server =
            TestServer::configured(Engine::Memory, TENANTS, |settings| settings.server.dev = dev)
                .await;
        let page = Browser::new().get(wrong.at(&server.issuer("acme"))).await;
        page.is_error_page();
        assert_eq!(page.text().contains("3000/callback"), dev, "{}", page.body);
        assert!(page.body.contains("Request "), "the request's id is on the page");
        server.stop().await;
    }
}

#[tokio::test]
async fn an_interaction_that_was_left_open_too_long_starts_again() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    server.clock.advance(std::time::Duration::from_mins(31));
    let answer = browser.sign_in(&page, "alice", PASSWORD).await;
    answer.is_error_page();
    assert_eq!(answer.heading(), "This took too long");
    server.stop().await;
}

#[tokio::test]
async fn the_style_sheet_may_be_kept_for_ever_and_other_names_are_not_there() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let text = page.text();
    let start = text.find("/assets/").unwrap();
    let path = &text[start..start + text[start..].find('"').unwrap()];
    let sheet = browser.get(format!("{}{path}", server.base)).await;
    assert_eq!(
        (sheet.status, sheet.header("content-type")),
        (200, Some("text/css; charset=utf-8"))
    );
    assert!(sheet.header("cache-control").unwrap().contains("immutable"));
    let other = browser.get(format!("{}/assets/other.css", server.base)).await;
    assert_eq!(other.status, 404);
    server.stop().await;
}
