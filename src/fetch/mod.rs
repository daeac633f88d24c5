//! Outgoing requests. Owns where we may connect to and how long we wait; what is asked and what is
//! done with the answer belongs to the callers.

mod loopback;
mod remote;

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

pub use loopback::Loopback;
pub use remote::Remote;

/// A way to send requests.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// Sends `outgoing` and reads the whole answer. No redirect is followed.
    async fn fetch(&self, outgoing: Outgoing<'_>) -> Result<Answer, FetchError>;
}

/// One request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing<'a> {
    /// The whole address.
    pub url: &'a str,
    /// `Authorization`.
    pub authorization: Option<&'a str>,
    /// A form to POST; a GET without.
    pub form: Option<&'a [(&'a str, &'a str)]>,
    /// `Prefer: wait=…` (RFC 7240 §4.3), in whole seconds: we wait that much longer, too.
    pub wait: Option<Duration>,
    /// `User-Agent`, where it is not ours.
    pub agent: Option<&'a str>,
}

impl Outgoing<'_> {
    fn prefer(&self) -> Option<String> {
        self.wait.map(|wait| format!("wait={}", wait.as_secs()))
    }

    fn body(&self) -> Option<String> {
        let fields = self.form?;
        Some(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish())
    }
}

/// What we call ourselves.
const AGENT: &str = concat!("pmp-auth/", env!("CARGO_PKG_VERSION"));
const FORM: &str = "application/x-www-form-urlencoded";

/// The answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Retry-After`, where it is a number of seconds.
    pub retry_after: Option<Duration>,
    /// The body, within the limit of who fetched it.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn seconds(value: Option<&hyper::header::HeaderValue>) -> Option<Duration> {
    Some(Duration::from_secs(value?.to_str().ok()?.trim().parse().ok()?))
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The address is not this machine's.
    #[error("{0} is not a loopback address")]
    NotLoopback(std::net::SocketAddr),
    /// Plain http beyond this machine: anyone on the way could read and change it.
    #[error("{0} is not https; plain http is for this machine alone")]
    NotHttps(String),
    /// The URL or a header cannot be sent.
    #[error("cannot be sent: {0}")]
    Unsendable(String),
    /// No connection, a broken one, or an answer that is too long.
    #[error("no answer: {0}")]
    Broken(String),
    /// Nothing within so many seconds.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}
