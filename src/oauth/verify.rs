//! Forward authentication: a proxy asks, for each request, whether the token that came with it lets
//! it through (nginx `auth_request`, Caddy `forward_auth`). The token itself is the credential: what
//! is told is what its bearer could know, and only for the audience that is asked about.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::bearer::{self, BearerError};
use super::introspect::{self, Bearer};
use super::{Call, Params, resource_metadata};
use crate::config::settings;
use crate::model::Scope;
use crate::model::token::AccessClaims;
use crate::storage::StoreError;

/// What a request has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The token must be for each of these.
    audiences: Vec<String>,
    /// … and have all of this.
    scope: Scope,
}

impl Needs {
    /// From the address that the proxy calls (`audience`, `scope`) and from what it says in headers.
    ///
    /// Whoever fixes its needs in the address need not care which headers it hands on: a header can
    /// only ask for more. Where the address names no audience, a header may; else the tenant's
    /// default is meant.
    pub fn read(
        tenant: &settings::Tenant,
        query: &Params,
        audiences: &[&str],
        scopes: &[&str],
    ) -> Result<Self, VerifyError> {
        let named = query.get("audience").into_iter().chain(audiences.iter().copied());
        let mut audiences: Vec<String> = named.map(str::to_owned).collect();
        if audiences.is_empty() {
            audiences.push(tenant.default_audience.clone());
        }
        let mut scope = Scope::default();
        for part in query.get("scope").into_iter().chain(scopes.iter().copied()) {
            let part = Scope::parse(part).map_err(|_| VerifyError::Malformed("scope"))?;
            scope = scope.union(&part);
        }
        Ok(Self { audiences, scope })
    }

    /// The scope that is needed.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Where the metadata of the protected resource are (RFC 9728 §5.1); none of what is no resource
    /// of the tenant.
    pub fn metadata_url(&self, tenant: &settings::Tenant) -> Option<String> {
        let mut known = self.audiences.iter();
        known.find_map(|audience| resource_metadata::url(tenant, audience))
    }
}

/// Why a request is not let through.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// There is no live token.
    #[error(transparent)]
    Bearer(#[from] BearerError),
    /// A live token, for another audience.
    #[error("the access token is for another audience")]
    Audience,
    /// A live token that does not go far enough.
    #[error("the access token lacks scope")]
    Scope,
    /// An API key that is used more often than it may be.
    #[error("the API key is used too often")]
    TooOften(Duration),
    /// What the proxy asks for cannot be read.
    #[error("`{0}` cannot be read")]
    Malformed(&'static str),
}

impl From<StoreError> for VerifyError {
    fn from(error: StoreError) -> Self {
        Self::Bearer(error.into())
    }
}

impl VerifyError {
    /// The HTTP status. Proxies know 401 and 403; all that is wrong with the credential is the
    /// former, so that a client's mistake is not taken for ours.
    pub fn status(&self) -> u16 {
        match self {
            Self::Bearer(BearerError::TwoTokens) | Self::Audience => 401,
            Self::Bearer(error) => error.status(),
            Self::Scope => 403,
            Self::TooOften(_) => 429,
            Self::Malformed(_) => 400,
        }
    }

    /// `error` (RFC 6750 §3.1); none beside a bare challenge.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Bearer(error) => error.code().map(super::ErrorCode::as_str),
            Self::Audience => Some("invalid_token"),
            Self::Scope => Some("insufficient_scope"),
            Self::TooOften(_) => Some("temporarily_unavailable"),
            Self::Malformed(_) => Some("invalid_request"),
        }
    }

    /// `error_description`.
    pub fn description(&self) -> String {
        match self {
            Self::Bearer(error) => error.description().into_owned(),
            Self::Audience => "the access token is for another resource".to_owned(),
            Self::Scope => "the access token does not have the scope that is needed".to_owned(),
            Self::TooOften(_) => "the API key is used too often; try again later".to_owned(),
            Self::Malformed(what) => format!("{what} cannot be read: see the proxy's settings"),
        }
    }

    /// When to come back, in whole seconds, beside 429 and 503.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooOften(wait) => Some(wait.as_secs() + 1),
            Self::Bearer(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The `WWW-Authenticate` value (RFC 6750 §3, RFC 9728 §5.1); none where it is not the token
    /// that is wrong.
    pub fn challenge(&self, call: &Call<'_>, needs: Option<&Needs>) -> Option<String> {
        if !matches!(self.status(), 401 | 403) {
            return None;
        }
        let mut text = format!("Bearer realm=\"{}\"", call.tenant.slug);
        let mut put = |name: &str, value: &str| {
            let _ = write!(text, ", {name}=\"{value}\"");
        };
        if let Some(code) = self.code() {
            put("error", code);
            put("error_description", &self.description());
        }
        if let Some(scope) = needs.map(Needs::scope).filter(|scope| !scope.is_empty()) {
            put("scope", &scope.to_string());
        }
        if let Some(url) = needs.and_then(|needs| needs.metadata_url(&call.tenant.settings)) {
            put("resource_metadata", &url);
        }
        Some(text)
    }
}

/// What the token (or API key) of a request says, if it is live, for the audience, and goes far enough. No query
/// for a JWT that was seen before.
pub async fn verify(
    call: &Call<'_>,
    authorization: &[&[u8]],
    query: &Params,
    needs: &Needs,
) -> Result<Arc<AccessClaims>, VerifyError> {
    let token = bearer::presented(authorization, query, None)?;
    let (claims, is_token) = match introspect::live_bearer(call, token, call.peer()).await? {
        Bearer::Token(claims) => (claims, true),
        Bearer::ApiKey(claims) => (claims, false),
        Bearer::TooOften { retry_after } => return Err(VerifyError::TooOften(retry_after)),
        Bearer::NotLive => return Err(BearerError::NotLive.into()),
    };
    if !needs.audiences.iter().all(|one| claims.audience.contains(one)) {
        return Err(VerifyError::Audience);
    }
    if !needs.scope.is_subset_of(&claims.scope) {
        return Err(VerifyError::Scope);
    }
    if is_token {
        call.services.heads.met(call, &claims);
    }
    Ok(claims)
}

/// A text as a header value: visible ASCII stays, anything else (and `%`) is percent-encoded, so
/// that nothing can end the line or read in two ways.
pub fn header_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            shown.push(char::from(byte));
        } else {
            let _ = write!(shown, "%{byte:02X}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::testing;

    fn needs(query: &str, audiences: &[&str], scopes: &[&str]) -> Result<(String, String), u16> {
        let query = Params::parse(query.as_bytes()).unwrap();
        let needs = Needs::read(&testing::tenant_settings(), &query, audiences, scopes);
        needs
            .map(|needs| (needs.audiences.join(" "), needs.scope.to_string()))
            .map_err(|error| error.status())
    }

    fn are(audiences: &str, scope: &str) -> (String, String) {
        (audiences.to_owned(), scope.to_owned())
    }

    #[test]
    fn without_an_audience_the_tenants_default_is_meant() {
        assert_eq!(needs("", &[], &[]).unwrap(), are("https://id.example/t/acme", ""));
        assert_eq!(needs("", &["urn:api"], &["read"]).unwrap(), are("urn:api", "read"));
    }

    #[test]
    fn a_header_asks_for_more_and_never_for_less() {
        let fixed = "audience=urn:api&scope=read+write";
        assert_eq!(needs(fixed, &[], &[]).unwrap(), are("urn:api", "read write"));
        assert_eq!(needs(fixed, &[], &["", "read"]).unwrap(), are("urn:api", "read write"));
        assert_eq!(
            needs(fixed, &["urn:other"], &["x"]).unwrap(),
            are("urn:api urn:other", "read write x")
        );
    }

    #[test]
    fn a_scope_that_is_none_is_refused() {
        assert_eq!(needs("scope=a%22", &[], &[]), Err(400));
        assert_eq!(needs("", &[], &["a  b"]), Err(400));
    }

    #[test]
    fn a_header_has_one_line_and_one_reading() {
        assert_eq!(header_text("a-b_c"), "a-b_c");
        assert_eq!(header_text("a\r\nx: y"), "a%0D%0Ax:%20y");
        assert_eq!(header_text("ä%"), "%C3%A4%25");
    }
}
