//! Protected resources of ours (RFC 6750): the one access token of a request, whether it is live and
//! goes far enough, and the words for when not.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::engine::{self, Flow, Refusal, Resource, ResourceAnswer, ResourceAsk, ResourceMachine};
use super::{Call, ErrorCode, Params, introspect};
use crate::model::token::AccessClaims;
use crate::storage::StoreError;

/// Why a resource is not shown (RFC 6750 §3.1).
#[derive(Debug, Error)]
pub enum BearerError {
    /// No token at all: the challenge alone, without an error code.
    #[error("no access token")]
    NoToken,
    /// More than one token, or one where it must not be.
    #[error("more than one access token, or one in the URL")]
    TwoTokens,
    /// Malformed, unknown, expired or revoked, or its user is disabled.
    #[error("the access token is not live")]
    NotLive,
    /// Live, but without the scope that is needed.
    #[error("the access token lacks the scope {0}")]
    Scope(&'static str),
    /// An API key that is used more often than it may be.
    #[error("the API key is used too often")]
    TooOften {
        /// When to come back.
        retry_after: Duration,
    },
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state machine and we disagree about the order of steps: a fault of ours.
    #[error("the flow went astray")]
    Engine,
}

impl BearerError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoToken | Self::NotLive => 401,
            Self::TwoTokens => 400,
            Self::Scope(_) => 403,
            Self::TooOften { .. } => 429,
            Self::Store(_) => 503,
            Self::Engine => 500,
        }
    }

    /// `error`; none beside a bare challenge.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::NoToken => None,
            Self::TwoTokens => Some(ErrorCode::InvalidRequest),
            Self::NotLive => Some(ErrorCode::InvalidToken),
            Self::Scope(_) => Some(ErrorCode::InsufficientScope),
            Self::TooOften { .. } | Self::Store(_) => Some(ErrorCode::TemporarilyUnavailable),
            Self::Engine => Some(ErrorCode::ServerError),
        }
    }

    /// `error_description`: what is wrong and how to mend it.
    pub fn description(&self) -> Cow<'static, str> {
        let text = match self {
            Self::NoToken => "send an access token as 'Authorization: Bearer'",
            Self::TwoTokens => {
                "send one access token, in the Authorization header or the form body"
            }
            Self::NotLive => "the access token is malformed, expired or revoked; get a new one",
            Self::Scope(scope) => {
                return format!("the access token needs the scope {scope}").into();
            }
            Self::TooOften { .. } => "the API key is used too often; try again later",
            Self::Store(_) => "the server cannot answer just now; try again",
            Self::Engine => "the server failed; the operator's log has the reason",
        };
        text.into()
    }

    /// When to come back, in whole seconds, beside 429 and 503.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooOften { retry_after } => Some(retry_after.as_secs() + 1),
            _ => (self.status() == 503).then_some(1),
        }
    }

    /// The `WWW-Authenticate` value (RFC 6750 §3); none where it is not the token that is wrong.
    pub fn challenge(&self, realm: &str) -> Option<String> {
        let error = match self {
            Self::TooOften { .. } | Self::Store(_) | Self::Engine => return None,
            Self::NoToken => String::new(),
            other => {
                let code = other.code().map_or("", ErrorCode::as_str);
                format!(", error=\"{code}\", error_description=\"{}\"", other.description())
            }
        };
        let scope = match self {
            Self::Scope(scope) => format!(", scope=\"{scope}\""),
            _ => String::new(),
        };
        Some(format!("Bearer realm=\"{realm}\"{error}{scope}"))
    }
}

/// The one access token of a request: in the header, or in the form of a POST; never in the URL
/// (RFC 6750 §2, RFC 9700 §4.3.2).
pub fn presented<'a>(
    authorization: &'a [&'a [u8]],
    query: &Params,
    form: Option<&'a Params>,
) -> Result<&'a str, BearerError> {
    let in_form = form.and_then(|form| form.get("access_token"));
    if query.get("access_token").is_some() {
        return Err(BearerError::TwoTokens);
    }
    match (authorization, in_form) {
        ([], None) => Err(BearerError::NoToken),
        ([], Some(token)) => b64token(token.as_bytes()),
        ([header], None) => {
            let Some((scheme, token)) = header.split_at_checked(7) else {
                return Err(BearerError::NoToken);
            };
            if !scheme.eq_ignore_ascii_case(b"bearer ") {
                return Err(BearerError::NoToken);
            }
            b64token(token)
        }
        _ => Err(BearerError::TwoTokens),
    }
}

/// RFC 6750 §2.1: letters, digits, `-._~+/`, then `=`.
fn b64token(text: &[u8]) -> Result<&str, BearerError> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    if end == 0 || !text[..end].iter().all(fits) {
        return Err(BearerError::NotLive);
    }
    std::str::from_utf8(text).map_err(|_| BearerError::NotLive)
}

/// What a token says that is live and has the scope token `needs`.
pub async fn authorize(
    call: &Call<'_>,
    token: &str,
    needs: &'static str,
) -> Result<Arc<AccessClaims>, BearerError> {
    let machine = ResourceMachine::new(Resource { token, needs });
    let driven = engine::drive(machine, &mut Recover { call, token }).await;
    driven.map_err(|ended| match ended {
        Ended::Bearer(error) => error,
        Ended::Refused(Refusal::InvalidScope) => BearerError::Scope(needs),
        Ended::Refused(Refusal::InvalidGrant) => BearerError::NotLive,
        Ended::Refused(_) => BearerError::Engine,
    })
}

/// How the flow ends without claims.
enum Ended {
    Bearer(BearerError),
    Refused(Refusal),
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

struct Recover<'a> {
    call: &'a Call<'a>,
    token: &'a str,
}

impl Flow<ResourceMachine<'_>> for Recover<'_> {
    type Error = Ended;

    async fn answer(&mut self, ask: ResourceAsk) -> Result<ResourceAnswer, Ended> {
        match ask {
            ResourceAsk::Recover => {
                let live = introspect::live_access(self.call, self.token).await;
                let live = live.map_err(|error| Ended::Bearer(error.into()))?;
                let not_live = || Ended::Bearer(BearerError::NotLive);
                live.map(ResourceAnswer::Recovered).ok_or_else(not_live)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(header: Option<&str>, query: &str, form: Option<&str>) -> Result<String, u16> {
        let header = header.map(str::as_bytes);
        let query = Params::parse(query.as_bytes()).unwrap();
        let form = form.map(|text| Params::parse(text.as_bytes()).unwrap());
        presented(header.as_slice(), &query, form.as_ref())
            .map(str::to_owned)
            .map_err(|error| error.status())
    }

    #[test]
    fn a_token_comes_once_in_the_header_or_the_form() {
        assert_eq!(found(Some("Bearer abc"), "", None), Ok("abc".into()));
        assert_eq!(found(Some("bearer a.b-c="), "", Some("x=y")), Ok("a.b-c=".into()));
        assert_eq!(found(None, "", Some("access_token=abc")), Ok("abc".into()));
        assert_eq!(found(None, "", None), Err(401));
        assert_eq!(found(None, "access_token=abc", None), Err(400));
        assert_eq!(found(Some("Bearer abc"), "", Some("access_token=abc")), Err(400));
    }

    #[test]
    fn only_one_space_and_one_token_make_a_bearer() {
        for bad in
            ["Bearer\tabc", "Bearer  abc", "Bearer abc,def", "Bearer ", "Bearer", "Basic abc"]
        {
            assert_eq!(found(Some(bad), "", None), Err(401), "{bad:?}");
        }
    }

    #[test]
    fn the_challenge_names_error_and_scope_but_says_nothing_to_a_stranger() {
        let challenge = |error: BearerError| error.challenge("acme").unwrap();
        assert_eq!(challenge(BearerError::NoToken), r#"Bearer realm="acme""#);
        assert!(challenge(BearerError::NotLive).contains(r#"error="invalid_token""#));
        assert!(challenge(BearerError::Scope("openid")).ends_with(r#"scope="openid""#));
        let away = BearerError::Store(StoreError::unavailable("gone"));
        assert_eq!((away.status(), away.challenge("acme")), (503, None));
    }
}
