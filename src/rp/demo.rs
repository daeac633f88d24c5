//! The demo app: a small web app that logs its user in through the real flow, over HTTP, with a
//! client that is registered in every tenant while `server.demo` is on. Its secret lives as long as
//! the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use super::tv::Televisions;
use crate::base::{CredentialKind, Digest, Entropy, Secret, Timestamp, base64url};
use crate::fetch::{FetchError, Loopback, Outgoing};
use crate::model::client::{ApplicationType, AuthMethod, GrantType, RefreshPolicy};
use crate::model::{Client, ClientId, Scope};

/// The client's id, in every tenant.
pub const CLIENT_ID: &str = "pmp-auth-demo";

const KEPT: Duration = Duration::from_hours(1);
const MOST: usize = 1000;

/// The demo app.
pub struct Demo {
    secret: Secret<String>,
    callback: String,
    home: String,
    /// Its television sets.
    pub televisions: Arc<Televisions>,
    visitors: Mutex<HashMap<[u8; 32], Visitor>>,
}

/// What the app knows of one browser.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// The slug of the tenant that the visitor logs in at.
    pub tenant: String,
    /// Its issuer.
    pub issuer: String,
    /// Where the visitor is.
    pub stage: Stage,
    since: Timestamp,
}

/// Where a visitor is.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Sent to log in.
    Leaving {
        /// Comes back with the code.
        state: String,
        /// Comes back in the ID token.
        nonce: String,
        /// Opens the code (RFC 7636).
        verifier: Secret<String>,
    },
    /// Logged in.
    SignedIn {
        /// The answer of the token endpoint.
        tokens: Tokens,
        /// What userinfo says of the user.
        user: Value,
        /// What was last tried, and the answer.
        last: Option<(String, Value)>,
    },
}

/// The tokens of a visitor.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The access token.
    pub access: Secret<String>,
    /// The refresh token, if one came.
    pub refresh: Option<Secret<String>>,
    /// The ID token.
    pub id: Secret<String>,
}

/// What went wrong, in words for the page.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The server said no.
    #[error("{0}")]
    Refused(Value),
    /// The server did not answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The answer is not what it must be.
    #[error("{0}")]
    Unexpected(&'static str),
}

impl Visitor {
    /// The same visitor, elsewhere.
    #[must_use]
    pub fn at(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }
}

impl Demo {
    /// The app at `{public_url}/demo`.
    pub fn new(public_url: &str, entropy: &dyn Entropy) -> Self {
        let base = public_url.trim_end_matches('/');
        Self {
            secret: CredentialKind::ClientSecret.generate(entropy),
            callback: format!("{base}/demo/callback"),
            home: format!("{base}/demo"),
            televisions: Arc::default(),
            visitors: Mutex::default(),
        }
    }

    /// The client to register in a tenant that knows the scopes `scopes`.
    pub fn client(&self, scopes: &Scope) -> Client {
        let wanted = ["openid", "profile", "email", "offline_access"];
        let scopes = scopes.filter(|token| wanted.contains(&token));
        Client {
            id: ClientId::new(CLIENT_ID),
            name: "Demo app".to_owned(),
            client_uri: Some(self.home.clone()),
            policy_uri: None,
            tos_uri: None,
            auth_method: AuthMethod::ClientSecretBasic,
            secrets: vec![Digest::of(self.secret.reveal().as_bytes())],
            application_type: ApplicationType::Web,
            redirect_uris: vec![self.callback.clone()],
            post_logout_redirect_uris: vec![self.home.clone()],
            grants: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
            default_scopes: scopes.clone(),
            scopes,
            resources: Vec::new(),
            audiences: Vec::new(),
            multi_audience: false,
            require_pkce: true,
            require_consent: true,
            refresh_tokens: RefreshPolicy::Always,
            access_token_format: None,
            id_token_alg: None,
            access_token_ttl: None,
            token_rate: None,
            introspection_rate: None,
            introspection_cache: None,
            cors_origins: Vec::new(),
            enabled: true,
        }
    }

    /// Begins a log-in: the cookie to set and where to send the browser.
    pub fn begin(
        &self,
        tenant: &str,
        issuer: &str,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> (Secret<String>, String) {
        let random = || base64url::encode(entropy.bytes::<32>());
        let (cookie, state, nonce, verifier) = (random(), random(), random(), random());
        let challenge = base64url::encode(Digest::<()>::of(verifier.as_bytes()).as_bytes());
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("redirect_uri", &self.callback)
            .append_pair("scope", "openid profile email offline_access")
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("prompt", "consent") // so that every visit shows the whole flow
            .finish();
        let stage = Stage::Leaving { state, nonce, verifier: Secret::new(verifier) };
        let visitor =
            Visitor { tenant: tenant.to_owned(), issuer: issuer.to_owned(), stage, since: now };
        self.keep(&cookie, visitor, now);
        (Secret::new(cookie), format!("{issuer}/authorize?{query}"))
    }

    /// The visitor behind a cookie.
    pub fn visitor(&self, cookie: &str) -> Option<Visitor> {
        self.lock().get(Digest::<()>::of(cookie.as_bytes()).as_bytes()).cloned()
    }

    /// Remembers where a visitor is.
    pub fn keep(&self, cookie: &str, visitor: Visitor, now: Timestamp) {
        let mut visitors = self.lock();
        visitors.retain(|_, visitor| now.since(visitor.since) < KEPT);
        if visitors.len() < MOST {
            visitors.insert(*Digest::<()>::of(cookie.as_bytes()).as_bytes(), visitor);
        }
    }

    /// Forgets a visitor.
    pub fn forget(&self, cookie: &str) {
        self.lock().remove(Digest::<()>::of(cookie.as_bytes()).as_bytes());
    }

    /// Where the browser is sent to log out.
    pub fn logout_url(&self, visitor: &Visitor) -> String {
        let Stage::SignedIn { tokens, .. } = &visitor.stage else { return self.home.clone() };
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("id_token_hint", tokens.id.reveal())
            .append_pair("post_logout_redirect_uri", &self.home)
            .finish();
        format!("{}/logout?{query}", visitor.issuer)
    }

    /// Redeems the code that came back.
    pub async fn redeem(
        &self,
        server: &Loopback,
        issuer: &str,
        code: &str,
        verifier: &Secret<String>,
    ) -> Result<Tokens, DemoError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.callback),
            ("code_verifier", verifier.reveal()),
        ];
        let answer = self.post(server, &format!("{issuer}/token"), &form).await?;
        tokens(&answer, None)
    }

    /// Refreshes the tokens.
    pub async fn refresh(
        &self,
        server: &Loopback,
        issuer: &str,
        old: &Tokens,
    ) -> Result<Tokens, DemoError> {
        let refresh = old.refresh.as_ref().ok_or(DemoError::Unexpected("no refresh token"))?;
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.reveal())];
        tokens(&self.post(server, &format!("{issuer}/token"), &form).await?, Some(old))
    }

    /// Asks the server what the access token is worth.
    pub async fn introspect(
        &self,
        server: &Loopback,
        issuer: &str,
        tokens: &Tokens,
    ) -> Result<Value, DemoError> {
        let form = [("token", tokens.access.reveal().as_str())];
        self.post(server, &format!("{issuer}/introspect"), &form).await
    }

    /// Revokes the refresh token, and with it the grant; else the access token.
    pub async fn revoke(
        &self,
        server: &Loopback,
        issuer: &str,
        tokens: &Tokens,
    ) -> Result<Value, DemoError> {
        let token = tokens.refresh.as_ref().unwrap_or(&tokens.access);
        self.post(server, &format!("{issuer}/revoke"), &[("token", token.reveal())]).await
    }

    /// Asks who the user is (OpenID Connect Core §5.3).
    pub async fn userinfo(
        &self,
        server: &Loopback,
        issuer: &str,
        tokens: &Tokens,
    ) -> Result<Value, DemoError> {
        let bearer = format!("Bearer {}", tokens.access.reveal());
        let url = format!("{issuer}/userinfo");
        let outgoing = Outgoing { url: &url, authorization: Some(&bearer), ..Outgoing::default() };
        let answer = server.send(outgoing).await?;
        if answer.status == 200 {
            Ok(answer.json())
        } else {
            Err(DemoError::Unexpected("userinfo refused the access token"))
        }
    }

    /// The server's public keys, for checking tokens here.
    pub async fn keys(&self, server: &Loopback, issuer: &str) -> Result<Value, DemoError> {
        let url = format!("{issuer}/jwks.json");
        let answer = server.send(Outgoing { url: &url, ..Outgoing::default() }).await?;
        Ok(answer.json())
    }

    async fn post(
        &self,
        server: &Loopback,
        url: &str,
        form: &[(&str, &str)],
    ) -> Result<Value, DemoError> {
        use base64::Engine as _;
        let pair = format!("{CLIENT_ID}:{}", self.secret.reveal());
        let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let authorization = Some(basic.as_str());
        let outgoing = Outgoing { url, authorization, form: Some(form), ..Outgoing::default() };
        let answer = server.send(outgoing).await?;
        let body = answer.json();
        if answer.status == 200 { Ok(body) } else { Err(DemoError::Refused(body)) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Visitor>> {
        self.visitors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tokens(answer: &Value, old: Option<&Tokens>) -> Result<Tokens, DemoError> {
    let text = |name: &str| answer[name].as_str().map(|t| Secret::new(t.to_owned()));
    Ok(Tokens {
        access: text("access_token").ok_or(DemoError::Unexpected("no access token"))?,
        refresh: text("refresh_token").or_else(|| old.and_then(|old| old.refresh.clone())),
        id: text("id_token")
            .or_else(|| old.map(|old| old.id.clone()))
            .ok_or(DemoError::Unexpected("no ID token"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemEntropy;

    #[test]
    fn a_visitor_is_known_by_the_cookie_alone_and_for_an_hour() {
        let demo = Demo::new("http://127.0.0.1:8080/", &SystemEntropy);
        let start = Timestamp::from_seconds(1_000);
        let (cookie, url) =
            demo.begin("acme", "http://127.0.0.1:8080/t/acme", &SystemEntropy, start);
        assert!(url.starts_with("http://127.0.0.1:8080/t/acme/authorize?response_type=code&"));
        assert!(demo.visitor(cookie.reveal()).is_some());
        assert!(demo.visitor("another").is_none());
        demo.begin("acme", "x", &SystemEntropy, start.plus(KEPT));
        assert!(demo.visitor(cookie.reveal()).is_none());
    }
}
