//! What a caller is told when a request is refused (RFC 6750 §3), and nothing more than that.

use std::fmt::Write as _;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

/// What the caller may know of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 401: no bearer token.
    MissingToken,
    /// 400: the Authorization header is not one bearer token.
    InvalidRequest,
    /// 401: the token is no good here.
    InvalidToken,
    /// 403: the token lacks a scope.
    InsufficientScope,
    /// 503: it cannot be known now.
    Unavailable,
}

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyError {
    code: Code,
    reason: &'static str,
    scopes: Vec<String>,
}

impl VerifyError {
    pub(crate) fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason, scopes: Vec::new() }
    }

    pub(crate) fn invalid(reason: &'static str) -> Self {
        Self::new(Code::InvalidToken, reason)
    }

    pub(crate) fn unavailable(reason: &'static str) -> Self {
        Self::new(Code::Unavailable, reason)
    }

    pub(crate) fn needing(mut self, scopes: &[String]) -> Self {
        self.scopes = scopes.to_vec();
        self
    }

    /// What the caller may know.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Why, for your log: never part of an answer.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The scopes that the request needed.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self.code {
            Code::MissingToken | Code::InvalidToken => StatusCode::UNAUTHORIZED,
            Code::InvalidRequest => StatusCode::BAD_REQUEST,
            Code::InsufficientScope => StatusCode::FORBIDDEN,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The member `error` of the answer.
    fn name(&self) -> &'static str {
        match self.code {
            Code::MissingToken => "unauthorized",
            Code::InvalidRequest => "invalid_request",
            Code::InvalidToken => "invalid_token",
            Code::InsufficientScope => "insufficient_scope",
            Code::Unavailable => "temporarily_unavailable",
        }
    }

    fn description(&self) -> Option<&'static str> {
        match self.code {
            // RFC 6750 §3.1: a request without a token is told no error.
            Code::MissingToken | Code::Unavailable => None,
            Code::InvalidRequest => Some("The Authorization header is not one bearer token."),
            Code::InvalidToken => Some("The access token is not valid."),
            Code::InsufficientScope => Some("The access token lacks a scope that this needs."),
        }
    }
}

impl std::fmt::Display for VerifyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name(), self.reason)
    }
}

impl std::error::Error for VerifyError {}

/// How refusals present this API.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presentation {
    pub(crate) realm: Option<String>,
    pub(crate) resource_metadata: Option<String>,
}

/// The whole answer to a refused request.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// 400, 401, 403 or 503.
    pub status: StatusCode,
    /// Among them `WWW-Authenticate` (RFC 6750 §3) or `Retry-After`.
    pub headers: HeaderMap,
    /// JSON.
    pub body: String,
}

impl Refusal {
    pub(crate) fn of(error: &VerifyError, presentation: &Presentation) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if error.code == Code::Unavailable {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        } else if let Ok(value) = HeaderValue::try_from(challenge(error, presentation)) {
            headers.insert(WWW_AUTHENTICATE, value);
        }
        let body = format!("{{\"error\":\"{}\"}}", error.name());
        Self { status: error.status(), headers, body }
    }

    /// As a response of any framework whose bodies can be made of text.
    pub fn into_response<B: From<String>>(self) -> Response<B> {
        let mut response = Response::new(B::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

fn challenge(error: &VerifyError, presentation: &Presentation) -> String {
    let mut text = "Bearer".to_owned();
    let mut comma = " ";
    let mut part = |name: &str, value: &str| {
        let _ = write!(text, "{comma}{name}={}", quoted(value));
        comma = ", ";
    };
    if let Some(realm) = &presentation.realm {
        part("realm", realm);
    }
    if let Some(description) = error.description() {
        part("error", error.name());
        part("error_description", description);
    }
    if !error.scopes.is_empty() {
        part("scope", &error.scopes.join(" "));
    }
    // RFC 9728 §5.1.
    if let Some(address) = &presentation.resource_metadata {
        part("resource_metadata", address);
    }
    text
}

/// A quoted-string (RFC 9110 §5.6.4) of text from the configuration.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars().filter(|c| matches!(c, ' '..='~')) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
