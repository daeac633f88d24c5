//! Requests to issuers: no redirects, an end in time, a bound on what is read, https but on loopback.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use reqwest::{Client, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use url::{Host, Url};

/// Why there is no answer of use.
#[derive(Debug)]
pub(crate) enum WebError {
    /// An answer that is not the one asked for; its body is not kept, it may hold anything.
    Status { status: u16, retry_after: Option<Duration> },
    /// Anything else.
    Broken(String),
}

impl std::fmt::Display for WebError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status { status, .. } => write!(f, "answered {status}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl From<reqwest::Error> for WebError {
    fn from(error: reqwest::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::Broken(text)
    }
}

pub(crate) fn broken(why: &str) -> WebError {
    WebError::Broken(why.to_owned())
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, WebError> {
        serde_json::from_slice(&self.body).map_err(|error| WebError::Broken(error.to_string()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// How an answer must be.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) timeout: Duration,
    pub(crate) most: usize,
    pub(crate) good: &'static [u16],
}

impl Default for Terms {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), most: 1 << 20, good: &[200] }
    }
}

/// A client for all issuers.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .user_agent(concat!("pmp-auth-verify/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Whether credentials and keys may travel to this address.
pub(crate) fn is_safe(address: &str, allow_insecure: bool) -> bool {
    let Ok(url) = Url::parse(address) else { return false };
    if !url.username().is_empty() || url.password().is_some() {
        return false;
    }
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && (allow_insecure || loopback))
}

/// The error of an answer.
pub(crate) fn failed(response: &Response) -> WebError {
    let text = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = text.and_then(|text| text.parse::<u32>().ok());
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.min(60).into()));
    WebError::Status { status: response.status().as_u16(), retry_after }
}

/// Sends `request` and reads the whole answer; the time covers the body, too.
pub(crate) async fn ask(request: RequestBuilder, terms: Terms) -> Result<Answer, WebError> {
    let mut response = request.timeout(terms.timeout).send().await?;
    let status = response.status().as_u16();
    if !terms.good.contains(&status) {
        return Err(failed(&response));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > terms.most {
            return Err(broken("the answer is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers: std::mem::take(response.headers_mut()), body })
}

/// Pairs as `application/x-www-form-urlencoded`.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A POST of a form.
pub(crate) fn post(client: &Client, url: &str, pairs: &[(&str, &str)]) -> RequestBuilder {
    let content_type = "application/x-www-form-urlencoded";
    client.post(url).header("content-type", content_type).body(form(pairs))
}
