//! Cases of redirect URIs.

use pmp_auth::storage::Engine;

use crate::support::browser::{Asking, Browser};
use crate::support::server::{PASSWORD, TestServer};

/// The server sends nobody to any of these.
async fn refused(client: &str, uris: &[&str]) {
    let server = TestServer::start(Engine::Memory).await;
    for uri in uris {
        let request = Asking::of(client).with("redirect_uri", uri);
        let page = Browser::new().get(request.at(&server.issuer("acme"))).await;
        page.is_error_page();
        for name in ["location", "refresh"] {
            assert_eq!(page.header(name), None, "{uri}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_redirect_02() {
    refused("web", &["http://localhost:3000/CALLBACK", "HTTP://LOCALHOST:3000/callback"]).await;
}

#[tokio::test]
async fn sec_redirect_03() {
    refused("web", &["http://localhost:3000/callback/", "http://localhost:3000/callbac"]).await;
}

#[tokio::test]
async fn sec_redirect_05() {
    refused(
        "web",
        &[
            "http://localhost:3000@evil.example/callback",
            "http://localhost@evil.example/callback",
            "http://localhost:80@evil.example",
        ],
    )
    .await;
}

#[tokio::test]
async fn sec_redirect_06() {
    refused(
        "web",
        &[
            "http://localhost.evil.com:3000/callback",
            "http://evillocalhost:3000/callback",
            "http://localhost:3000/callback.evil",
        ],
    )
    .await;
}

#[tokio::test]
async fn sec_redirect_07() {
    refused(
        "web",
        &[
            "http://localhost:3000/callback/../evil",
            "http://localhost:3000/callback/%2e%2e/evil",
            "http://localhost:3000/callback/..%2fevil",
            "http://localhost:3000/callback/..;/evil",
            "http://localhost:3000/callback//../evil",
        ],
    )
    .await;
}

#[tokio::test]
async fn sec_redirect_08() {
    refused(
        "web",
        &[
            "http://localhost:3000\\@evil.example",
            "http:/\\evil.example",
            "http://localhost%09.evil.com",
            " http://localhost:3000/callback",
            "http://localhost:3000/callback ",
            "http://localhost:3000/callback\t",
            "http://localhost:3000/callback\r\nSet-Cookie: a=b",
            "\thttp://localhost:3000/callback",
        ],
    )
    .await;
}

#[tokio::test]
async fn sec_redirect_09() {
    refused(
        "web",
        &[
            "http://loc\u{430}lhost:3000/callback",
            "http://localhost\u{ff0e}:3000/callback",
            "http://localhost:3000\u{2044}callback",
            "http://xn--loclhost-2fg:3000/callback",
        ],
    )
    .await;
}

#[tokio::test]
async fn sec_redirect_13() {
    refused("native", &["http://127.0.0.1:5/callback?bar=foo"]).await;
}

#[tokio::test]
async fn sec_redirect_14() {
    refused("web", &["http://127.0.0.1/callback", "http://127.0.0.1:3000/callback"]).await;
}

#[tokio::test]
async fn sec_redirect_15() {
    refused("native", &["http://localhost/callback", "http://[::1]/callback"]).await;
}

#[tokio::test]
async fn sec_redirect_16() {
    refused(
        "native",
        &[
            "http://127.1/callback",
            "http://0x7f000001/callback",
            "http://2130706433/callback",
            "http://[::ffff:127.0.0.1]/callback",
            "http://127.0.0.1:0/callback",
            "http://127.0.0.1:99999/callback",
            "http://127.0.0.1.evil.com/callback",
        ],
    )
    .await;
}

#[tokio::test]
async fn sec_redirect_17() {
    refused("native", &["https://127.0.0.1/callback", "https://127.0.0.1:5/callback"]).await;
}

#[tokio::test]
async fn sec_redirect_18() {
    refused("native", &["http://127x0x0x1/callback", "com_example_acme:/callback"]).await;
}

#[tokio::test]
async fn sec_redirect_21() {
    refused("web", &["http://localhost:3000/%63allback", "http://localhost:3000%2Fcallback"]).await;
}

#[tokio::test]
async fn a_native_client_is_answered_at_any_port_of_its_loopback_address() {
    let server = TestServer::start(Engine::Memory).await;
    let browser = Browser::new();
    let request = Asking::of("native").with("redirect_uri", "http://127.0.0.1:49152/callback");
    let page = browser.open(request.at(&server.issuer("acme"))).await;
    let page = browser.sign_in(&page, "alice", PASSWORD).await;
    let answer = browser.decide(&page, "allow").await;
    let to = answer.next().unwrap();
    assert!(to.as_str().starts_with("http://127.0.0.1:49152/callback?code="), "{to}");
    server.stop().await;
}
