//! Requests to this machine alone: the demo app speaks to its own server, `healthcheck` to a
//! running one.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_ANSWER: usize = 64 * 1024;

/// Connects to one loopback address, whatever host the URL names: a tenant with a host of its own
/// is reached so, too.
#[derive(Debug, Clone, Copy)]
pub struct Loopback {
    address: SocketAddr,
}

/// One request.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// `http://host/path`; only host, path and query are used.
    pub url: &'a str,
    /// `Authorization`.
    pub authorization: Option<&'a str>,
    /// A form to POST; a GET without.
    pub form: Option<&'a [(&'a str, &'a str)]>,
}

/// The answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, at most 64 KiB.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The address is not this machine's.
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The URL or a header cannot be sent.
    #[error("cannot be sent: {0}")]
    Unsendable(String),
    /// No connection, a broken one, or an answer that is too long.
    #[error("no answer: {0}")]
    Broken(String),
    /// Nothing within 5 s.
    #[error("no answer within 5 s")]
    Timeout,
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

    /// Sends `outgoing` and reads the whole answer, within 5 s.
    pub async fn send(&self, outgoing: Outgoing<'_>) -> Result<Answer, FetchError> {
        let request = build(&outgoing)?;
        timeout(PATIENCE, self.exchange(request)).await.map_err(|_| FetchError::Timeout)?
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
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        driver.abort();
        Ok(Answer { status, body: body.map_err(|e| broken(&e))?.to_bytes().to_vec() })
    }
}

fn build(outgoing: &Outgoing<'_>) -> Result<Request<Full<Bytes>>, FetchError> {
    let unsendable = |what: &dyn std::fmt::Display| FetchError::Unsendable(what.to_string());
    let url = url::Url::parse(outgoing.url).map_err(|e| unsendable(&e))?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = HeaderValue::from_str(url.authority()).map_err(|e| unsendable(&e))?;
    let mut request = Request::builder().uri(target).header(HOST, host);
    if let Some(value) = outgoing.authorization {
        request = request.header(AUTHORIZATION, value);
    }
    let body = match outgoing.form {
        None => Bytes::new(),
        Some(fields) => {
            request = request
                .method(Method::POST)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(fields).finish().into()
        }
    };
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
            authorization: None,
            form: Some(&[("a", "b c")]),
        };
        let answer = loopback.send(outgoing).await.unwrap();
        assert_eq!((answer.status, answer.json()), (200, serde_json::json!({})));
        let seen = server.await.unwrap();
        assert!(seen.starts_with("POST /token?x=1 HTTP/1.1"), "{seen}");
        assert!(seen.contains("host: acme.localhost:8080"), "{seen}");
        assert!(seen.ends_with("a=b+c"), "{seen}");
    }
}
