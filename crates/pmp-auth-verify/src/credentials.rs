//! How we prove who we are: HTTP Basic at the issuer's endpoints, a bearer token at the feed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::RequestBuilder;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::issuer::Issuer;
use crate::options::Context;
use crate::web::{self, Terms, WebError, ask, broken};

/// How a client secret travels (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthMethod {
    /// `client_secret_basic`.
    #[default]
    Basic,
    /// `client_secret_post`.
    Post,
}

/// Who this API is at an issuer: a confidential client.
#[derive(Clone)]
pub struct Credentials {
    client_id: String,
    client_secret: String,
    method: AuthMethod,
    resource: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl Credentials {
    /// A client by its id and secret, by HTTP Basic.
    pub fn new(client_id: impl Into<String>, client_secret: impl Into<String>) -> Self {
        let (client_id, client_secret) = (client_id.into(), client_secret.into());
        Self { client_id, client_secret, method: AuthMethod::Basic, resource: None }
    }

    /// How the secret travels.
    #[must_use]
    pub fn method(mut self, method: AuthMethod) -> Self {
        self.method = method;
        self
    }

    /// The `resource` (RFC 8707) to ask the feed's token for, where the tenant has no default.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// A POST of a form that says who we are.
    pub(crate) fn post(
        &self,
        client: &reqwest::Client,
        url: &str,
        pairs: &[(&str, &str)],
    ) -> RequestBuilder {
        let mut pairs = pairs.to_vec();
        if self.method == AuthMethod::Post {
            pairs.push(("client_id", &self.client_id));
            pairs.push(("client_secret", &self.client_secret));
            return web::post(client, url, &pairs);
        }
        // RFC 6749 §2.3.1: both halves are form-encoded first.
        let half = |text: &str| web::form(&[("", text)])[1..].to_owned();
        let pair = format!("{}:{}", half(&self.client_id), half(&self.client_secret));
        let basic = format!("Basic {}", STANDARD.encode(pair));
        web::post(client, url, &pairs).header("authorization", basic)
    }
}

type Giving = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// Your own source of tokens for the feed.
#[derive(Clone)]
pub(crate) struct FeedToken(pub(crate) Arc<dyn Fn() -> Giving + Send + Sync>);

/// A token for the feed, and how long it is good for; none when that is unknown.
pub(crate) struct Given {
    pub(crate) token: String,
    pub(crate) renew_in: Option<Duration>,
}

#[derive(Clone)]
struct Held {
    token: String,
    renew_at: Duration,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

/// Where the token for the feed comes from: the client credentials, or your own function.
pub(crate) struct TokenSource {
    issuer: Arc<Issuer>,
    context: Arc<Context>,
    held: Mutex<Option<Held>>,
}

impl TokenSource {
    pub(crate) fn new(issuer: Arc<Issuer>, context: Arc<Context>) -> Self {
        Self { issuer, context, held: Mutex::default() }
    }

    pub(crate) async fn get(&self) -> Result<Given, WebError> {
        if let Some(FeedToken(give)) = &self.issuer.settings.feed_token {
            let token = give().await.map_err(WebError::Broken)?;
            return Ok(Given { token, renew_in: None });
        }
        let mut held = self.held.lock().await;
        let fresh = held.take().filter(|held| self.context.clock.mono() < held.renew_at);
        let kept = match fresh {
            Some(kept) => kept,
            None => self.grant().await?,
        };
        let left = kept.renew_at.saturating_sub(self.context.clock.mono());
        let given = Given { token: kept.token.clone(), renew_in: Some(left) };
        *held = Some(kept);
        Ok(given)
    }

    /// The token was refused: the next one is a new one.
    pub(crate) async fn drop_token(&self) {
        *self.held.lock().await = None;
    }

    async fn grant(&self) -> Result<Held, WebError> {
        let metadata = self.issuer.metadata().await?;
        let endpoint = metadata.token_endpoint.as_deref();
        let endpoint = endpoint.ok_or_else(|| broken("the issuer has no token endpoint"))?;
        let credentials = self.issuer.settings.credentials.as_ref();
        let credentials = credentials.ok_or_else(|| broken("there are no credentials"))?;
        let mut pairs = vec![("grant_type", "client_credentials"), ("scope", "revocations:read")];
        if let Some(resource) = &credentials.resource {
            pairs.push(("resource", resource));
        }
        let asked = self.context.clock.mono();
        let request = credentials.post(&self.context.client, endpoint, &pairs);
        let granted: Granted = ask(request, Terms::default()).await?.json()?;
        let lives = granted.expires_in.filter(|seconds| *seconds > 0).unwrap_or(60);
        // A tenth before its end, and never less than a second after its beginning.
        let lives = Duration::from_millis(lives.saturating_mul(900).max(1000));
        Ok(Held { token: granted.access_token, renew_at: asked.saturating_add(lives) })
    }
}
