use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::error::{Cause, PageCause, Refused, UnregisteredUri};
use super::redirect_uri;
use crate::base::{Timestamp, base64url};
use crate::model::client::GrantType;
use crate::model::{Client, ClientId, Scope};
use crate::oauth::engine::{
    AuthorizationAnswer, AuthorizationAsk, AuthorizationMachine, AuthorizationRequest, Flow,
    Refusal, drive,
};
use crate::oauth::{Call, Params};
use crate::session::PendingAuthorization;
use crate::storage::StoreError;
use crate::token;

/// All parameters together; what is carried on besides must fit into an address of ours.
const LIMIT: usize = 4096;

/// The parameters of an authorization request that we read, or that OpenID Connect Core §3.1.2.1
/// lets us leave aside.
pub const PARAMETERS: [&str; 19] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "response_mode",
    "code_challenge",
    "code_challenge_method",
    "resource",
    "nonce",
    "display",
    "prompt",
    "max_age",
    "ui_locales",
    "claims_locales",
    "id_token_hint",
    "login_hint",
    "acr_values",
    "claims",
];

/// An authorization request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    params: Params,
    repeated: Vec<String>,
}

impl Request {
    /// Reads the query of a GET, or the body of a POST (OpenID Connect Core §3.1.2.1).
    pub fn parse(text: &[u8]) -> Result<Self, PageCause> {
        let (params, repeated) = Params::parse_unrepeated(text).map_err(PageCause::Params)?;
        for name in ["client_id", "redirect_uri"] {
            if repeated.iter().any(|other| other == name) {
                return Err(PageCause::Repeated(name));
            }
        }
        // No client has such an id, and no store need be asked for it.
        if params.get("client_id").is_some_and(|id| id.contains(char::is_control)) {
            return Err(PageCause::UnknownClient);
        }
        Ok(Self { params, repeated })
    }

    /// The parameters that came once, and every `resource`.
    pub fn params(&self) -> &Params {
        &self.params
    }

    fn is_too_long(&self) -> bool {
        let all = self.params.iter().map(|(name, value)| name.len() + value.len() + 2);
        all.sum::<usize>() > LIMIT
    }

    fn has_control_characters(&self) -> bool {
        self.params.iter().any(|(_, value)| value.chars().any(char::is_control))
    }
}

/// A request that is fit to be put before its user.
#[derive(Debug)]
pub(super) struct Valid {
    pub(super) client: Arc<Client>,
    pub(super) pending: PendingAuthorization,
    pub(super) prompt: Prompt,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Checked {
    Valid(Box<Valid>),
    /// To be answered at the redirect URI, which is known to be the client's.
    Rejected {
        redirect_uri: String,
        state: Option<String>,
        cause: Cause,
    },
}

/// `prompt` (OpenID Connect Core §3.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Prompt {
    pub(super) none: bool,
    pub(super) login: bool,
    pub(super) consent: bool,
    pub(super) select_account: bool,
}

impl Prompt {
    fn parse(text: Option<&str>) -> Result<Self, Cause> {
        let mut prompt = Self::default();
        for word in text.into_iter().flat_map(|text| text.split(' ')) {
            match word {
                "none" => prompt.none = true,
                "login" => prompt.login = true,
                "consent" => prompt.consent = true,
                "select_account" => prompt.select_account = true,
                _ => return Err(Cause::Prompt),
            }
        }
        if prompt.none && (prompt.login || prompt.consent || prompt.select_account) {
            return Err(Cause::Prompt);
        }
        Ok(prompt)
    }
}

/// Checks a request: first what decides where an answer may go, then everything else, in the order
/// in which the state machine asks.
pub(super) async fn check(call: &Call<'_>, request: &Request) -> Result<Checked, Refused> {
    let params = &request.params;
    if params.get("client_id").is_none() {
        return Err(Refused::Page(PageCause::NoClient));
    }
    let mut asking = Asking { call, request, bound: None, extended: None };
    let machine_request = AuthorizationRequest(params);
    let agreed = drive(AuthorizationMachine::new(&machine_request), &mut asking).await;
    let cause = match agreed {
        Ok(agreed) => match (asking.bound, asking.extended) {
            (Some((client, _)), Some(extended)) => {
                let redirect_uri_sent = params.get("redirect_uri").is_some();
                let (redirect_uri, state) = (agreed.redirect_uri, agreed.state);
                let signed_in_after = extended.signed_in_after(call.now);
                let pending = PendingAuthorization {
                    client: client.id.clone(),
                    redirect_uri,
                    redirect_uri_sent,
                    state,
                    scope: agreed.scope,
                    resources: extended.resources,
                    code_challenge: extended.challenge,
                    nonce: params.get("nonce").map(str::to_owned),
                    claims: extended.claims,
                    login_hint: params.get("login_hint").map(str::to_owned),
                    subject: extended.subject,
                    signed_in_after,
                    not_session: None,
                    another_account: extended.prompt.select_account,
                    ask_consent: extended.prompt.consent,
                    began_at: call.now,
                };
                let valid = Valid { client, pending, prompt: extended.prompt };
                return Ok(Checked::Valid(Box::new(valid)));
            }
            (bound, _) => {
                asking.bound = bound;
                Cause::Engine
            }
        },
        Err(Halt::Page(cause)) => return Err(Refused::Page(cause)),
        Err(Halt::Store(error)) => return Err(Refused::Store(error)),
        Err(Halt::Rejected(cause)) => cause,
        Err(Halt::Machine(refusal)) => match refusal {
            Refusal::Ignore => return Err(Refused::Page(asking.unregistered(&[]))),
            Refusal::InvalidScope => Cause::ScopeMalformed,
            Refusal::UnsupportedResponseType if params.get("response_type").is_none() => {
                Cause::NoResponseType
            }
            Refusal::UnsupportedResponseType => Cause::ResponseType,
            Refusal::UnauthorizedClient => Cause::GrantNotAllowed,
            Refusal::InvalidRequest => Cause::ChallengeMalformed,
            Refusal::InvalidClient
            | Refusal::InvalidGrant
            | Refusal::UnsupportedGrantType
            | Refusal::OutOfOrder => Cause::Engine,
        },
    };
    match asking.bound {
        Some((_, redirect_uri)) => {
            let state = params.get("state").map(str::to_owned);
            Ok(Checked::Rejected { redirect_uri, state, cause })
        }
        None => Err(Refused::Page(PageCause::UnknownClient)),
    }
}

/// Answers the machine's questions.
struct Asking<'a> {
    call: &'a Call<'a>,
    request: &'a Request,
    bound: Option<(Arc<Client>, String)>,
    extended: Option<Extended>,
}

/// What the extensions made of the request.
struct Extended {
    prompt: Prompt,
    challenge: Option<String>,
    max_age: Option<Duration>,
    resources: Vec<String>,
    claims: Option<Value>,
    subject: Option<String>,
}

impl Extended {
    /// Sessions whose user signed in before then are not used: those of before a request that wants
    /// a new sign-in (`max_age=0` is `prompt=login`, OpenID Connect Core §3.1.2.1).
    fn signed_in_after(&self, now: Timestamp) -> Option<Timestamp> {
        let anew = self.prompt.login || self.prompt.select_account;
        if anew { Some(now) } else { self.max_age.map(|age| now.minus(age)) }
    }
}

enum Halt {
    Machine(Refusal),
    Page(PageCause),
    Rejected(Cause),
    Store(StoreError),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Machine(refusal)
    }
}
impl From<Cause> for Halt {
    fn from(cause: Cause) -> Self {
        Self::Rejected(cause)
    }
}
impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Flow<AuthorizationMachine<'_>> for Asking<'_> {
    type Error = Halt;

    async fn answer(&mut self, ask: AuthorizationAsk) -> Result<AuthorizationAnswer, Halt> {
        match ask {
            AuthorizationAsk::Bind { client, redirect_uri } => {
                self.bind(&client, redirect_uri).await
            }
            AuthorizationAsk::Extend => {
                let extended = self.extend().await?;
                let challenge = extended.challenge.clone();
                self.extended = Some(extended);
                Ok(AuthorizationAnswer::Extended { challenge })
            }
            AuthorizationAsk::Negotiate => Ok(AuthorizationAnswer::Negotiated(self.scope()?)),
        }
    }
}

impl Asking<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.request.params.get(name)
    }

    fn client(&self) -> Result<&Arc<Client>, Halt> {
        let bound = self.bound.as_ref().ok_or(Halt::Machine(Refusal::OutOfOrder))?;
        Ok(&bound.0)
    }

    /// RFC 6749 §3.1.2.4: nobody is sent to an address that is not the client's.
    async fn bind(
        &mut self,
        id: &ClientId,
        sent: Option<String>,
    ) -> Result<AuthorizationAnswer, Halt> {
        let client = self.call.tenant.client(id).await?.filter(|client| client.enabled);
        let client = client.ok_or(Halt::Page(PageCause::UnknownClient))?;
        let redirect_uri = match (sent, client.redirect_uris.as_slice()) {
            (Some(sent), registered) => {
                if !registered.iter().any(|uri| redirect_uri::matches(uri, &sent)) {
                    return Err(Halt::Page(self.unregistered(registered)));
                }
                sent
            }
            (None, [only]) => only.clone(),
            (None, _) => return Err(Halt::Page(PageCause::NoRedirectUri)),
        };
        self.bound = Some((client.clone(), redirect_uri.clone()));
        self.readable()?;
        if !client.may_use(GrantType::AuthorizationCode) {
            return Err(Cause::GrantNotAllowed.into());
        }
        Ok(AuthorizationAnswer::Bound { client: client.id.clone(), redirect_uri })
    }

    fn unregistered(&self, registered: &[String]) -> PageCause {
        let received = self.get("redirect_uri").unwrap_or_default().to_owned();
        let closest = redirect_uri::closest(registered, &received).cloned();
        let registered = registered.to_vec();
        PageCause::RedirectUri(Box::new(UnregisteredUri { received, registered, closest }))
    }

    /// What must hold before any parameter is looked at.
    fn readable(&self) -> Result<(), Cause> {
        if !self.request.repeated.is_empty() {
            return Err(Cause::Repeated);
        }
        if self.request.is_too_long() {
            return Err(Cause::TooLong);
        }
        if self.request.has_control_characters() {
            return Err(Cause::ControlCharacter);
        }
        // OpenID Connect Core §3.1.2.6.
        for (name, cause) in [
            ("request", Cause::RequestObject),
            ("request_uri", Cause::RequestUri),
            ("registration", Cause::Registration),
        ] {
            if self.get(name).is_some() {
                return Err(cause);
            }
        }
        Ok(())
    }

    async fn extend(&self) -> Result<Extended, Halt> {
        let client = self.client()?;
        if self.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(Cause::ResponseMode.into());
        }
        let challenge = self.challenge(client)?;
        let prompt = Prompt::parse(self.get("prompt"))?;
        let max_age = self.get("max_age").map(seconds).transpose()?;
        let resources = self.resources(client)?;
        let claims = self.get("claims").map(parse_claims).transpose()?;
        let subject = match claims.as_ref().and_then(requested_subject) {
            Some(subject) => Some(subject),
            None => self.hinted_subject(prompt).await?,
        };
        Ok(Extended { prompt, challenge, max_age, resources, claims, subject })
    }

    /// RFC 7636 §4.3 and §4.4.1, RFC 9700 §2.1.1.
    fn challenge(&self, client: &Client) -> Result<Option<String>, Cause> {
        let method = self.get("code_challenge_method");
        let Some(challenge) = self.get("code_challenge") else {
            let may_omit = !client.require_pkce && !client.is_public() && method.is_none();
            return if may_omit { Ok(None) } else { Err(Cause::ChallengeMissing) };
        };
        if method != Some("S256") {
            return Err(Cause::ChallengeMethod);
        }
        match base64url::decode(challenge) {
            Ok(digest) if digest.len() == 32 => Ok(Some(challenge.to_owned())),
            _ => Err(Cause::ChallengeMalformed),
        }
    }

    /// RFC 8707 §2.1: each one must exist, and be the client's to ask for.
    fn resources(&self, client: &Client) -> Result<Vec<String>, Cause> {
        let tenant = &self.call.tenant.settings;
        let mut resources: Vec<String> = Vec::new();
        for resource in self.request.params.all("resource") {
            let exists = tenant.resources.iter().any(|known| known.uri == resource)
                || tenant.default_audience == resource;
            let theirs = client.resources.iter().any(|own| own == resource)
                || tenant.default_audience == resource;
            if !exists || !theirs {
                return Err(Cause::Target);
            }
            if !resources.iter().any(|other| other == resource) {
                resources.push(resource.to_owned());
            }
        }
        Ok(resources)
    }

    /// OpenID Connect Core §3.1.2.1: whose session is meant. A hint that cannot be read any more
    /// hints at nobody; but then nobody can be answered for unasked.
    async fn hinted_subject(&self, prompt: Prompt) -> Result<Option<String>, Halt> {
        let Some(hint) = self.get("id_token_hint") else { return Ok(None) };
        match token::id::read_hint(self.call.tenant, hint, self.call.now).await? {
            Some(hint) => Ok(Some(hint.subject)),
            None if prompt.none => Err(Cause::LoginRequired.into()),
            None => Ok(None),
        }
    }

    /// RFC 6749 §3.3.
    fn scope(&self) -> Result<Scope, Cause> {
        let client = self.client().map_err(|_| Cause::Engine)?;
        let scope = match self.get("scope") {
            None => client.default_scopes.clone(),
            Some(text) => Scope::parse(text).map_err(|_| Cause::ScopeMalformed)?,
        };
        let known = self.call.tenant.settings.all_scopes();
        if !scope.is_subset_of(&client.scopes) || !scope.is_subset_of(&known) {
            return Err(Cause::ScopeNotAllowed);
        }
        // OpenID Connect Core §11: offline_access means nothing to a client without refresh tokens.
        let refreshes = client.may_use(GrantType::RefreshToken);
        Ok(scope.filter(|token| refreshes || token != Scope::OFFLINE_ACCESS))
    }
}

/// `max_age`: digits alone, so that `+5`, `1e3` and ` 5` are nothing.
fn seconds(text: &str) -> Result<Duration, Cause> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Cause::MaxAge);
    }
    let seconds: i64 = text.parse().map_err(|_| Cause::MaxAge)?;
    Ok(Duration::from_secs(seconds.unsigned_abs()))
}

/// OpenID Connect Core §5.5.
fn parse_claims(text: &str) -> Result<Value, Cause> {
    // PostgreSQL's JSON has no NUL.
    if text.contains("\\u0000") {
        return Err(Cause::Claims);
    }
    let claims: Value = serde_json::from_str(text).map_err(|_| Cause::Claims)?;
    let members = claims.as_object().ok_or(Cause::Claims)?;
    for (name, member) in members {
        let known = matches!(name.as_str(), "userinfo" | "id_token");
        let fits = member.as_object().is_some_and(|claims| {
            claims.values().all(|wanted| wanted.is_null() || wanted.is_object())
        });
        if known && !fits {
            return Err(Cause::Claims);
        }
    }
    // §5.5.1.1: an essential acr that cannot be reached is a failed authentication.
    let acr = members.get("id_token").and_then(|claims| claims.get("acr"));
    if acr.and_then(|acr| acr.get("essential")) == Some(&Value::Bool(true))
        && acr.is_some_and(|acr| acr.get("value").is_some() || acr.get("values").is_some())
    {
        return Err(Cause::Acr);
    }
    Ok(claims)
}

/// §5.5.1: a `sub` with a value asks for this user and no other.
fn requested_subject(claims: &Value) -> Option<String> {
    claims.get("id_token")?.get("sub")?.get("value")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_digits_alone() {
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("3600"), Ok(Duration::from_hours(1)));
        for bad in ["-1", "+1", "abc", "1e3", " 5", "1.0", "9223372036854775808"] {
            assert_eq!(seconds(bad), Err(Cause::MaxAge), "{bad}");
        }
    }

    #[test]
    fn prompt_none_stands_alone() {
        assert!(Prompt::parse(None).is_ok_and(|prompt| prompt == Prompt::default()));
        assert!(Prompt::parse(Some("login consent")).is_ok_and(|p| p.login && p.consent));
        for bad in ["none login", "create", "Login", "login  consent"] {
            assert_eq!(Prompt::parse(Some(bad)), Err(Cause::Prompt), "{bad}");
        }
    }

    #[test]
    fn claims_is_an_object_of_objects() {
        assert!(parse_claims(r#"{"userinfo":{"email":null},"x":1}"#).is_ok());
        for bad in ["", "[]", "{", r#"{"userinfo":[]}"#, r#"{"id_token":{"a":1}}"#] {
            assert_eq!(parse_claims(bad), Err(Cause::Claims), "{bad}");
        }
        let essential = r#"{"id_token":{"acr":{"essential":true,"values":["x"]}}}"#;
        assert_eq!(parse_claims(essential), Err(Cause::Acr));
        let claims = parse_claims(r#"{"id_token":{"sub":{"value":"u1"}}}"#).unwrap();
        assert_eq!(requested_subject(&claims).as_deref(), Some("u1"));
    }
}
