//! Cases of the device flow.

use std::time::Duration;

use pmp_auth::base::{Clock as _, Entropy, SystemEntropy, Timestamp};
use pmp_auth::model::device::{DeviceStatus, UserCode};
use pmp_auth::model::{Action, TenantUid};
use pmp_auth::oauth::device::guesses::{self, Budget, Guesser, Reached};
use pmp_auth::storage::{Engine, Kind};
use serde_json::json;

use crate::support::browser::{Browser, Page};
use crate::support::device::Device as Polling;
use crate::support::logs::Logs;
use crate::support::server::{PASSWORD, TENANTS, TestServer};
use crate::support::typed::{Asks, DEVICE_AGENT, DEVICE_IP, Device};

on_every_server! {
    sec_device_07
    sec_device_12
    sec_device_15
    sec_device_19
}

fn any_code() -> String {
    let entropy: &dyn Entropy = &SystemEntropy;
    UserCode::draw(entropy).to_string()
}

/// A server behind a proxy, so that a test can come from anywhere.
async fn behind_a_proxy(engine: Engine) -> TestServer {
    TestServer::configured(engine, TENANTS, |settings| {
        settings.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await
}

/// Types a code, from an address.
async fn type_from(browser: &Browser, server: &TestServer, ip: &str, code: &str) -> Page {
    let page = browser.open(server.url("acme", "/device")).await;
    browser.submit_with(&page, &[("user_code", code)], &[("x-forwarded-for", ip)]).await
}

fn is_refused(page: &Page) {
    assert_eq!(page.status, 429, "{page:?}");
    let seconds: u64 = page.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&seconds), "{seconds}");
}

async fn is_pending(server: &TestServer, device: &Device) {
    assert_eq!(server.record(device).await.status, DeviceStatus::Pending);
}

async fn sec_device_07(engine: Engine) {
    let server = TestServer::start(engine).await;
    let (browser, tv) = (Browser::new(), Polling::of(&server, "tv").await);
    let page = browser.come_to_decide(&server, &tv.user_code, "alice").await;
    let said = browser.decide(&page, "deny").await;
    assert_eq!((said.status, said.heading().as_str()), (200, "This request was denied"));
    assert_eq!(server.times(Action::DeviceDenied).await, 1);
    for _ in 0..3 {
        server.clock.advance(Duration::from_secs(10));
        tv.poll(&server).await.is_refusal(400, "access_denied");
    }
    // Nobody changes it afterwards.
    let again = browser.decide(&page, "allow").await;
    assert_eq!(again.heading(), "This request was denied");
    server.clock.advance(Duration::from_secs(10));
    tv.poll(&server).await.is_refusal(400, "access_denied");
    let record = tv.record(&server).await;
    assert_eq!((record.status, record.grant), (DeviceStatus::Denied, None));
    server.stop().await;
}

async fn sec_device_12(engine: Engine) {
    let server = behind_a_proxy(engine).await;
    let device = server.device().await;
    // One browser, from everywhere. The sixth is not looked at, right or not.
    let browser = Browser::new();
    for n in 0..5 {
        let ip = format!("198.51.100.{n}");
        assert_eq!(type_from(&browser, &server, &ip, &any_code()).await.status, 422);
    }
    for code in [any_code(), device.shown()] {
        is_refused(&type_from(&browser, &server, "198.51.100.9", &code).await);
    }
    // One address, with a new browser each time.
    for _ in 0..5 {
        let wrong = type_from(&Browser::new(), &server, "192.0.2.1", &any_code()).await;
        assert_eq!(wrong.status, 422);
    }
    is_refused(&type_from(&Browser::new(), &server, "192.0.2.1", &device.shown()).await);
    // One user, signed in at many browsers, from everywhere.
    for n in 0..6 {
        let browser = Browser::new();
        let own = server.device().await;
        let ip = format!("2001:db8:{n}::1");
        let card = browser.follow(type_from(&browser, &server, &ip, &own.shown()).await).await;
        let login = browser.decide(&card, "continue").await;
        browser.sign_in(&login, "bob", PASSWORD).await;
        let typed = if n < 5 { any_code() } else { device.shown() };
        let answer = type_from(&browser, &server, &ip, &typed).await;
        if n < 5 {
            assert_eq!(answer.status, 422, "{n}");
        } else {
            is_refused(&answer);
        }
    }
    is_pending(&server, &device).await;
    assert_eq!(server.times(Action::DeviceGuessed).await, 15, "and none that was not looked at");
    // Right codes cost nothing, also in between: nobody buys guesses with codes of their own.
    let browser = Browser::new();
    for n in 0..5 {
        let right = type_from(&browser, &server, "192.0.2.7", &device.shown()).await;
        assert_eq!(right.status, 303, "{n}");
        let wrong = type_from(&browser, &server, "192.0.2.7", &any_code()).await;
        assert_eq!(wrong.status, 422, "{n}");
    }
    is_refused(&type_from(&browser, &server, "192.0.2.7", &device.shown()).await);
    // Another day is another day.
    server.advance(Duration::from_mins(20)).await;
    let later = server.device().await;
    assert_eq!(type_from(&browser, &server, "192.0.2.7", &later.shown()).await.status, 303);
    server.stop().await;
}

#[tokio::test]
async fn no_ten_minutes_have_more_than_five_wrong_codes_wherever_they_begin() {
    let server = TestServer::start(Engine::Memory).await;
    let peer = "192.0.2.50".parse().unwrap();
    let guesser = Guesser { browser: None, user: None, peer };
    let acme = server.tenant("acme").uid.clone();
    let mut looked_at = Vec::new();
    let start = server.clock.now();
    // One try each 30 s for two hours.
    for n in 0..240 {
        let now = start.plus(Duration::from_secs(30 * n));
        let budget = guesses::count(&server.app.services, Some(&acme), &guesser, now);
        if let Budget::Counted(counted) = budget.await.unwrap() {
            assert_eq!(counted.wrong().await.unwrap(), Reached::Nothing);
            looked_at.push(now);
        }
        server.clock.advance(Duration::from_secs(30));
    }
    assert!(looked_at.len() >= 20, "it opens again: {}", looked_at.len());
    let within = |from: Timestamp| {
        let until = from.plus(Duration::from_mins(10));
        looked_at.iter().filter(|at| (from..until).contains(at)).count()
    };
    assert!(looked_at.iter().all(|from| within(*from) <= 5), "{looked_at:?}");
    server.stop().await;
}

#[tokio::test]
async fn of_right_codes_a_network_enters_no_more_than_sixty_a_minute() {
    let server = TestServer::start(Engine::Memory).await;
    let acme = server.tenant("acme").uid.clone();
    let enter = async |peer: &str| {
        let guesser = Guesser { browser: None, user: None, peer: peer.parse().unwrap() };
        let now = server.clock.now();
        match guesses::count(&server.app.services, Some(&acme), &guesser, now).await.unwrap() {
            Budget::Counted(counted) => counted.right().await.is_ok(),
            Budget::TooOften(_) | Budget::SignInFirst => false,
        }
    };
    for n in 0..60 {
        assert!(enter("192.0.2.60").await, "{n}");
    }
    assert!(!enter("192.0.2.60").await);
    assert!(enter("192.0.2.61").await, "another network");
    server.clock.advance(Duration::from_secs(1));
    assert!(enter("192.0.2.60").await);
    server.stop().await;
}

#[tokio::test]
async fn an_address_past_its_count_leaves_no_counters_for_browsers_that_it_makes_up() {
    let server = TestServer::start(Engine::Memory).await;
    let (peer, now) = ("192.0.2.50".parse().unwrap(), server.clock.now());
    let acme = server.tenant("acme").uid.clone();
    let guess = async |n: u32| {
        let browser = format!("browser {n}");
        let guesser = Guesser { browser: Some(&browser), user: None, peer };
        guesses::count(&server.app.services, Some(&acme), &guesser, now).await.unwrap()
    };
    let counters = async || {
        let day = now.plus(Duration::from_hours(24));
        let all = server.app.store.cleanup_expired_data(day, 10_000, true).await.unwrap();
        all.counts.into_iter().find(|(kind, _)| *kind == Kind::Attempts).map(|(_, count)| count)
    };
    for n in 0..5 {
        let Budget::Counted(counted) = guess(n).await else { panic!("{n}") };
        assert_eq!(counted.wrong().await.unwrap(), Reached::Nothing);
    }
    let before = counters().await;
    assert!(before > Some(5), "{before:?}");
    for n in 5..50 {
        assert!(matches!(guess(n).await, Budget::TooOften(_)), "{n}");
    }
    assert_eq!(counters().await, before);
    server.stop().await;
}

#[tokio::test]
async fn sec_device_13() {
    let logs = Logs::listen();
    let server = behind_a_proxy(Engine::Memory).await;
    let device = server.device().await;
    for n in 0..20 {
        let browser = Browser::new();
        let ip = format!("198.51.100.{n}");
        for _ in 0..5 {
            assert_eq!(type_from(&browser, &server, &ip, &any_code()).await.status, 422);
        }
    }
    // The alert: in the log, in the audit log and in the metrics, once.
    server.app.services.recorder.flush().await;
    let records = server.tenant("acme").store.list_audit(1_000).await.unwrap();
    let alerts = records.iter().filter(|record| {
        record.action == Action::DeviceGuessed
            && record.detail.as_ref().is_some_and(|detail| detail["alert"] == json!("tenant"))
    });
    assert_eq!(alerts.count(), 1);
    assert_eq!(logs.text().matches("many wrong device codes").count(), 1);
    let metrics = server.app.metrics.render();
    assert!(metrics.contains("pmp_auth_device_requests_total{state=\"guessing\"} 1"), "{metrics}");
    assert!(metrics.contains("pmp_auth_device_requests_total{state=\"guessed\"} 100"), "{metrics}");
    // From now on someone has to sign in before a code is looked at, right or wrong.
    let browser = Browser::new();
    for code in [any_code(), device.shown()] {
        let answer = type_from(&browser, &server, "192.0.2.9", &code).await;
        let login = browser.follow(answer).await;
        assert_eq!(login.heading(), "Sign in");
    }
    assert_eq!(server.times(Action::DeviceGuessed).await, 100);
    assert_eq!(server.times(Action::DeviceViewed).await, 0);
    // Who does comes back to the code, which is still to be sent.
    let answer = type_from(&browser, &server, "192.0.2.9", &device.shown()).await;
    let login = browser.follow(answer).await;
    let entry = browser.sign_in(&login, "alice", PASSWORD).await;
    assert_eq!((entry.status, entry.next()), (200, None));
    assert!(entry.body.contains(&format!("value=\"{}\"", device.shown())), "{}", entry.body);
    let card = browser.submit(&entry, &[]).await;
    let card = browser.follow(card).await;
    assert_eq!(card.heading(), "Is this your device?");
    // When it has been quiet for a while, nobody has to any more.
    server.advance(Duration::from_mins(20)).await;
    let later = server.device().await;
    let answer = type_from(&Browser::new(), &server, "192.0.2.10", &later.shown()).await;
    assert!(answer.next().unwrap().path().ends_with("/device/card"), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn guesses_at_many_tenants_are_counted_together() {
    let server = TestServer::start(Engine::Memory).await;
    let now = server.clock.now();
    let mut reached = Vec::new();
    let count = async |n: u32, tenant: &TenantUid| {
        let peer = std::net::Ipv4Addr::from_bits(n).into();
        let guesser = Guesser { browser: None, user: None, peer };
        guesses::count(&server.app.services, Some(tenant), &guesser, now).await.unwrap()
    };
    for n in 0..1_000 {
        let tenant = TenantUid::stored(&format!("t{}", n % 20));
        let Budget::Counted(counted) = count(n, &tenant).await else { panic!("{n}") };
        match counted.wrong().await.unwrap() {
            Reached::Nothing => {}
            far => reached.push((n, far)),
        }
    }
    assert_eq!(reached, [(999, Reached::Everywhere)]);
    let quiet = server.tenant("acme").uid.clone();
    assert!(matches!(count(2_000, &quiet).await, Budget::SignInFirst));
    server.stop().await;
}

async fn sec_device_15(engine: Engine) {
    let server = TestServer::start(engine).await;
    let (browser, device) = (Browser::new(), server.device().await);
    let card = browser.enter(&server, &device.shown()).await;
    let elsewhere = [
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
        [("origin", "https://evil.example")],
    ];
    for headers in elsewhere {
        let answer = browser.submit_with(&card, &[("decision", "deny")], &headers).await;
        assert_eq!(answer.status, 403, "{headers:?}");
    }
    let login = browser.decide(&card, "continue").await;
    let page = browser.sign_in(&login, "alice", PASSWORD).await;
    for headers in elsewhere {
        for decision in ["allow", "deny"] {
            let answer = browser.submit_with(&page, &[("decision", decision)], &headers).await;
            assert_eq!((answer.status, answer.next()), (403, None), "{headers:?}");
        }
    }
    // Another browser's token, another user's, one of the login form, none.
    let other = Browser::new();
    let twin = server.device().await;
    let foreign = other.come_to_decide(&server, &twin.shown(), "alice").await;
    let field = |page: &Page, name: &str| {
        let form = page.forms().remove(0);
        form.fields.into_iter().find(|(other, _)| other == name).unwrap().1
    };
    for token in ["", "x", &field(&foreign, "csrf"), &field(&login, "csrf")] {
        let fields = [("decision", "allow"), ("csrf", token)];
        assert_eq!(browser.submit(&page, &fields).await.status, 403, "{token}");
    }
    let foreign_txn = field(&foreign, "txn");
    let swapped = browser.submit(&page, &[("decision", "allow"), ("txn", &foreign_txn)]).await;
    assert_eq!(swapped.status, 400, "sealed for the other browser");
    is_pending(&server, &device).await;
    is_pending(&server, &twin).await;
    // NS: the page itself still decides.
    let headers = [("sec-fetch-site", "same-origin"), ("origin", "null")];
    let done = browser.submit_with(&page, &[("decision", "allow")], &headers).await;
    assert_eq!(done.heading(), "You can go back to your device");
    assert_eq!(server.record(&device).await.status, DeviceStatus::Approved);
    server.stop().await;
}

#[tokio::test]
async fn sec_device_17() {
    let server = TestServer::start(Engine::Memory).await;
    let (browser, device) = (Browser::new(), server.device().await);
    let entry = browser.open(server.url("acme", "/device")).await;
    let dead = browser.submit(&entry, &[("user_code", &any_code())]).await;
    let card = browser.enter(&server, &device.shown()).await;
    let login = browser.decide(&card, "continue").await;
    let page = browser.sign_in(&login, "alice", PASSWORD).await;
    let done = browser.decide(&page, "allow").await;
    for page in [entry, dead, card, login, page, done] {
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{}: {policy}", page.heading());
        assert!(policy.contains("form-action 'self'") && policy.contains("default-src 'none'"));
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{}", page.heading());
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert!(!page.body.contains("<script"), "{}", page.body);
    }
    server.stop().await;
}

async fn sec_device_19(engine: Engine) {
    let server = behind_a_proxy(engine).await;
    let expired = server.device().await;
    server.advance(Duration::from_mins(11)).await;
    let used = server.device().await;
    let browser = Browser::new();
    let page = browser.come_to_decide(&server, &used.shown(), "alice").await;
    browser.decide(&page, "allow").await;
    let of_other = server.device_that(Asks { tenant: "other", ..Asks::default() }).await;
    let mut seen = Vec::new();
    for (n, code) in
        [any_code(), expired.shown(), used.shown(), of_other.shown()].iter().enumerate()
    {
        let browser = Browser::new();
        let entry = browser.open(server.url("acme", "/device")).await;
        let csrf = entry.forms()[0].fields[0].1.clone();
        let headers = [("x-forwarded-for", &*format!("192.0.2.{n}"))];
        // Tenants are read each second, whatever is asked; so the fewest of a few tries count.
        let mut fewest = u64::MAX;
        let mut body = String::new();
        for _ in 0..4 {
            let before = server.app.store.round_trips();
            let answer = browser.submit_with(&entry, &[("user_code", code)], &headers).await;
            fewest = fewest.min(server.app.store.round_trips() - before);
            assert_eq!(answer.status, 422, "{code}: {}", answer.body);
            body = answer.body.replace(code, "CODE").replace(&csrf, "CSRF");
        }
        seen.push((body, fewest));
    }
    for other in &seen[1..] {
        assert_eq!(seen[0], *other, "the same words and the same work");
    }
    assert!(seen[0].0.contains("That code does not work"), "{}", seen[0].0);
    // The log has the difference.
    server.app.services.recorder.flush().await;
    let records = server.tenant("acme").store.list_audit(1_000).await.unwrap();
    for reason in ["unknown", "expired", "used"] {
        let told = records.iter().any(|record| {
            record.action == Action::DeviceGuessed
                && record.detail.as_ref().is_some_and(|detail| detail["reason"] == json!(reason))
        });
        assert!(told, "{reason}");
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_device_23() {
    let server = TestServer::start(Engine::Memory).await;
    let device =
        server.device_that(Asks { scope: "openid offline_access", ..Asks::default() }).await;
    server.clock.advance(Duration::from_mins(2));
    let browser = Browser::new();
    let card = browser.enter(&server, &device.shown()).await;
    for words in ["Only continue if you started this yourself", "Not verified", "native"] {
        assert!(card.text().contains(words), "{words}: {}", card.body);
    }
    assert!(card.body.contains("Stay signed in and act when you are away"), "{}", card.body);
    // Whoever has no more than the code learns nothing about the device.
    for unsaid in ["203.0.113", DEVICE_AGENT, "minutes ago"] {
        assert!(!card.text().contains(unsaid), "{unsaid}: {}", card.body);
    }
    let login = browser.decide(&card, "continue").await;
    let page = browser.sign_in(&login, "alice", PASSWORD).await;
    for words in [
        "native",
        "Not verified",
        "Alice Adams",
        "Stay signed in and act when you are away",
        "203.0.113.0/24",
        DEVICE_AGENT,
        "2 minutes ago",
        "15 Jan 2027, 08:00 UTC",
        &device.shown(),
        "Only continue if you started this yourself",
    ] {
        assert!(page.text().contains(words), "{words}: {}", page.body);
    }
    assert!(!page.body.contains(DEVICE_IP), "roughly, not exactly: {}", page.body);
    // Deny comes first and looks no different.
    let button = |decision: &str| {
        let at = page.body.find(&format!("value=\"{decision}\"")).expect("a button");
        let rest = &page.body[at..];
        (at, rest[rest.find("class=").unwrap()..rest.find('>').unwrap()].to_owned())
    };
    let (deny, allow) = (button("deny"), button("allow"));
    assert!(deny.0 < allow.0);
    assert_eq!(deny.1, allow.1);

    let server_side = Asks { client: "web", confidential: true, ..Asks::default() };
    let device = server.device_that(server_side).await;
    let card = browser.enter(&server, &device.shown()).await;
    let page = browser.decide(&card, "continue").await;
    let said = page.text();
    assert!(said.contains("Requested by a server of the application"), "{said}");
    assert!(!said.contains("203.0.113") && !said.contains("Not verified"), "{said}");
    server.stop().await;
}

#[tokio::test]
async fn sec_device_24() {
    let names = [
        "<script>alert(1)</script><b>Bank</b>".to_owned(),
        "\u{202e}knaB emcA\u{200b}\u{2066} \u{feff}TV".to_owned(),
        format!("Acme {}", "x".repeat(2048)),
        "\u{200b}\u{2060}".to_owned(),
    ];
    for name in names {
        let server = TestServer::configured(Engine::Memory, TENANTS, |settings| {
            for tenant in settings.tenants.values_mut() {
                for client in &mut tenant.clients {
                    client.name.clone_from(&name);
                }
            }
        })
        .await;
        let (browser, device) = (Browser::new(), server.device().await);
        let card = browser.enter(&server, &device.shown()).await;
        let login = browser.decide(&card, "continue").await;
        let page = browser.sign_in(&login, "alice", PASSWORD).await;
        let done = browser.decide(&page, "allow").await;
        for page in [&card, &login, &page, &done] {
            let body = &page.body;
            assert!(!body.contains("<script") && !body.contains("<b>"), "{body}");
            let unseen = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
            assert!(!body.contains(unseen), "{body}");
            assert!(!body.contains(&"x".repeat(64)), "cut: {body}");
            let shown: Vec<&str> = body.split("<bdi").skip(1).collect();
            assert!(!shown.is_empty(), "isolated: {body}");
        }
        let (start, cut) = match name.as_str() {
            text if text.starts_with('<') => ("&lt;script&gt;alert(1)", false),
            text if text.starts_with('\u{202e}') => ("<bdi>knaB emcA TV</bdi>", false),
            text if text.starts_with("Acme") => ("<bdi>Acme xxxxx", true),
            // Nothing is left of it: its id is shown.
            _ => ("<bdi>native</bdi>", false),
        };
        assert!(card.body.contains(start), "{start}: {}", card.body);
        assert_eq!(card.body.contains('…'), cut, "{}", card.body);
        server.stop().await;
    }
}
