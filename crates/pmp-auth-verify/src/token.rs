use std::sync::Arc;

use serde_json::{Map, Value};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A JWT access token (RFC 9068).
    Jwt,
    /// An opaque access token, introspected.
    Opaque,
    /// An API key, introspected.
    ApiKey,
}

/// A verified access token or API key. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Token(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    issuer: Arc<str>,
    audience: Vec<String>,
    scopes: Vec<String>,
    times: Times,
    claims: Map<String, Value>,
}

/// When a token counts (RFC 7519 §4.1), in Unix seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) exp: Option<f64>,
    pub(crate) nbf: Option<f64>,
    pub(crate) iat: Option<f64>,
}

impl Token {
    pub(crate) fn new(kind: Kind, issuer: Arc<str>, claims: Map<String, Value>) -> Self {
        let scopes = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
        let scopes = scopes.split_ascii_whitespace().map(str::to_owned).collect();
        let audience = audiences(claims.get("aud"));
        let time = |name: &str| claims.get(name).and_then(Value::as_f64);
        let times = Times { exp: time("exp"), nbf: time("nbf"), iat: time("iat") };
        Self(Arc::new(Inner { kind, issuer, audience, scopes, times, claims }))
    }

    fn text(&self, claim: &str) -> &str {
        self.0.claims.get(claim).and_then(Value::as_str).unwrap_or_default()
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Who issued it.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// `sub`: whom it speaks for.
    pub fn subject(&self) -> &str {
        self.text("sub")
    }

    /// `client_id`: who uses it.
    pub fn client_id(&self) -> &str {
        self.text("client_id")
    }

    /// `aud`.
    pub fn audience(&self) -> &[String] {
        &self.0.audience
    }

    /// What it may be used for.
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// Whether it may be used for `scope`.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|one| one == scope)
    }

    /// `exp`, in Unix seconds.
    pub fn expires_at(&self) -> Option<f64> {
        self.0.times.exp
    }

    /// All claims, or the members of the introspection answer.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0.claims
    }

    pub(crate) fn times(&self) -> Times {
        self.0.times
    }
}

/// `aud` as a list; empty when it is absent or no audience at all.
pub(crate) fn audiences(aud: Option<&Value>) -> Vec<String> {
    let one = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match aud {
        Some(Value::Array(list)) => list.iter().map(one).collect::<Option<_>>().unwrap_or_default(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}
