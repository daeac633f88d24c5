//! Between our types and oxide-auth's.

use oxide_auth::code_grant::accesstoken::TokenResponse;
use oxide_auth::code_grant::error::AccessTokenErrorType as Kind;
use oxide_auth::primitives::issuer::{IssuedToken, TokenType};
use oxide_auth::primitives::prelude::Scope as OxideScope;

use super::{Refusal, Tokens};
use crate::base::{Secret, Timestamp};
use crate::model::Scope;

/// oxide-auth's clock is not ours: whatever expires, expires later than its machines can see.
pub(super) fn far_future() -> chrono::DateTime<chrono::Utc> {
    Timestamp::FAR_FUTURE.to_chrono()
}

/// Our scope as theirs; both know the character set of RFC 6749 §3.3.
pub(super) fn to_oxide(scope: &Scope) -> Result<OxideScope, Refusal> {
    scope.to_string().parse().map_err(|_| Refusal::InvalidScope)
}

/// What a machine left of `ours`, in our order: theirs is a set.
pub(super) fn kept(ours: &Scope, theirs: &OxideScope) -> Scope {
    ours.filter(|token| theirs.iter().any(|other| other == token))
}

pub(super) fn issued(tokens: &Tokens) -> IssuedToken {
    IssuedToken {
        token: tokens.access.reveal().clone(),
        refresh: tokens.refresh.as_ref().map(|token| token.reveal().clone()),
        until: far_future(),
        token_type: TokenType::Bearer,
    }
}

/// The tokens out of the response that a machine released.
pub(super) fn released(json: String) -> Result<Tokens, Refusal> {
    let json = Secret::new(json);
    let response: TokenResponse =
        serde_json::from_str(json.reveal()).map_err(|_| Refusal::OutOfOrder)?;
    Ok(Tokens {
        access: response.access_token.map(Secret::new).ok_or(Refusal::OutOfOrder)?,
        refresh: response.refresh_token.map(Secret::new),
    })
}

pub(super) fn refusal(kind: Kind) -> Refusal {
    match kind {
        Kind::InvalidRequest => Refusal::InvalidRequest,
        Kind::InvalidClient => Refusal::InvalidClient,
        Kind::InvalidGrant => Refusal::InvalidGrant,
        Kind::UnauthorizedClient => Refusal::UnauthorizedClient,
        Kind::UnsupportedGrantType => Refusal::UnsupportedGrantType,
        Kind::InvalidScope => Refusal::InvalidScope,
    }
}

/// Stands where oxide-auth wants a redirect URI and the grant has none.
pub(in crate::oauth) const NO_REDIRECT_URI: &str = "urn:ietf:wg:oauth:2.0:none";

pub(super) fn no_redirect_uri() -> Result<url::Url, Refusal> {
    NO_REDIRECT_URI.parse().map_err(|_| Refusal::OutOfOrder)
}
