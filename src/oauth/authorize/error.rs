use std::borrow::Cow;

use crate::limits::TooOften;
use crate::oauth::{ErrorCode, InvalidParams};
use crate::storage::StoreError;

/// Why a request is answered with a page of ours: it cannot be known where an answer may go
/// (RFC 6749 §4.1.2.1). Nobody is redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageCause {
    /// The parameters cannot be read.
    Params(InvalidParams),
    /// Together the parameters are longer than we keep.
    TooLong,
    /// `client_id` or `redirect_uri` came twice.
    Repeated(&'static str),
    /// No `client_id`.
    NoClient,
    /// No such client, or a disabled one: nobody is told which.
    UnknownClient,
    /// No `redirect_uri`, and the client has not exactly one.
    NoRedirectUri,
    /// A `redirect_uri` that is not registered.
    RedirectUri(Box<UnregisteredUri>),
}

/// What helps a developer whose redirect URI is not registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnregisteredUri {
    /// What was sent.
    pub received: String,
    /// What is registered.
    pub registered: Vec<String>,
    /// The registered one that is most like it.
    pub closest: Option<String>,
}

/// Why a request ends without a page of ours or an answer to the client.
#[derive(Debug)]
pub enum Refused {
    /// With a page that goes nowhere.
    Page(PageCause),
    /// The store could not answer: 503.
    Store(StoreError),
    /// Too many requests from there: 429.
    TooOften(TooOften),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Why the client gets an error instead of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A parameter came twice.
    Repeated,
    /// Together the parameters are longer than we carry.
    TooLong,
    /// A NUL or another control character where none belongs.
    ControlCharacter,
    /// The client may not use this grant type.
    GrantNotAllowed,
    /// `response_type` is missing.
    NoResponseType,
    /// A `response_type` other than `code`.
    ResponseType,
    /// A `response_mode` other than `query`.
    ResponseMode,
    /// `code_challenge` is missing.
    ChallengeMissing,
    /// `code_challenge` is no S256 challenge.
    ChallengeMalformed,
    /// `code_challenge_method` is missing or is not `S256`.
    ChallengeMethod,
    /// `scope` is malformed.
    ScopeMalformed,
    /// A scope that does not exist or is not this client's.
    ScopeNotAllowed,
    /// A resource that does not exist or is not this client's.
    Target,
    /// `prompt` has an unknown value, or `none` with others.
    Prompt,
    /// `max_age` is no number of seconds.
    MaxAge,
    /// `claims` is no JSON object of the right shape.
    Claims,
    /// `request` is not supported.
    RequestObject,
    /// `request_uri` is not supported.
    RequestUri,
    /// `registration` is not supported.
    Registration,
    /// An `acr` that was called essential cannot be reached.
    Acr,
    /// Someone has to sign in, and must not be asked; or another user did.
    LoginRequired,
    /// The user has to decide, and must not be asked.
    ConsentRequired,
    /// The user said no.
    Denied,
    /// The state machine and we disagree: a fault of ours.
    Engine,
}

impl Cause {
    /// `error`.
    pub fn code(self) -> &'static str {
        let code = match self {
            Self::Repeated
            | Self::TooLong
            | Self::ControlCharacter
            | Self::NoResponseType
            | Self::ResponseMode
            | Self::ChallengeMissing
            | Self::ChallengeMalformed
            | Self::ChallengeMethod
            | Self::Prompt
            | Self::MaxAge
            | Self::Claims => ErrorCode::InvalidRequest,
            Self::GrantNotAllowed => ErrorCode::UnauthorizedClient,
            Self::ResponseType => ErrorCode::UnsupportedResponseType,
            Self::ScopeMalformed | Self::ScopeNotAllowed => ErrorCode::InvalidScope,
            Self::Target => ErrorCode::InvalidTarget,
            Self::RequestObject => ErrorCode::RequestNotSupported,
            Self::RequestUri => ErrorCode::RequestUriNotSupported,
            Self::Registration => ErrorCode::RegistrationNotSupported,
            // OpenID Connect Unmet Authentication Requirements 1.0.
            Self::Acr => return "unmet_authentication_requirements",
            Self::LoginRequired => ErrorCode::LoginRequired,
            Self::ConsentRequired => ErrorCode::ConsentRequired,
            Self::Denied => ErrorCode::AccessDenied,
            Self::Engine => ErrorCode::ServerError,
        };
        code.as_str()
    }

    /// `error_description`: what is wrong and how to mend it, in the characters of
    /// RFC 6749 §4.1.2.1. Nothing of the request is repeated in it.
    pub fn description(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Repeated => "a parameter is repeated; send each once",
            Self::TooLong => {
                "the request is too long; all parameters together have at most 4096 bytes"
            }
            Self::ControlCharacter => "a parameter contains a control character",
            Self::GrantNotAllowed => {
                "this client may not use the authorization code grant; add 'authorization_code' to its grants"
            }
            Self::NoResponseType => "response_type is missing; send response_type=code",
            Self::ResponseType => "only response_type=code is supported",
            Self::ResponseMode => "only response_mode=query is supported; leave it out",
            Self::ChallengeMissing => {
                "code_challenge is missing; this client must use PKCE with method S256"
            }
            Self::ChallengeMalformed => {
                "code_challenge is not the base64url text of a SHA-256 digest, 43 characters without padding"
            }
            Self::ChallengeMethod => {
                "code_challenge_method must be S256; it is plain when left out, which is not accepted"
            }
            Self::ScopeMalformed => {
                "scope is a list of printable ASCII tokens separated by single spaces"
            }
            Self::ScopeNotAllowed => {
                "a scope is unknown or not assigned to this client; ask for less, or add it to the client's scopes"
            }
            Self::Target => {
                "resource is not an absolute URI without fragment that this client may ask for"
            }
            Self::Prompt => "prompt is a list of login, consent and select_account, or none alone",
            Self::MaxAge => "max_age is a number of seconds, 0 or more",
            Self::Claims => "claims is a JSON object with the members userinfo and id_token",
            Self::RequestObject => "request is not supported; send the parameters themselves",
            Self::RequestUri => "request_uri is not supported; send the parameters themselves",
            Self::Registration => "registration is not supported; register the client first",
            Self::Acr => "none of the acr values that claims calls essential can be reached",
            Self::LoginRequired => {
                "the user has to sign in; send the request again without prompt=none"
            }
            Self::ConsentRequired => {
                "the user has to decide; send the request again without prompt=none"
            }
            Self::Denied => "the user or the server denied the request",
            Self::Engine => "the server failed; the operator's log has the reason",
        })
    }
}
