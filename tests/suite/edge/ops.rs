//! Probes, metrics, and how the server stops.

use std::time::Duration;

use pmp_auth::storage::Engine;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::server::{TENANTS, TestServer};

async fn ready_and_alive(engine: Engine) {
    let server = TestServer::start(engine).await;
    assert_eq!(server.get(&format!("{}/livez", server.base)).await.body, "ok\n");
    let ready = server.get(&format!("{}/readyz", server.base)).await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "ok\n"));
    let verbose = server.get(&format!("{}/readyz?verbose", server.base)).await;
    assert_eq!(
        verbose.body,
        "[+] accepting\n[+] store and schema\n[+] signing keys\n[+] revocation view\n[+] clock\nok\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_ready_on_memory() {
    ready_and_alive(Engine::Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_ready_on_sqlite() {
    ready_and_alive(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_ready_on_postgres() {
    ready_and_alive(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_store_the_server_lives_and_is_not_ready() {
    let server = TestServer::start(Engine::Sqlite).await;
    server.app.store.close().await;
    assert_eq!(server.get(&format!("{}/livez", server.base)).await.status, 200);
    let ready = server.get(&format!("{}/readyz", server.base)).await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "not ready\n"));
    let verbose = server.get(&format!("{}/readyz?verbose", server.base)).await;
    assert!(verbose.body.contains("[-] store and schema\n"), "{}", verbose.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_by_route_and_strangers_make_no_series() {
    let server = TestServer::start(Engine::Memory).await;
    for path in ["/livez", "/no/such/1", "/no/such/2"] {
        server.get(&format!("{}{path}", server.base)).await;
    }
    let page = server.get(&format!("{}/metrics", server.base)).await;
    assert!(page.header("content-type").starts_with("application/openmetrics-text"));
    for line in [
        r#"pmp_auth_http_request_duration_seconds_count{route="/livez",method="GET",code="200"} 1"#,
        r#"pmp_auth_http_request_duration_seconds_count{route="none",method="GET",code="404"} 2"#,
        r#"engine="memory""#,
    ] {
        assert!(page.body.contains(line), "{line} is not in\n{}", page.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_sees_no_metrics() {
    for (public_url, status) in [("https://id.example.com", 404), ("http://localhost:8080", 200)] {
        let server = TestServer::configured(Engine::Memory, TENANTS, |settings| {
            settings.server.public_url = public_url.parse().unwrap();
        })
        .await;
        assert_eq!(server.get(&format!("{}/livez", server.base)).await.status, 200);
        let metrics = server.get(&format!("{}/metrics", server.base)).await;
        assert_eq!(metrics.status, status, "{public_url}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_finished_when_the_server_stops() {
    let server = TestServer::start(Engine::Memory).await;
    let address = server.base.trim_start_matches("http://").to_owned();
    let mut under_way = TcpStream::connect(&address).await.unwrap();
    let head =
        format!("POST /t/acme/login HTTP/1.1\r\nHost: {address}\r\nContent-Length: 3\r\n\r\na");
    under_way.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.begin_stop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(TcpStream::connect(&address).await.is_err(), "no new connections");
    under_way.write_all(b"=1").await.unwrap();
    let mut answer = String::new();
    under_way.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    tokio::time::timeout(Duration::from_secs(5), server.stop()).await.expect("it stops");
}
