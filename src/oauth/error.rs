//! What the token, introspection and revocation endpoints say when they say no.
//!
//! An error has a public half (code, status, a description that names the fix) and a private half
//! (the [`Cause`], for logs and audit). It is logged once, where it leaves.

use std::borrow::Cow;
use std::time::Duration;

use thiserror::Error;

pub use super::error_code::ErrorCode;

use super::engine::Refusal;
use super::params::InvalidParams;
use crate::model::GrantId;
use crate::model::client::AuthMethod;
use crate::storage::StoreError;
use crate::token::api_key::KeyRefusal;

/// Why a request was refused: the private half.
#[derive(Debug, Error)]
pub enum Cause {
    /// The parameters cannot be read.
    #[error("{0}")]
    Params(#[from] InvalidParams),
    /// Parameters in the URL, where they would be logged (RFC 6749 §2.3.1, §3.2).
    #[error("parameters in the query")]
    InQuery,
    /// The body is no form.
    #[error("the body is not a form")]
    NotAForm,
    /// A parameter that the request needs is not there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// `grant_type` is none of ours, or not the tenant's.
    #[error("unsupported grant type")]
    UnsupportedGrantType,
    /// The client may not use this grant type.
    #[error("the client may not use grant type `{0}`")]
    GrantNotAllowed(&'static str),
    /// Only confidential clients have credentials to be granted something for.
    #[error("a public client asked for client_credentials")]
    PublicClientCredentials,

    /// No client is named.
    #[error("no client is named")]
    NoClient,
    /// A confidential (or unknown) client named itself and proved nothing.
    #[error("only a client id was sent")]
    NoSecret,
    /// Unknown client.
    #[error("no such client")]
    UnknownClient,
    /// Known client, wrong secret.
    #[error("wrong client secret")]
    WrongSecret,
    /// The secret is right, but the client is pinned to another way of sending it.
    #[error("the client is pinned to {}", .0.as_str())]
    WrongMethod(AuthMethod),
    /// The client is disabled.
    #[error("the client is disabled")]
    ClientDisabled,
    /// The Authorization header is no Basic credentials (RFC 7617 §2).
    #[error("malformed Basic credentials")]
    MalformedBasic,
    /// A client assertion (RFC 7523), which no client here is registered for.
    #[error("a client assertion")]
    Assertion,
    /// More than one method of authentication (RFC 6749 §2.3).
    #[error("two methods of client authentication")]
    TwoMethods,
    /// Header and body name different clients.
    #[error("two client ids")]
    TwoClients,
    /// An endpoint for confidential clients was used by a public one.
    #[error("a public client where a confidential one is needed")]
    PublicClient,

    /// The code is no code of ours: spelling or checksum.
    #[error("malformed code")]
    MalformedCode,
    /// No such code.
    #[error("unknown code")]
    UnknownCode,
    /// The code was issued to another client.
    #[error("the code was issued to another client")]
    ForeignCode,
    /// The authorization request named a redirect URI, this one does not (RFC 6749 §4.1.3).
    #[error("redirect_uri is missing")]
    RedirectUriMissing,
    /// It is another one.
    #[error("redirect_uri differs")]
    RedirectUriDiffers,
    /// The code has a challenge, the request no verifier (RFC 7636 §4.6).
    #[error("code_verifier is missing")]
    VerifierMissing,
    /// The verifier is not that of the challenge.
    #[error("wrong code_verifier")]
    VerifierWrong,
    /// A verifier where there was no challenge (RFC 9700 §4.8.2).
    #[error("code_verifier without a challenge")]
    VerifierWithoutChallenge,
    /// The code's time is over; nothing is revoked.
    #[error("the code has expired")]
    CodeExpired,
    /// A second valid use; the grant is revoked.
    #[error("the code was replayed; grant {grant} is revoked")]
    CodeReplayed {
        /// The grant that is revoked.
        grant: GrantId,
    },
    /// Killed by wrong verifiers.
    #[error("the code is dead")]
    CodeDead,
    /// Its grant, session, user or client is no longer live.
    #[error("the code's grant is not live")]
    CodeRevoked,

    /// `code_challenge_method` is not S256 (RFC 7636 §4.3).
    #[error("code_challenge_method is not S256")]
    ChallengeMethod,
    /// `code_challenge` is no SHA-256.
    #[error("malformed code_challenge")]
    ChallengeMalformed,
    /// A parameter that is too long, or has characters that it cannot have.
    #[error("`{0}` does not fit")]
    Unfit(&'static str),
    /// Nobody decided about the device yet.
    #[error("nobody decided yet")]
    AuthorizationPending,
    /// … and it polls too fast.
    #[error("polled too early")]
    SlowDown,
    /// The user denied the device.
    #[error("the user denied the device")]
    DeviceDenied,
    /// The device code's time is over.
    #[error("the device code has expired")]
    DeviceExpired,
    /// The device code is no code of ours: spelling or checksum.
    #[error("malformed device code")]
    MalformedDeviceCode,
    /// No such device code for this client.
    #[error("unknown device code")]
    UnknownDeviceCode,
    /// Tokens were issued for it before.
    #[error("the device code was redeemed before")]
    DeviceRedeemed,
    /// Its grant, user or client is no longer live.
    #[error("the device's grant is not live")]
    DeviceRevoked,

    /// The refresh token is none of ours: spelling or checksum.
    #[error("malformed refresh token")]
    MalformedRefresh,
    /// No such grant for this client.
    #[error("unknown refresh token")]
    UnknownRefresh,
    /// It was issued to another client.
    #[error("the refresh token was issued to another client")]
    ForeignRefresh,
    /// Its MAC is wrong.
    #[error("forged refresh token")]
    BadMac,
    /// A spent one; the grant is revoked.
    #[error("refresh token reuse; grant {grant} is revoked")]
    RefreshReused {
        /// The grant that is revoked.
        grant: GrantId,
    },
    /// One from a future that never was; the grant is revoked.
    #[error(
        "a refresh token from the future; grant {grant} is revoked: is a ring key known to others?"
    )]
    RefreshForged {
        /// The grant that is revoked.
        grant: GrantId,
    },
    /// Its idle or absolute end has come.
    #[error("the refresh token has expired")]
    RefreshExpired,
    /// Its grant, session, user or client is no longer live.
    #[error("the refresh token's grant is not live")]
    RefreshRevoked,

    /// A type of token that is not exchanged here (RFC 8693 §3).
    #[error("`{0}` names a type that is not exchanged")]
    TokenType(&'static str),
    /// The subject token is refused (RFC 8693 §2.2.2).
    #[error("{0}")]
    SubjectToken(KeyRefusal),
    /// The key is bound to addresses, and not marked as exchangeable.
    #[error("the API key is bound to addresses and may not be exchanged")]
    NotExchangeable,

    /// `scope` is not in the syntax of RFC 6749 §3.3.
    #[error("malformed scope")]
    ScopeMalformed,
    /// More than the client, or the user's consent, allows.
    #[error("scope beyond what is allowed")]
    ScopeTooWide,
    /// Nothing of the scope is left that the client may still have.
    #[error("no scope is left")]
    ScopeEmpty,
    /// A resource that is not granted, or not the client's to ask for.
    #[error("resource not allowed")]
    TargetNotAllowed,
    /// The request resolves to more than one audience.
    #[error("more than one audience")]
    TargetAmbiguous,

    /// Too many failures or repeats; come back later.
    #[error("too many attempts")]
    TooMany {
        /// When to come back.
        retry_after: Duration,
    },
    /// A not-before of the revocation log still covers what would be minted.
    #[error("minting is blocked by a not-before")]
    MintingBlocked {
        /// When to come back.
        retry_after: Duration,
    },
    /// A ring key that storage knows and this node lacks.
    #[error("ring key {0} is not on this node")]
    UnknownRingKey(u8),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state machine refused the grant, our own checks notwithstanding.
    #[error("the grant was refused")]
    GrantRefused,
    /// The state machine and we disagree about the order of steps: a fault of ours.
    #[error("the flow went astray")]
    Engine,
}

/// A refusal on its way out.
#[derive(Debug, Error)]
#[error("{cause}")]
pub struct TokenError {
    cause: Cause,
    /// Whether the client tried HTTP Basic and must be answered in kind (RFC 6749 §5.2).
    basic: bool,
}

impl From<Cause> for TokenError {
    fn from(cause: Cause) -> Self {
        Self { cause, basic: false }
    }
}

impl From<InvalidParams> for TokenError {
    fn from(invalid: InvalidParams) -> Self {
        Cause::Params(invalid).into()
    }
}

impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::InvalidGrant => Cause::GrantRefused,
            Refusal::InvalidScope => Cause::ScopeTooWide,
            _ => Cause::Engine,
        }
        .into()
    }
}

impl TokenError {
    /// Whether a credential was used by two, of whom one is a thief.
    pub fn is_theft(&self) -> bool {
        matches!(
            self.cause,
            Cause::CodeReplayed { .. } | Cause::RefreshReused { .. } | Cause::RefreshForged { .. }
        )
    }

    /// The same refusal to a client that used the Authorization header.
    #[must_use]
    pub fn over_basic(mut self) -> Self {
        self.basic = true;
        self
    }

    /// Whether the answer carries `WWW-Authenticate: Basic` (RFC 6749 §5.2).
    pub fn challenges_basic(&self) -> bool {
        self.basic && self.code() == ErrorCode::InvalidClient
    }

    /// The private half, for logs and audit.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// `error`.
    pub fn code(&self) -> ErrorCode {
        self.cause.answer().0
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.cause.answer().1
    }

    /// `error_description`: what is wrong and how to mend it, in the characters of RFC 6749 §5.2.
    pub fn description(&self) -> Cow<'static, str> {
        self.cause.description()
    }

    /// When to come back, in whole seconds, beside 429 and 503.
    pub fn retry_after(&self) -> Option<u64> {
        let wait = match &self.cause {
            Cause::TooMany { retry_after } | Cause::MintingBlocked { retry_after } => *retry_after,
            _ if self.status() == 503 => Duration::from_secs(1),
            _ => return None,
        };
        Some(wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX))
    }
}

impl Cause {
    /// Code and status; pinned by a test.
    fn answer(&self) -> (ErrorCode, u16) {
        use ErrorCode as E;
        match self {
            Self::Params(_)
            | Self::InQuery
            | Self::NotAForm
            | Self::Missing(_)
            | Self::TwoMethods
            | Self::TwoClients
            | Self::ChallengeMethod
            | Self::ChallengeMalformed
            | Self::TokenType(_)
            | Self::SubjectToken(_)
            | Self::NotExchangeable
            | Self::Unfit(_) => (E::InvalidRequest, 400),
            Self::AuthorizationPending => (E::AuthorizationPending, 400),
            Self::SlowDown => (E::SlowDown, 400),
            Self::DeviceDenied => (E::AccessDenied, 400),
            Self::DeviceExpired => (E::ExpiredToken, 400),
            Self::UnsupportedGrantType => (E::UnsupportedGrantType, 400),
            Self::GrantNotAllowed(_) | Self::PublicClientCredentials => {
                (E::UnauthorizedClient, 400)
            }
            Self::NoClient
            | Self::NoSecret
            | Self::UnknownClient
            | Self::WrongSecret
            | Self::WrongMethod(_)
            | Self::ClientDisabled
            | Self::MalformedBasic
            | Self::Assertion
            | Self::PublicClient => (E::InvalidClient, 401),
            Self::MalformedCode
            | Self::UnknownCode
            | Self::ForeignCode
            | Self::RedirectUriMissing
            | Self::RedirectUriDiffers
            | Self::VerifierMissing
            | Self::VerifierWrong
            | Self::VerifierWithoutChallenge
            | Self::CodeExpired
            | Self::CodeReplayed { .. }
            | Self::CodeDead
            | Self::CodeRevoked
            | Self::MalformedRefresh
            | Self::UnknownRefresh
            | Self::ForeignRefresh
            | Self::BadMac
            | Self::RefreshReused { .. }
            | Self::RefreshForged { .. }
            | Self::RefreshExpired
            | Self::RefreshRevoked
            | Self::MalformedDeviceCode
            | Self::UnknownDeviceCode
            | Self::DeviceRedeemed
            | Self::DeviceRevoked
            | Self::GrantRefused => (E::InvalidGrant, 400),
            Self::ScopeMalformed | Self::ScopeTooWide | Self::ScopeEmpty => (E::InvalidScope, 400),
            Self::TargetNotAllowed | Self::TargetAmbiguous => (E::InvalidTarget, 400),
            Self::TooMany { .. } => (E::TemporarilyUnavailable, 429),
            Self::MintingBlocked { .. } | Self::UnknownRingKey(_) | Self::Store(_) => {
                (E::TemporarilyUnavailable, 503)
            }
            Self::Engine => (E::ServerError, 500),
        }
    }

    fn description(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Params(invalid) => return Cow::Owned(invalid.to_string().replace('`', "'")),
            Self::Missing(name) => {
                return Cow::Owned(format!("the parameter '{name}' is missing or empty"));
            }
            Self::Unfit(name) => {
                return Cow::Owned(format!(
                    "the parameter '{name}' is too long, or has characters that it cannot have"
                ));
            }
            Self::GrantNotAllowed(grant) => {
                return Cow::Owned(format!(
                    "this client may not use '{grant}'; add it to the client's grants"
                ));
            }
            Self::WrongMethod(method) => {
                return Cow::Owned(match method {
                    AuthMethod::None => {
                        "this client is public; send client_id and no secret".to_owned()
                    }
                    pinned => format!(
                        "this client authenticates by {} only; send the secret that way, or change \
                         the client's auth method",
                        pinned.as_str()
                    ),
                });
            }
            Self::InQuery => "send the parameters in the body, not in the URL",
            Self::NotAForm => "send the parameters as application/x-www-form-urlencoded",
            Self::UnsupportedGrantType => {
                "this grant type is not available here; grant_types_supported in the discovery \
                 document lists those that are"
            }
            Self::PublicClientCredentials => {
                "a public client cannot use client_credentials; it needs a client that has a secret"
            }
            Self::NoClient => {
                "name the client: send client_id, or client id and secret by HTTP Basic"
            }
            Self::NoSecret => {
                "no client authentication: check client_id; if the client has a secret, send it by \
                 HTTP Basic or as client_secret; if it cannot keep one, register it as public"
            }
            // One text, so that nobody learns which clients there are.
            Self::UnknownClient | Self::WrongSecret => {
                "client authentication failed: check client id and secret"
            }
            Self::ClientDisabled => "this client is disabled; ask the operator to enable it",
            Self::MalformedBasic => {
                "the Authorization header is not Basic with base64 of id:secret, each form-urlencoded"
            }
            Self::Assertion => {
                "client assertions are not supported; token_endpoint_auth_methods_supported in the \
                 discovery document lists what is"
            }
            Self::TwoMethods => {
                "authenticate the client once: by the Authorization header or in the body, not both"
            }
            Self::TwoClients => "the Authorization header and client_id name different clients",
            Self::PublicClient => "this endpoint needs a client that has a secret",
            Self::RedirectUriMissing => {
                "redirect_uri is missing; repeat the one of the authorization request"
            }
            Self::RedirectUriDiffers => "redirect_uri is not the one of the authorization request",
            Self::VerifierMissing => {
                "code_verifier is missing; the authorization request had a code_challenge"
            }
            Self::VerifierWrong => "code_verifier does not match the code_challenge",
            Self::VerifierWithoutChallenge => {
                "code_verifier was sent, but the authorization request had no code_challenge"
            }
            Self::ChallengeMethod => "send code_challenge_method=S256; plain is not accepted",
            Self::ChallengeMalformed => {
                "code_challenge is not the base64url of a SHA-256 without padding"
            }
            Self::AuthorizationPending => "the user has not decided yet; poll again after interval",
            Self::SlowDown => {
                "polled too early; wait five seconds longer between polls from now on"
            }
            Self::DeviceDenied => "the user denied the request",
            Self::DeviceExpired => "the device code has expired; begin again",
            Self::MalformedDeviceCode
            | Self::UnknownDeviceCode
            | Self::DeviceRedeemed
            | Self::DeviceRevoked => {
                "the device code is unknown, was used, or was issued to another client; begin again"
            }
            Self::CodeExpired => "the code has expired; begin the authorization again",
            Self::MalformedCode
            | Self::UnknownCode
            | Self::ForeignCode
            | Self::CodeReplayed { .. }
            | Self::CodeDead
            | Self::CodeRevoked
            | Self::GrantRefused => {
                "the code is unknown, was used, or was issued to another client; begin the \
                 authorization again"
            }
            Self::RefreshExpired => "the refresh token has expired; begin the authorization again",
            Self::MalformedRefresh
            | Self::UnknownRefresh
            | Self::ForeignRefresh
            | Self::BadMac
            | Self::RefreshReused { .. }
            | Self::RefreshForged { .. }
            | Self::RefreshRevoked => {
                "the refresh token is unknown, spent, revoked, or was issued to another client; \
                 begin the authorization again"
            }
            Self::TokenType(name) => {
                return Cow::Owned(format!(
                    "'{name}' is of a type that is not exchanged here: an API key is, for an access \
                     token"
                ));
            }
            // One text, so that nobody learns which keys there are.
            Self::SubjectToken(_) => {
                "subject_token is no live API key that may be used from this address"
            }
            Self::NotExchangeable => {
                "this API key is bound to addresses; only a key made with exchange may be exchanged"
            }
            Self::ScopeMalformed => {
                "scope is a list of printable ASCII tokens separated by single spaces"
            }
            Self::ScopeTooWide => {
                "scope goes beyond what this client was granted or may ask for; leave it out, or ask \
                 for less"
            }
            Self::ScopeEmpty => "nothing of what was granted may this client still have",
            Self::TargetNotAllowed => {
                "resource was not granted, or is not one that this client may ask for"
            }
            Self::TargetAmbiguous => "a token is for one resource; name one with resource",
            Self::TooMany { .. } => "too many attempts; wait as long as Retry-After says",
            Self::MintingBlocked { .. } => {
                "tokens are being revoked just now; wait as long as Retry-After says"
            }
            Self::UnknownRingKey(_) | Self::Store(_) => {
                "the server cannot answer just now; nothing is wrong with the request, try it again"
            }
            Self::Engine => "the server failed; the operator's log has the reason",
        })
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
