//! Cases of the first start, and of hashing for callers who left.

use std::sync::Arc;
use std::time::Duration;

use pmp_auth::base::SystemEntropy;
use pmp_auth::identity::{Password, PasswordCost, Passwords};
use pmp_auth::storage::Engine;

use crate::support::browser::{Asking, Browser};
use crate::support::server::TestServer;

/// A tenant with nobody in it.
const NOBODY: &str = r#"
tenants:
  acme:
    clients:
      - client_id: web
        client_secret: generate
        redirect_uris: ["http://localhost:3000/callback"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn sec_login_26() {
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let server = TestServer::with(Engine::Sqlite, NOBODY).await;
        let store = &server.tenant("acme").store;
        assert!(store.list_users(None, 10).await.unwrap().is_empty(), "no default account");
        for (name, password) in [("admin", "admin"), ("admin", "password"), ("root", "root")] {
            let browser = Browser::new();
            let page = browser.open(Asking::of("web").at(&server.issuer("acme"))).await;
            let page = browser.sign_in(&page, name, password).await;
            assert_eq!(page.heading(), "Sign in");
            assert_eq!(page.sent("code"), None);
        }
        let made = &server.app.first_start.client_secrets;
        assert_eq!(made.len(), 1, "{made:?}");
        let secret = made[0].kept.secret.reveal().clone();
        assert!(secret.starts_with("pmp_cs_") && secret.len() > 50);
        assert!(!format!("{made:?}").contains(&secret), "it does not show where things are logged");
        secrets.push(secret);
        server.stop().await;
    }
    assert_ne!(secrets[0], secrets[1], "drawn anew for each installation");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_login_17() {
    let permits = 2;
    let cost = PasswordCost::DEFAULT;
    let pool = Passwords::with_permits(cost, permits, Arc::new(SystemEntropy)).unwrap();
    let hash = pool.hash(Password::typed("plum tractor nine lagoon").unwrap()).await.unwrap();
    let before = pool.evaluated();
    // Five thousand callers who leave at once: their jobs are queued or refused, nothing else.
    let mut refused = 0;
    for _ in 0..5_000 {
        let leaving = pool.verify(Password::typed("wrong").unwrap(), Some(&hash));
        if let Ok(Err(_)) = tokio::time::timeout(Duration::ZERO, leaving).await {
            refused += 1;
        }
    }
    assert!(refused > 2_500, "the queue is short: {refused}");
    // Those that were taken are evaluated to their end, and then there is room again.
    let right = Password::typed("plum tractor nine lagoon").unwrap();
    let answer = loop {
        match pool.verify(right.clone(), Some(&hash)).await {
            Ok(answer) => break answer,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert!(answer, "the pool serves on");
    let evaluated = pool.evaluated() - before;
    assert!(evaluated <= 5_001 - refused, "{evaluated} of {}", 5_000 - refused);
}
