//! One path has one reading, and only the path (or a configured host) names the tenant.

use pmp_auth::storage::Engine;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::server::TestServer;

/// Sends bytes as they are, and returns the status.
async fn raw(server: &TestServer, request: &str) -> u16 {
    let address = server.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default()
}

async fn ask(server: &TestServer, method: &str, path: &str, more: &str) -> u16 {
    let host = server.base.trim_start_matches("http://");
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
    raw(server, &head).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_tenant_07_a_path_with_two_readings_is_nobodys() {
    let server = TestServer::start(Engine::Memory).await;
    for path in [
        "/t/acme/../other/jwks.json",
        "/t/acme%2f..%2fother/jwks.json",
        "/t/acme;x/jwks.json",
        "//t//acme/jwks.json",
        "/t/ACME/jwks.json",
        "/t/acme%00/jwks.json",
        "/t/%61cme/jwks.json",
        "/t/acme/%252e%252e/other/jwks.json",
        "/t/acme/./jwks.json",
        "/t/acme/jwks.json/",
        "/t//jwks.json",
        "/t/nobody/jwks.json",
    ] {
        let status = ask(&server, "GET", path, "").await;
        assert!(status == 404 || status == 400, "{path}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host() {
    let server = TestServer::start(Engine::Memory).await;
    assert_eq!(raw(&server, "GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n").await, 400);
    assert_eq!(ask(&server, "GET", "/livez", "Host: other.example\r\n").await, 400);
    assert_eq!(ask(&server, "GET", "http://other.example/livez", "").await, 400);
    assert_eq!(ask(&server, "GET", "/livez", "").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_runs_nothing_that_get_may_change() {
    let server = TestServer::start(Engine::Memory).await;
    for path in ["/t/acme/authorize", "/t/acme/logout", "/t/acme/token"] {
        assert_eq!(ask(&server, "HEAD", path, "").await, 405, "{path}");
    }
    assert_eq!(ask(&server, "HEAD", "/livez", "").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_not_allowed() {
    let server = TestServer::start(Engine::Memory).await;
    for method in ["PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        assert_eq!(ask(&server, method, "/t/acme/authorize", "").await, 405, "{method}");
    }
}
