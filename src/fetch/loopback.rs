//! Requests to this machine alone: the demo app speaks to its own server, `healthcheck` to a
//! running one.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{AGENT, Answer, FORM, Fetch, FetchError, Outgoing, seconds};

const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_ANSWER: usize = 64 * 1024;

/// Connects to one loopback address, whatever host the URL names: a tenant with a host of its own
/// is reached so, too.
#[derive(Debug, Clone, Copy)]
pub struct Loopback {
    address: SocketAddr,
}

impl Loopback {
    /// Will connect to `address`. An unspecified one (`0.0.0.0`) is reached by loopback.
    pub fn new(address: SocketAddr) -> Result<Self, FetchError> {
        let mut address = address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        if address.ip().is_loopback() {
            Ok(Self { address })
        } else {
            Err(FetchError::NotLoopback(address))
        }
    }

    /// Sends `outgoing` and reads the whole answer, at most 64 KiB, within 5 s. Of the address only
    /// host, path and query are used.
    pub async fn send(&self, outgoing: Outgoing<'_>) -> Result<Answer, FetchError> {
        let request = build(&outgoing)?;
        let patience = PATIENCE + outgoing.wait.unwrap_or_default();
        let answer = timeout(patience, self.exchange(request)).await;
        answer.map_err(|_| FetchError::Timeout(patience))?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, FetchError> {
        let broken = |error: &dyn std::fmt::Display| FetchError::Broken(error.to_string());
        let stream = TcpStream::connect(self.address).await.map_err(|e| broken(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(&e))?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let status = answer.status().as_u16();
        let retry_after = seconds(answer.headers().get(RETRY_AFTER));
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        driver.abort();
        let body = body.map_err(|e| broken(&e))?.to_bytes().to_vec();
        Ok(Answer { status, retry_after, body })
    }
}

#[async_trait]
impl Fetch for Loopback {
    async fn fetch(&self, outgoing: Outgoing<'_>) -> Result<Answer, FetchError> {
        self.send(outgoing).await
    }
}

fn build(outgoing: &Outgoing<'_>) -> Result<Request<Full<Bytes>>, FetchError> {
    let unsendable = |what: &dyn std::fmt::Display| FetchError::Unsendable(what.to_string());
    let url = url::Url::parse(outgoing.url).map_err(|e| unsendable(&e))?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = HeaderValue::from_str(url.authority()).map_err(|e| unsendable(&e))?;
    let agent = outgoing.agent.unwrap_or(AGENT);
    let mut request = Request::builder().uri(target).header(HOST, host).header(USER_AGENT, agent);
    if let Some(value) = outgoing.authorization {
        request = request.header(AUTHORIZATION, value);
    }
    if let Some(value) = outgoing.prefer() {
        request = request.header("prefer", value);
    }
    let body = outgoing.body();
    if body.is_some() {
        request = request.method(Method::POST).header(CONTENT_TYPE, FORM);
    }
    let body = Bytes::from(body.unwrap_or_default());
    request.body(Full::new(body)).map_err(|e| unsendable(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn only_this_machine_is_reached() {
        assert!(Loopback::new("127.0.0.1:80".parse().unwrap()).is_ok());
        assert!(Loopback::new("0.0.0.0:80".parse().unwrap()).unwrap().address.ip().is_loopback());
        assert!(Loopback::new("192.0.2.1:80".parse().unwrap()).is_err());
    }

    #[tokio::test]
    async fn the_host_of_the_url_is_sent_and_the_form_is_encoded() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let loopback = Loopback::new(listener.local_addr().unwrap()).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let n = stream.read(&mut seen).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            String::from_utf8_lossy(&seen[..n]).into_owned()
        });
        let outgoing = Outgoing {
            url: "http://acme.localhost:8080/token?x=1",
            form: Some(&[("a", "b c")]),
            wait: Some(Duration::from_secs(25)),
            ..Outgoing::default()
        };
        let answer = loopback.send(outgoing).await.unwrap();
        assert_eq!((answer.status, answer.json()), (200, serde_json::json!({})));
        let seen = server.await.unwrap();
        assert!(seen.starts_with("POST /token?x=1 HTTP/1.1"), "{seen}");
        assert!(seen.contains("host: acme.localhost:8080"), "{seen}");
        assert!(seen.contains("prefer: wait=25"), "{seen}");
        assert!(seen.ends_with("a=b+c"), "{seen}");
    }
}
