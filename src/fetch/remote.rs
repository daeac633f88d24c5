//! Requests to servers that the user of the command line names.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response};
use url::Url;

use super::{AGENT, Answer, FORM, Fetch, FetchError, Outgoing, seconds};
use crate::config::settings::is_loopback;

const PATIENCE: Duration = Duration::from_secs(15);
const TO_CONNECT: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 256 * 1024;

/// Any server over https, trusted by the certificates of this system (`SSL_CERT_FILE` adds to
/// them) and reached through the proxy that the environment names; this machine over http, too.
#[derive(Debug, Clone)]
pub struct Remote {
    world: Client,
    here: Client,
}

impl Remote {
    /// Reads the system's certificates.
    pub fn new() -> Result<Self, FetchError> {
        let world = client().https_only(true).build().map_err(|error| {
            FetchError::Unsendable(format!(
                "{}; https needs the system's certificates (the package ca-certificates, or \
                 SSL_CERT_FILE)",
                reason(&error)
            ))
        })?;
        // A proxy would look for `localhost` on its own machine.
        let here = client().no_proxy().build();
        let here = here.map_err(|error| FetchError::Unsendable(reason(&error)))?;
        Ok(Self { world, here })
    }

    async fn exchange(&self, outgoing: Outgoing<'_>, url: Url) -> Result<Answer, FetchError> {
        let client = if is_loopback(&url) { &self.here } else { &self.world };
        let mut request = match outgoing.body() {
            Some(body) => client.post(url).header(CONTENT_TYPE, FORM).body(body),
            None => client.get(url),
        };
        request = request.header(USER_AGENT, outgoing.agent.unwrap_or(AGENT));
        request = request.header("accept", "application/json");
        if let Some(value) = outgoing.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(value) = outgoing.prefer() {
            request = request.header("prefer", value);
        }
        let answer = request.send().await.map_err(|error| FetchError::Broken(reason(&error)))?;
        let status = answer.status().as_u16();
        let retry_after = seconds(answer.headers().get(RETRY_AFTER));
        Ok(Answer { status, retry_after, body: whole(answer).await? })
    }
}

#[async_trait]
impl Fetch for Remote {
    async fn fetch(&self, outgoing: Outgoing<'_>) -> Result<Answer, FetchError> {
        let url = Url::parse(outgoing.url);
        let url = url.map_err(|error| FetchError::Unsendable(error.to_string()))?;
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(FetchError::NotHttps(outgoing.url.to_owned()));
        }
        let patience = PATIENCE + outgoing.wait.unwrap_or_default();
        let answer = tokio::time::timeout(patience, self.exchange(outgoing, url)).await;
        answer.map_err(|_| FetchError::Timeout(patience))?
    }
}

fn client() -> ClientBuilder {
    Client::builder().redirect(Policy::none()).connect_timeout(TO_CONNECT)
}

async fn whole(mut answer: Response) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(part) =
        answer.chunk().await.map_err(|error| FetchError::Broken(reason(&error)))?
    {
        if body.len() + part.len() > LONGEST_ANSWER {
            return Err(FetchError::Broken("the answer is longer than 256 KiB".to_owned()));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// The innermost cause: what the operating system or the TLS library says, without the address,
/// which may have parameters.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that answers one request with `answer`; its address, and what it was asked.
    async fn server(answer: String) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let n = stream.read(&mut seen).await.unwrap();
            let _ = stream.write_all(answer.as_bytes()).await;
            String::from_utf8_lossy(&seen[..n]).into_owned()
        });
        (url, asked)
    }

    #[tokio::test]
    async fn plain_http_and_other_schemes_stay_on_this_machine() {
        let remote = Remote::new().unwrap();
        for url in ["http://id.example/", "ftp://127.0.0.1/", "file:///etc/passwd"] {
            let answer = remote.fetch(Outgoing { url, ..Outgoing::default() }).await;
            assert!(matches!(answer, Err(FetchError::NotHttps(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let (url, asked) = server(
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nretry-after: 7\r\n\
             content-length: 0\r\n\r\n"
                .to_owned(),
        )
        .await;
        let form: &[(&str, &str)] = &[("a", "b c")];
        let wait = Some(Duration::from_secs(25));
        let outgoing = Outgoing { url: &url, form: Some(form), wait, ..Outgoing::default() };
        let answer = Remote::new().unwrap().fetch(outgoing).await.unwrap();
        assert_eq!((answer.status, answer.retry_after), (302, Some(Duration::from_secs(7))));
        let seen = asked.await.unwrap();
        assert!(seen.starts_with("POST /x HTTP/1.1") && seen.ends_with("a=b+c"), "{seen}");
        assert!(seen.contains("prefer: wait=25") && seen.contains(AGENT), "{seen}");
    }

    #[tokio::test]
    async fn an_endless_answer_is_not_read_to_its_end() {
        let body = "x".repeat(LONGEST_ANSWER + 1);
        let (url, _) = server(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}")).await;
        let answer =
            Remote::new().unwrap().fetch(Outgoing { url: &url, ..Outgoing::default() }).await;
        assert!(matches!(answer, Err(FetchError::Broken(why)) if why.contains("256 KiB")));
    }
}
