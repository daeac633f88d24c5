//! The token side of the code flow, as programs speak it. Codes come without the pages: they are
//! issued in the store as the authorization endpoint does it.

use pmp_auth::base::{Clock as _, CredentialKind, Digest, Entropy, SystemEntropy, base64};
use pmp_auth::model::code::CodeTerms;
use pmp_auth::model::grant::{Grant, GrantState, GrantTerms};
use pmp_auth::model::{Action, Audit, ClientId, GrantId, Scope, SessionId, UserId};
use pmp_auth::oauth::{Call, Params, Presented, TokenError, introspect, token};
use pmp_auth::storage::{CreateSession, IssueCode, NewCode, NewGrant, NewSession};
use serde_json::{Value, json};

use super::browser::{CHALLENGE, VERIFIER, callback};
use super::server::{Answer, SECRET, TestServer};

/// `alice` of tenant `acme`, signed in for a year.
pub struct SignedIn {
    /// Who she is.
    pub user: UserId,
    /// Her session.
    pub session: SessionId,
}

/// A code, and the grant that it stands for.
#[derive(Debug, Clone)]
pub struct Code {
    /// The code itself.
    pub text: String,
    /// Its grant.
    pub grant: GrantId,
    /// The form that redeems it as it should be.
    pub form: Form,
}

/// The body of a request in the making.
#[derive(Debug, Clone)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// A request with nothing in it.
    pub fn empty() -> Self {
        Self(Vec::new())
    }

    /// A token request of this grant type, with nothing else in it.
    pub fn of(grant_type: &str) -> Self {
        Self(Vec::new()).with("grant_type", grant_type)
    }

    /// Uses a refresh token.
    pub fn refresh(token: &str) -> Self {
        Self::of("refresh_token").with("refresh_token", token)
    }

    /// The same with another value, or one more parameter.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        self.without(name).and(name, value)
    }

    /// The same with a parameter once more.
    #[must_use]
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same without a parameter.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    /// As pairs.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// As the text of a query or a body.
    pub fn encoded(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(self.pairs()).finish()
    }
}

impl SignedIn {
    /// Signs `alice` in, past the pages.
    pub async fn at(server: &TestServer) -> Self {
        let (store, now) = (&server.tenant("acme").store, server.clock.now());
        let login = pmp_auth::model::user::LoginName::canonical("alice");
        let alice = store.find_user_by_login(&login).await.unwrap().expect("alice");
        let user = alice.id;
        let entropy: &dyn Entropy = &SystemEntropy;
        let session = SessionId(entropy.uuid());
        let a_year = now.plus(std::time::Duration::from_hours(24 * 365));
        let new = NewSession {
            id: session,
            cookie: Digest::of(session.to_string().as_bytes()),
            user,
            password_changed_at: alice.password_changed_at,
            amr: vec!["pwd".into()],
            acr: None,
            auth_time: now,
            idle_expires_at: a_year,
            expires_at: a_year,
            user_agent: None,
            ip: None,
            replaces: None,
        };
        let began = store.create_session(&new, now, &Audit::default()).await;
        assert_eq!(began.unwrap(), CreateSession::Created);
        Self { user, session }
    }

    /// A code of hers for `client`, for `openid`, `orders:read` and `offline_access`, at the
    /// client's first redirect URI and with the challenge of [`VERIFIER`].
    pub async fn code(&self, server: &TestServer, client: &str) -> Code {
        self.code_for(server, client, CHALLENGE).await
    }

    /// The same with another challenge.
    pub async fn code_for(&self, server: &TestServer, client: &str, challenge: &str) -> Code {
        let scope = "openid orders:read offline_access";
        self.code_of(server, client, challenge, scope).await
    }

    /// A code for no more than what refresh and access tokens need: without `openid`, nobody signs
    /// an ID token.
    pub async fn plain_code(&self, server: &TestServer, client: &str) -> Code {
        self.code_of(server, client, CHALLENGE, "orders:read offline_access").await
    }

    /// A code for this scope.
    pub async fn code_of_scope(&self, server: &TestServer, client: &str, scope: &str) -> Code {
        self.code_of(server, client, CHALLENGE, scope).await
    }

    async fn code_of(
        &self,
        server: &TestServer,
        client: &str,
        challenge: &str,
        scope: &str,
    ) -> Code {
        let (tenant, now) = (server.tenant("acme"), server.clock.now());
        let entropy: &dyn Entropy = &SystemEntropy;
        let text = CredentialKind::AuthorizationCode.generate(entropy).reveal().clone();
        let grant = NewGrant {
            id: GrantId(entropy.uuid()),
            client: ClientId::new(client),
            user: Some(self.user),
            session: Some(self.session),
            terms: GrantTerms {
                version: 1,
                scope: Scope::parse(scope).unwrap(),
                resources: Vec::new(),
                claims: None,
                acr: None,
                amr: vec!["pwd".into()],
                auth_time: now,
                session_ends: None,
            },
            jkt: None,
            offline: true,
            expires_at: now.plus(tenant.settings.lifetimes.refresh_absolute),
        };
        let code = NewCode {
            digest: Digest::of(text.as_bytes()),
            terms: CodeTerms {
                version: 1,
                redirect_uri: callback(client).to_owned(),
                redirect_uri_sent: true,
                code_challenge: Some(challenge.to_owned()),
                nonce: Some("n-1".into()),
                dpop_jkt: None,
            },
            expires_at: now.plus(tenant.settings.lifetimes.code),
        };
        let issued = tenant.store.issue_code(&grant, &code, now, &Audit::default()).await;
        assert_eq!(issued.unwrap(), IssueCode::Issued);
        let form = Form::of("authorization_code")
            .with("code", &text)
            .with("redirect_uri", callback(client))
            .with("code_verifier", VERIFIER);
        Code { text, grant: grant.id, form }
    }

    /// What `client` gets for a code.
    pub async fn tokens(&self, server: &TestServer, client: &str) -> (Value, GrantId) {
        let code = self.code(server, client).await;
        let answer = server.ask(client, &code.form).await;
        (answer.granted(), code.grant)
    }

    /// The same for a plain code.
    pub async fn plain_tokens(&self, server: &TestServer, client: &str) -> (Value, GrantId) {
        let code = self.plain_code(server, client).await;
        let tokens = server.decide(client, &code.form).await;
        (tokens.unwrap_or_else(|error| panic!("{error}")), code.grant)
    }
}

impl TestServer {
    /// POST to the token endpoint of `acme` as `client`, by the method that the client is pinned to.
    pub async fn ask(&self, client: &str, form: &Form) -> Answer {
        let (basic, form) = credentials(client, form);
        let basic = basic.then_some((client, SECRET));
        self.post(&self.url("acme", "/token"), basic, &form.pairs()).await
    }

    /// What the token endpoint of `acme` decides about the same request. HTTP is left out, which
    /// costs more than the decision: for a great many requests.
    pub async fn decide(&self, client: &str, form: &Form) -> Result<Value, TokenError> {
        let (presented, params) = presented(client, form)?;
        let (tenant, audit) = (self.tenant("acme"), caller());
        let (services, now) = (&self.app.services, self.clock.now());
        let call = Call { services, tenant: &tenant, now, audit: &audit };
        let tokens = token::answer(&call, &presented, &params).await?;
        Ok(serde_json::from_str(&tokens.to_json()).expect("JSON"))
    }

    /// Whether the introspection endpoint of `acme` calls a token active, HTTP left out.
    pub async fn finds_active(&self, client: &str, token: &Value) -> bool {
        let form = Form(Vec::new()).with("token", token.as_str().expect("a token"));
        let (presented, params) = presented(client, &form).expect("credentials");
        let (tenant, audit) = (self.tenant("acme"), caller());
        let (services, now) = (&self.app.services, self.clock.now());
        let call = Call { services, tenant: &tenant, now, audit: &audit };
        let told = introspect::introspect(&call, &presented, &params).await;
        told.unwrap_or_else(|error| panic!("{error}")).is_active()
    }

    /// What introspection tells `client`, one with a secret by HTTP Basic, about a token.
    pub async fn introspect(&self, client: &str, token: &Value) -> Value {
        let form = [("token", token.as_str().expect("a token"))];
        let url = self.url("acme", "/introspect");
        let answer = self.post(&url, Some((client, SECRET)), &form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// Whether a token is active; one that is not must be answered with nothing else.
    pub async fn is_active(&self, client: &str, token: &Value) -> bool {
        let told = self.introspect(client, token).await;
        assert!(told["active"] == true || told == json!({"active": false}), "{told}");
        told["active"] == true
    }

    /// A grant of `acme` as the store has it.
    pub async fn grant(&self, id: GrantId) -> Grant {
        let found = self.tenant("acme").store.find_grant(id).await.unwrap();
        found.expect("the row of a grant")
    }

    /// Whether a grant of `acme` is live.
    pub async fn is_live(&self, id: GrantId) -> bool {
        self.grant(id).await.state == GrantState::Live
    }

    /// How many records of `action` the audit log of `acme` has.
    pub async fn times(&self, action: Action) -> usize {
        self.app.services.recorder.flush().await;
        let records = self.tenant("acme").store.list_audit(100_000).await.unwrap();
        records.iter().filter(|record| record.action == action).count()
    }
}

/// Whether a client of [`TENANTS`](super::server::TENANTS) authenticates by HTTP Basic, and its
/// form with what it says of itself in there.
fn credentials(client: &str, form: &Form) -> (bool, Form) {
    match client {
        "web" | "opaque" | "api" | "settop" => (true, form.clone()),
        "post" => (false, form.clone().with("client_id", client).with("client_secret", SECRET)),
        _ => (false, form.clone().with("client_id", client)),
    }
}

pub(super) fn presented(client: &str, form: &Form) -> Result<(Presented, Params), TokenError> {
    let (basic, form) = credentials(client, form);
    let header = format!("Basic {}", base64::encode(format!("{client}:{SECRET}")));
    let headers: &[&[u8]] = if basic { &[header.as_bytes()] } else { &[] };
    let params = Params::of(form.0).expect("no parameter twice");
    Ok((Presented::read(headers, &params)?, params))
}

pub(super) fn caller() -> Audit {
    Audit { ip: Some("127.0.0.1".into()), ..Audit::default() }
}

impl Answer {
    /// Whether it is `JSON(s,e)`: an error of the token side, not to be stored, leading nowhere.
    #[track_caller]
    pub fn is_refusal(&self, status: u16, error: &str) {
        assert_eq!((self.status, self.error().as_str()), (status, error), "{}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.header("cache-control"), "no-store");
        assert!(!self.headers.contains_key("location"));
        assert!(self.json().get("access_token").is_none(), "{}", self.body);
    }

    /// The tokens of a successful answer.
    #[track_caller]
    pub fn granted(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.header("cache-control"), "no-store");
        let tokens = self.json();
        assert_eq!(tokens["token_type"], "Bearer", "{tokens}");
        assert!(tokens["access_token"].is_string(), "{tokens}");
        tokens
    }
}
