//! Sizes and times.

use std::time::Duration;

use pmp_auth::storage::Engine;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::server::TestServer;

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap()
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = stream.read(&mut bytes).await.unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_64_kib_is_refused_before_it_comes() {
    let server = TestServer::start(Engine::Memory).await;
    let mut stream = connect(&server).await;
    let head = "POST /t/acme/login HTTP/1.1\r\nHost: a\r\n\
                Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 104857600\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let text = answer(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert!(text.contains("connection: close"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_is_refused_at_64_kib() {
    let server = TestServer::start(Engine::Memory).await;
    let mut stream = connect(&server).await;
    let head = "POST /t/acme/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
    for _ in 0..17 {
        let _ = stream.write_all(chunk.as_bytes()).await;
    }
    let text = answer(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_headers_have_an_end() {
    let server = TestServer::start(Engine::Memory).await;
    let long = format!("{}/livez?{}", server.base, "a".repeat(8 * 1024));
    assert_eq!(server.get(&long).await.status, 414);
    let url = format!("{}/livez", server.base);
    let heavy =
        server.http.get(&url).header("x-heavy", "a".repeat(33 * 1024)).send().await.unwrap();
    assert_eq!(heavy.status(), 431);
    let fine = server.http.get(&url).header("x-heavy", "a".repeat(30 * 1024)).send().await.unwrap();
    assert_eq!(fine.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_refused() {
    let server = TestServer::start(Engine::Memory).await;
    let url = server.url("acme", "/login");
    let request = server.http.post(url).header("content-encoding", "gzip").body("x");
    assert_eq!(request.send().await.unwrap().status(), 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed() {
    let server = TestServer::start(Engine::Memory).await;
    // Undecided between HTTP/1 and 2, and half a head.
    let openings = ["", "PRI * HT", "GET /livez HTTP/1.1\r\nHo"];
    let mut waiting = tokio::task::JoinSet::new();
    for opening in openings {
        let mut stream = connect(&server).await;
        stream.write_all(opening.as_bytes()).await.unwrap();
        waiting.spawn(async move {
            let closed = tokio::time::timeout(Duration::from_secs(15), answer(&mut stream)).await;
            assert!(closed.is_ok(), "`{opening}` keeps its connection");
        });
    }
    while let Some(done) = waiting.join_next().await {
        done.unwrap();
    }
}
