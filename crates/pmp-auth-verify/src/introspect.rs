//! Token introspection (RFC 7662): the issuer says what a token is, for as long as it says.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use moka::sync::Cache;
use serde_json::{Map, Value};

use crate::error::VerifyError;
use crate::issuer::Issuer;
use crate::jwt::{check_form, check_time, meets};
use crate::options::{Context, Event};
use crate::token::{Kind, Token, audiences};
use crate::web::{Answer, Terms, WebError, ask, broken};

/// How long an answer may be kept: what its Cache-Control says, else not at all (RFC 9111 §5.2).
pub(crate) fn max_age(answer: &Answer) -> Duration {
    let control = answer.header("cache-control").to_ascii_lowercase();
    let directives = || control.split(',').map(str::trim);
    if directives().any(|one| one.starts_with("no-store") || one.starts_with("no-cache")) {
        return Duration::ZERO;
    }
    let stated = directives().find_map(|one| one.strip_prefix("max-age="));
    let stated = stated.and_then(|text| text.trim_matches('"').parse::<u32>().ok()).unwrap_or(0);
    let age = answer.header("age").parse::<u32>().unwrap_or(0);
    Duration::from_secs(stated.saturating_sub(age).into())
}

#[derive(Clone)]
struct Held {
    token: Token,
    until: Duration,
}

pub(crate) struct Introspector {
    issuer: Arc<Issuer>,
    context: Arc<Context>,
    held: Cache<[u8; 32], Held>,
}

impl Introspector {
    pub(crate) fn new(issuer: Arc<Issuer>, context: Arc<Context>) -> Self {
        let held = Cache::new(context.cache_size);
        Self { issuer, context, held }
    }

    /// The token, if it is active and for this API; none if it is not active. Callers do not share
    /// a question: the answer to one that was asked earlier may be from before a revocation.
    pub(crate) async fn introspect(&self, text: &str) -> Result<Option<Token>, VerifyError> {
        let mut key = [0; 32]; // no token is kept
        key.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        if let Some(held) = self.held.get(&key)
            && self.context.clock.mono() < held.until
        {
            check_time(held.token.times(), self.context.now(), 0.0)?;
            return Ok(Some(held.token));
        }
        let asked = self.context.clock.mono();
        let (answer, claims) = self.ask(text).await.map_err(|error| self.failed(&error))?;
        if claims.get("active") != Some(&Value::Bool(true)) {
            self.held.invalidate(&key);
            return Ok(None);
        }
        let token = self.checked(text, claims)?;
        let lives = max_age(&answer).min(self.context.introspection_max_age);
        if !lives.is_zero() {
            self.held.insert(key, Held { token: token.clone(), until: asked + lives });
        }
        Ok(Some(token))
    }

    fn failed(&self, error: &WebError) -> VerifyError {
        let (issuer, error) = (self.issuer.url().to_owned(), error.to_string());
        self.context.report(&Event::IntrospectionFailed { issuer, error });
        VerifyError::unavailable("introspection failed")
    }

    async fn ask(&self, text: &str) -> Result<(Answer, Map<String, Value>), WebError> {
        let metadata = self.issuer.metadata().await?;
        let endpoint = metadata.introspection_endpoint.as_deref();
        let endpoint = endpoint.ok_or_else(|| broken("the issuer has no introspection"))?;
        let credentials = self.issuer.settings.credentials.as_ref();
        let credentials = credentials.ok_or_else(|| broken("there are no credentials"))?;
        let pairs = [("token", text), ("token_type_hint", "access_token")];
        let request = credentials.post(&self.context.client, endpoint, &pairs);
        let terms = Terms { timeout: Duration::from_secs(5), ..Terms::default() };
        let answer = ask(request.header("accept", "application/json"), terms).await?;
        let claims = answer.json()?;
        Ok((answer, claims))
    }

    fn checked(&self, text: &str, claims: Map<String, Value>) -> Result<Token, VerifyError> {
        if claims.get("iss").is_some_and(|iss| iss != self.issuer.url()) {
            return Err(VerifyError::invalid("issuer"));
        }
        check_form(&claims)?;
        // Also what keeps refresh tokens out: they are for no API.
        if !meets(self.issuer.audience(), &audiences(claims.get("aud"))) {
            return Err(VerifyError::invalid("audience"));
        }
        let kind = match text {
            text if text.starts_with("pak_") => Kind::ApiKey,
            text if text.contains('.') => Kind::Jwt,
            _ => Kind::Opaque,
        };
        let token = Token::new(kind, Arc::clone(&self.issuer.settings.url), claims);
        check_time(token.times(), self.context.now(), self.context.leeway)?;
        Ok(token)
    }
}
