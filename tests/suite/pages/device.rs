//! The user's side of the device flow (RFC 8628 §3.3).

use std::time::Duration;

use pmp_auth::model::Action;
use pmp_auth::model::device::DeviceStatus;
use pmp_auth::model::user::LoginName;
use pmp_auth::storage::Engine;
use reqwest::Method;

use crate::support::browser::{Browser, Page};
use crate::support::device::Device as Polling;
use crate::support::flow::Form;
use crate::support::server::{PASSWORD, TENANTS, TestServer};
use crate::support::typed::{Asks, Device};

on_every_server! {
    a_user_enters_the_code_signs_in_and_allows
    a_device_gets_its_tokens_once_its_user_allowed_it
    whoever_is_signed_in_decides_without_a_login
    the_way_to_a_decision_survives_a_restart
    a_code_of_two_tenants_is_not_found_at_the_short_address
}

async fn user_id(server: &TestServer, name: &str) -> pmp_auth::model::UserId {
    let store = &server.tenant("acme").store;
    store.find_user_by_login(&LoginName::canonical(name)).await.unwrap().unwrap().id
}

async fn is_allowed_by(server: &TestServer, device: &Device, user: &str) {
    let record = server.record(device).await;
    assert_eq!(record.status, DeviceStatus::Approved);
    assert_eq!(record.user, Some(user_id(server, user).await));
    let grant = server.grant(record.grant.unwrap()).await;
    assert_eq!((grant.user, grant.session), (record.user, None), "not of that browser");
    assert_eq!((grant.client, grant.terms.scope), (record.client, record.scope));
    assert_eq!(grant.terms.amr, ["pwd"]);
}

async fn a_user_enters_the_code_signs_in_and_allows(engine: Engine) {
    let server = TestServer::start(engine).await;
    let (browser, device) = (Browser::new(), server.device().await);
    let page = browser.open(server.url("acme", "/device")).await;
    assert_eq!((page.status, page.heading().as_str()), (200, "Enter the code from your device"));
    let typed = format!(" {} ", device.shown().to_lowercase().replace('-', " "));
    let answer = browser.submit(&page, &[("user_code", &typed)]).await;
    assert_eq!(answer.status, 303);
    let card = browser.follow(answer).await;
    assert_eq!(card.heading(), "Is this your device?");
    assert!(card.body.contains("See your orders"), "{}", card.body);
    let login = browser.decide(&card, "continue").await;
    assert_eq!(login.heading(), "Sign in");
    let page = browser.sign_in(&login, "alice", PASSWORD).await;
    assert_eq!(page.heading(), "Allow native on your device?");
    assert_eq!(server.record(&device).await.status, DeviceStatus::Pending);
    let done = browser.decide(&page, "allow").await;
    assert_eq!((done.status, done.heading().as_str()), (200, "You can go back to your device"));
    is_allowed_by(&server, &device, "alice").await;
    for action in [Action::DeviceRequested, Action::DeviceViewed, Action::DeviceApproved] {
        assert_eq!(server.times(action).await, 1, "{action:?}");
    }
    let metrics = server.app.metrics.render();
    for state in ["viewed", "approved"] {
        assert!(
            metrics.contains(&format!("pmp_auth_device_requests_total{{state=\"{state}\"}} 1"))
        );
    }
    // Sent once more, it says the same; the code itself is used up.
    let again = browser.decide(&page, "allow").await;
    assert_eq!(again.heading(), "You can go back to your device");
    let again = browser.decide(&page, "deny").await;
    assert_eq!(again.heading(), "You can go back to your device");
    assert_eq!(browser.enter(&server, &device.shown()).await.status, 422);
    server.stop().await;
}

async fn a_device_gets_its_tokens_once_its_user_allowed_it(engine: Engine) {
    let server = TestServer::start(engine).await;
    let (browser, tv) = (Browser::new(), Polling::of(&server, "tv").await);
    tv.poll(&server).await.is_refusal(400, "authorization_pending");
    let page = browser.come_to_decide(&server, &tv.user_code, "alice").await;
    browser.decide(&page, "allow").await;
    let tokens = tv.poll(&server).await.granted();
    assert!(tokens["refresh_token"].is_string(), "{tokens}");
    // The grant is the device's own: signing out at the browser does not end it.
    let logout = browser.open(server.url("acme", "/logout")).await;
    browser.submit(&logout, &[("decision", "logout")]).await;
    server.settle().await;
    let refresh = Form::refresh(tokens["refresh_token"].as_str().unwrap());
    server.ask("tv", &refresh).await.granted();
    server.stop().await;
}

async fn whoever_is_signed_in_decides_without_a_login(engine: Engine) {
    let server = TestServer::start(engine).await;
    let browser = Browser::new();
    let first = server.device().await;
    let page = browser.come_to_decide(&server, &first.shown(), "alice").await;
    browser.decide(&page, "allow").await;
    // An answer is for one device: the next one is asked about again.
    let second = server.device().await;
    let card = browser.enter(&server, &second.shown()).await;
    assert_eq!(card.heading(), "Is this your device?");
    let page = browser.decide(&card, "continue").await;
    assert_eq!(page.heading(), "Allow native on your device?");
    // … and someone else may decide.
    let login = browser.decide(&page, "other").await;
    assert_eq!(login.heading(), "Sign in");
    let page = browser.sign_in(&login, "bob", PASSWORD).await;
    assert!(page.body.contains("Bob Brown"), "{}", page.body);
    browser.decide(&page, "allow").await;
    is_allowed_by(&server, &first, "alice").await;
    is_allowed_by(&server, &second, "bob").await;
    server.stop().await;
}

async fn the_way_to_a_decision_survives_a_restart(engine: Engine) {
    if engine == Engine::Memory {
        return;
    }
    let mut server = TestServer::start(engine).await;
    let (browser, device) = (Browser::new(), server.device().await);
    let entry = browser.open(server.url("acme", "/device")).await;
    server = server.restart().await;
    let card = browser.submit(&entry, &[("user_code", &device.shown())]).await;
    let card = browser.follow(card).await;
    server = server.restart().await;
    let login = browser.decide(&card, "continue").await;
    server = server.restart().await;
    let page = browser.sign_in(&login, "alice", PASSWORD).await;
    server = server.restart().await;
    browser.decide(&page, "allow").await;
    is_allowed_by(&server, &device, "alice").await;
    server.stop().await;
}

#[tokio::test]
async fn a_code_that_came_with_the_link_still_needs_its_click() {
    let server = TestServer::start(Engine::Memory).await;
    let (browser, device) = (Browser::new(), server.device().await);
    let url = server.url("acme", &format!("/device?user_code={}", device.shown()));
    for _ in 0..10 {
        let page = browser.open(&url).await;
        assert_eq!((page.status, page.next()), (200, None));
        let field = ("user_code".to_owned(), device.shown());
        assert!(page.forms()[0].fields.contains(&field), "{}", page.body);
        assert!(page.body.contains("Compare it with the one on your device"), "{}", page.body);
    }
    assert_eq!(server.times(Action::DeviceViewed).await, 0);
    assert_eq!(server.record(&device).await.status, DeviceStatus::Pending);
    let page = browser.open(&url).await;
    let card = browser.submit(&page, &[]).await;
    assert_eq!(browser.follow(card).await.heading(), "Is this your device?");
    // What can be no code is not filled in, so nobody's words are on our page.
    let page = browser.open(server.url("acme", "/device?user_code=call+555-0100")).await;
    assert!(!page.body.contains("555"), "{}", page.body);
    server.stop().await;
}

#[tokio::test]
async fn looking_changes_nothing() {
    let server = TestServer::start(Engine::Memory).await;
    let (browser, device) = (Browser::new(), server.device().await);
    let card = browser.enter(&server, &device.shown()).await;
    let login = browser.decide(&card, "continue").await;
    let decision = browser.sign_in(&login, "alice", PASSWORD).await;
    for page in [&card, &login, &decision] {
        for _ in 0..3 {
            browser.open(&page.url).await;
        }
        let more = format!("{}&decision=allow", page.url);
        browser.open(&more).await;
        assert_eq!(browser.send(Method::HEAD, page.url.as_str(), &[], None).await.status, 405);
    }
    assert_eq!(server.record(&device).await.status, DeviceStatus::Pending);
    assert_eq!(server.times(Action::DeviceViewed).await, 1);
    // In another browser the address of a page opens nothing.
    assert_eq!(Browser::new().open(&decision.url).await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn whoever_did_not_start_it_ends_it_before_and_at_the_login() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    for at_login in [false, true] {
        let device = server.device().await;
        let mut page = browser.enter(&server, &device.shown()).await;
        let mut no = "deny";
        if at_login {
            page = browser.decide(&page, "continue").await;
            no = "cancel";
        }
        let page = browser.decide(&page, no).await;
        assert_eq!((page.status, page.heading().as_str()), (200, "This request was denied"));
        let record = server.record(&device).await;
        assert_eq!((record.status, record.user), (DeviceStatus::Denied, None));
        // A denied code has its page until its time is over.
        assert_eq!(
            browser.enter(&server, &device.shown()).await.heading(),
            "This request was denied"
        );
    }
    assert_eq!(server.times(Action::DeviceDenied).await, 2);
    assert_eq!(server.times(Action::DeviceGuessed).await, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_code_that_expires_on_the_way_does_not_work_any_more() {
    let server = TestServer::start(Engine::Memory).await;
    let (browser, device) = (Browser::new(), server.device().await);
    let page = browser.come_to_decide(&server, &device.shown(), "alice").await;
    server.advance(Duration::from_mins(10)).await;
    let dead = browser.decide(&page, "allow").await;
    assert_eq!(dead.status, 422, "{}", dead.body);
    assert!(dead.body.contains("That code does not work"), "{}", dead.body);
    assert_eq!(browser.open(&page.url).await.status, 422);
    assert_eq!(server.record(&device).await.status, DeviceStatus::Pending);
    // What waited for half an hour begins anew.
    server.advance(Duration::from_mins(20)).await;
    let anew = browser.open(&page.url).await;
    assert_eq!(anew.heading(), "Enter the code from your device");
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_ended_decides_nothing() {
    let server = TestServer::start(Engine::Memory).await;
    let (browser, device) = (Browser::new(), server.device().await);
    let page = browser.come_to_decide(&server, &device.shown(), "alice").await;
    let logout = browser.open(server.url("acme", "/logout")).await;
    browser.submit(&logout, &[("decision", "logout")]).await;
    assert_eq!(browser.decide(&page, "allow").await.status, 403);
    assert_eq!(server.record(&device).await.status, DeviceStatus::Pending);
    let login = browser.open(&page.url).await;
    assert_eq!(login.heading(), "Sign in");
    let page = browser.sign_in(&login, "alice", PASSWORD).await;
    browser.decide(&page, "allow").await;
    is_allowed_by(&server, &device, "alice").await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_of_a_disabled_client_is_not_shown() {
    let server = TestServer::configured(Engine::Memory, TENANTS, |settings| {
        let acme = settings.tenants.values_mut().find(|tenant| tenant.name == "Acme").unwrap();
        let tv = acme.clients.iter_mut().find(|client| client.id.as_str() == "native").unwrap();
        tv.enabled = false;
    })
    .await;
    let device = server.device().await;
    let page = Browser::new().enter(&server, &device.shown()).await;
    page.is_error_page();
    assert_eq!(page.heading(), "That application is not known here");
    server.stop().await;
}

#[tokio::test]
async fn codes_are_in_no_log_line() {
    let logs = crate::support::logs::Logs::listen();
    let server = TestServer::start(Engine::Memory).await;
    let (browser, device) = (Browser::new(), server.device().await);
    browser.open(server.url("acme", &format!("/device?user_code={}", device.shown()))).await;
    browser.open(server.url("acme", "/device?user_code=BCDF-GHJK")).await;
    browser.enter(&server, "BCDF-GHJK").await;
    let page = browser.come_to_decide(&server, &device.shown(), "alice").await;
    browser.decide(&page, "allow").await;
    server.stop().await;
    let text = logs.text();
    assert!(text.contains("/t/{slug}/device"), "requests have their lines: {text}");
    for code in [device.shown(), device.code.letters().to_owned(), "BCDF-GHJK".to_owned()] {
        assert!(!text.contains(&code), "{code}: {text}");
    }
}

/// Both tenants, with and without the short address.
fn with_short(acme: bool, other: bool) -> String {
    let yaml = TENANTS.replacen(
        "    name: Acme\n",
        &format!("    name: Acme\n    device: {{short_url: {acme}}}\n"),
        1,
    );
    yaml.replacen(
        "    name: Other\n",
        &format!("    name: Other\n    device: {{short_url: {other}}}\n"),
        1,
    )
}

fn heading_and_status(page: &Page) -> (u16, String) {
    (page.status, page.heading())
}

async fn a_code_of_two_tenants_is_not_found_at_the_short_address(engine: Engine) {
    let server = TestServer::with(engine, &with_short(true, true)).await;
    let browser = Browser::new();
    let short = format!("{}/device", server.base);
    let page = browser.open(&short).await;
    assert_eq!(
        heading_and_status(&page),
        (200, "Enter the code from your device".into()),
        "{}",
        page.body
    );
    assert!(!page.body.contains("Acme"), "it is nobody's: {}", page.body);
    let of_acme = server.device().await;
    let of_other = server.device_that(Asks { tenant: "other", ..Asks::default() }).await;
    for (device, tenant) in [(&of_acme, "acme"), (&of_other, "other")] {
        let answer = browser.submit(&page, &[("user_code", &device.shown())]).await;
        let expected = format!("{}/device?user_code={}", server.issuer(tenant), device.shown());
        assert_eq!(answer.header("location"), Some(&*expected), "{answer:?}");
        let entry = browser.follow(answer).await;
        assert!(entry.forms()[0].fields.contains(&("user_code".to_owned(), device.shown())));
    }
    let twin = Asks { tenant: "other", code: Some(of_acme.code.clone()), ..Asks::default() };
    server.device_that(twin).await;
    let answer = browser.submit(&page, &[("user_code", &of_acme.shown())]).await;
    assert_eq!((answer.status, answer.next()), (422, None));
    assert!(answer.body.contains("That code does not work"), "{}", answer.body);
    server.stop().await;
}

#[tokio::test]
async fn the_short_address_counts_wrong_codes_and_refuses_other_sites() {
    let server = TestServer::with(Engine::Memory, &with_short(true, true)).await;
    let (browser, device) = (Browser::new(), server.device().await);
    let page = browser.open(format!("{}/device?user_code=bcdfghjk", server.base)).await;
    assert_eq!((page.status, page.next()), (200, None), "nothing is sent by itself");
    assert!(page.body.contains("value=\"BCDF-GHJK\""), "{}", page.body);
    for headers in [[("sec-fetch-site", "cross-site")], [("origin", "https://evil.example")]] {
        assert_eq!(browser.submit_with(&page, &[], &headers).await.status, 403);
    }
    for _ in 0..5 {
        assert_eq!(browser.submit(&page, &[]).await.status, 422);
    }
    let refused = browser.submit(&page, &[("user_code", &device.shown())]).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some());
    // The address is the same wherever the code is typed.
    assert_eq!(browser.enter(&server, &device.shown()).await.status, 429);
    server.stop().await;
}

#[tokio::test]
async fn the_only_tenant_at_the_short_address_has_its_own_page_there() {
    let server = TestServer::with(Engine::Memory, &with_short(true, false)).await;
    let browser = Browser::new();
    let short = format!("{}/device", server.base);
    let own = format!("{}/device", server.issuer("acme"));
    assert_eq!(browser.get(&short).await.header("location"), Some(&*own));
    let answer = browser.get(format!("{short}?user_code=bcdfghjk")).await;
    let own = format!("{own}?user_code=BCDF-GHJK");
    assert_eq!((answer.status, answer.header("location")), (303, Some(&*own)));
    // What is posted there is not looked for: that is the tenant's own page's to do, and to count.
    for code in ["bcdf-ghjk", &server.device().await.shown()] {
        let posted = server.post(&short, None, &[("user_code", code)]).await;
        let own = format!("{}/device?user_code={}", server.issuer("acme"), code.to_uppercase());
        assert_eq!((posted.status, posted.header("location")), (303, own.as_str()));
    }
    server.stop().await;
    let server = TestServer::with(Engine::Memory, &with_short(false, false)).await;
    assert_eq!(browser.get(format!("{}/device", server.base)).await.status, 404);
    assert_eq!(browser.get(format!("{}/t/nobody/device", server.base)).await.status, 404);
    server.stop().await;
}
