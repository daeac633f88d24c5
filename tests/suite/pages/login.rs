use pmp_auth::storage::Engine;

use crate::support::browser::{Asking, Browser, callback};
use crate::support::server::{PASSWORD, TestServer};

on_every_server! {
    a_user_signs_in_and_allows_and_the_client_gets_a_code
    a_second_request_is_answered_without_a_page
    signing_in_by_email_is_signing_in
}

async fn a_user_signs_in_and_allows_and_the_client_gets_a_code(engine: Engine) {
    let server = TestServer::start(engine).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page =
        browser.open(Asking::of("web").with("scope", "openid email orders:read").at(&issuer)).await;
    assert_eq!((page.status, page.heading().as_str()), (200, "Sign in"));
    assert!(page.body.contains("Acme Web"), "{}", page.body);
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    assert_eq!(page.heading(), "Allow Acme Web to use your account?");
    assert!(page.body.contains("See your orders"), "{}", page.body);
    let answer = browser.decide(&page, "allow").await;
    // Chrome applies `form-action` to redirects too, so the form ends at a page of ours.
    assert_eq!(answer.status, 200);
    let to = answer.next().unwrap();
    assert!(to.as_str().starts_with(callback("web")), "{to}");
    assert_eq!(answer.sent("state").as_deref(), Some("st-1"));
    assert_eq!(answer.sent("iss").as_deref(), Some(issuer.as_str()));
    let code = answer.sent("code").unwrap();
    assert!(code.starts_with("pmp_ac_"), "{code}");
    assert!(answer.text().contains(&format!("href=\"{to}\"")), "{}", answer.body);
    server.stop().await;
}

async fn a_second_request_is_answered_without_a_page(engine: Engine) {
    let server = TestServer::start(engine).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    browser.decide(&page, "allow").await;
    for request in [Asking::of("web"), Asking::of("web").with("prompt", "none")] {
        let answer = browser.get(request.at(&issuer)).await;
        assert_eq!(answer.status, 303);
        assert!(answer.sent("code").is_some(), "{answer:?}");
    }
    // More than what was allowed is asked for again.
    let more = Asking::of("web").with("scope", "openid email");
    let page = browser.open(more.at(&issuer)).await;
    assert_eq!(page.heading(), "Allow Acme Web to use your account?");
    let answer = browser.get(more.with("prompt", "none").at(&issuer)).await;
    answer.is_redirected_error(callback("web"), "consent_required");
    server.stop().await;
}

async fn signing_in_by_email_is_signing_in(engine: Engine) {
    let server = TestServer::start(engine).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let page = browser.sign_in(&page, " Alice@Example.com", PASSWORD).await;
    assert_eq!(page.heading(), "Allow Acme Web to use your account?");
    assert!(page.body.contains("Alice Adams"), "{}", page.body);
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_password_keeps_the_user_name_and_says_nothing_more() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let mut pages = Vec::new();
    for name in ["alice", "nobody"] {
        let answer = browser.sign_in(&page, name, "wrong").await;
        assert_eq!(answer.status, 422);
        assert!(answer.body.contains("role=\"alert\""), "{}", answer.body);
        assert!(answer.body.contains(&format!("value=\"{name}\"")), "{}", answer.body);
        pages.push(answer.body.replace(name, "NAME"));
    }
    assert_eq!(pages[0], pages[1], "nobody learns which names there are");
    server.stop().await;
}

#[tokio::test]
async fn sign_ins_and_hashes_are_counted() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    browser.sign_in(&page, "alice", "wrong").await;
    browser.sign_in(&page, "alice", PASSWORD).await;
    let metrics = server.app.metrics.render();
    for result in ["succeeded", "wrong"] {
        let line = metrics.lines().find(|line| {
            line.contains("_logins_total{") && line.contains(&format!("result=\"{result}\""))
        });
        assert!(line.is_some_and(|line| line.ends_with(" 1")), "{result}: {metrics}");
    }
    let hashes = metrics.lines().find(|line| line.contains("password_hash_seconds_count"));
    assert!(hashes.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn turning_away_tells_the_client() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    let answer = browser.submit(&page, &[("decision", "cancel")]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.sent("error").as_deref(), Some("access_denied"));
    server.stop().await;
}

#[tokio::test]
async fn the_form_has_what_password_managers_look_for() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let hinted = Asking::of("web").with("login_hint", "a\"><b>lice");
    let page = browser.open(hinted.at(&server.issuer("acme"))).await;
    assert!(page.body.contains("autocomplete=\"username"), "{}", page.body);
    assert!(page.body.contains("autocomplete=\"current-password\""), "{}", page.body);
    assert!(!page.body.contains("<b>lice"), "{}", page.body);
    let form = &page.forms()[0];
    assert!(form.fields.contains(&("username".to_owned(), "a\"><b>lice".to_owned())), "{form:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_new_sign_in_is_asked_for_where_the_request_wants_one() {
    let server = TestServer::start(Engine::Memory).await;
    let issuer = server.issuer("acme");
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&issuer)).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    browser.decide(&page, "allow").await;
    server.clock.advance(std::time::Duration::from_secs(10));
    for (name, value, heading) in [
        ("prompt", "login", "Confirm that it is you"),
        ("max_age", "0", "Confirm that it is you"),
        ("max_age", "1", "Confirm that it is you"),
        ("prompt", "select_account", "Sign in"),
    ] {
        let request = Asking::of("web").with(name, value);
        let page = browser.open(request.at(&issuer)).await;
        assert_eq!(page.heading(), heading, "{name}={value}");
        let answer = browser.sign_in(&page, "alice", PASSWORD).await;
        assert!(answer.sent("code").is_some(), "{name}={value}: {answer:?}");
        server.clock.advance(std::time::Duration::from_secs(10));
    }
    let answer = browser.get(Asking::of("web").with("max_age", "3600").at(&issuer)).await;
    assert!(answer.sent("code").is_some(), "{answer:?}");
    let unasked = Asking::of("web").with("max_age", "1").with("prompt", "none");
    let answer = browser.get(unasked.at(&issuer)).await;
    answer.is_redirected_error(callback("web"), "login_required");
    server.stop().await;
}

#[tokio::test]
async fn a_request_by_post_from_elsewhere_comes_round_by_get() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let url = server.url("acme", "/authorize");
    let answer = browser.post(&url, &Asking::of("web").pairs()).await;
    assert_eq!(answer.status, 303);
    let round = answer.next().unwrap();
    let page = browser.follow(answer).await;
    assert_eq!(page.heading(), "Sign in");
    browser.get(&round).await.is_error_page();
    let bad = Asking::of("web").with("response_type", "token");
    let answer = browser.post(&url, &bad.pairs()).await;
    answer.is_redirected_error(callback("web"), "unsupported_response_type");
    let bad = Asking::of("nobody");
    browser.post(&url, &bad.pairs()).await.is_error_page();
    server.stop().await;
}
