//! The authorization request (RFC 6749 §4.1.1) as oxide-auth's `Authorization` machine.

use std::borrow::Cow;

use oxide_auth::code_grant::authorization::{Authorization, Error, Input, Output, Request};
use oxide_auth::code_grant::error::AuthorizationErrorType as Kind;
use oxide_auth::code_grant::extensions::Pkce;
use oxide_auth::primitives::grant::Extensions;
use oxide_auth::primitives::registrar::{BoundClient, ExactUrl, PreGrant, RegisteredUrl};

use super::convert::{kept, to_oxide};
use super::{Machine, Refusal, Step, StepOf};
use crate::model::{ClientId, Scope};
use crate::oauth::Params;

/// An authorization request, its parameters read.
pub(in crate::oauth) struct AuthorizationRequest<'a>(pub(in crate::oauth) &'a Params);

impl AuthorizationRequest<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(Cow::Borrowed)
    }
}

impl Request for AuthorizationRequest<'_> {
    fn valid(&self) -> bool {
        true
    }
    fn client_id(&self) -> Option<Cow<'_, str>> {
        self.get("client_id")
    }
    fn scope(&self) -> Option<Cow<'_, str>> {
        self.get("scope")
    }
    fn redirect_uri(&self) -> Option<Cow<'_, str>> {
        self.get("redirect_uri")
    }
    fn state(&self) -> Option<Cow<'_, str>> {
        self.get("state")
    }
    fn response_type(&self) -> Option<Cow<'_, str>> {
        self.get("response_type")
    }
    fn extension(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name)
    }
}

/// What the machine asks for.
pub(in crate::oauth) enum AuthorizationAsk {
    /// The client of this id, and which of its redirect URIs is meant.
    Bind {
        /// `client_id`.
        client: ClientId,
        /// `redirect_uri`, as sent.
        redirect_uri: Option<String>,
    },
    /// What the extensions make of the request (PKCE, OpenID Connect, RFC 8707).
    Extend,
    /// Which scope is agreed on.
    Negotiate,
}

/// What a flow answers.
pub(in crate::oauth) enum AuthorizationAnswer {
    /// The client, and where its answers go.
    Bound {
        /// The client.
        client: ClientId,
        /// One of its redirect URIs, as the request spells it.
        redirect_uri: String,
    },
    /// The extensions are content; the S256 challenge, if there is one.
    Extended {
        /// RFC 7636 §4.3.
        challenge: Option<String>,
    },
    /// This much of what was asked for.
    Negotiated(Scope),
}

/// What the machine releases: a request that may be put before its user.
pub(in crate::oauth) struct Agreed {
    /// Where the answer goes.
    pub(in crate::oauth) redirect_uri: String,
    /// `state`, as sent.
    pub(in crate::oauth) state: Option<String>,
    /// What may be granted.
    pub(in crate::oauth) scope: Scope,
}

/// The machine and what it keeps of ours.
pub(in crate::oauth) struct AuthorizationMachine<'a> {
    machine: Authorization,
    request: &'a AuthorizationRequest<'a>,
    bound: Option<BoundClient<'static>>,
    redirect_uri: String,
    scope: Scope,
}

impl<'a> AuthorizationMachine<'a> {
    /// Begins with a request.
    pub(in crate::oauth) fn new(request: &'a AuthorizationRequest<'a>) -> Self {
        Self {
            machine: Authorization::new(request),
            request,
            bound: None,
            redirect_uri: String::new(),
            scope: Scope::default(),
        }
    }

    fn step(&mut self, input: Input<'_>) -> Result<StepOf<Self>, Refusal> {
        match self.machine.advance(input) {
            Output::Bind { client_id, redirect_uri } => Ok(Step::Ask(AuthorizationAsk::Bind {
                client: ClientId::new(&client_id),
                redirect_uri: redirect_uri.map(|uri| uri.as_str().to_owned()),
            })),
            Output::Extend => Ok(Step::Ask(AuthorizationAsk::Extend)),
            Output::Negotiate { .. } => Ok(Step::Ask(AuthorizationAsk::Negotiate)),
            Output::Ok { pre_grant, state, .. } => Ok(Step::Done(Agreed {
                redirect_uri: std::mem::take(&mut self.redirect_uri),
                state,
                scope: kept(&self.scope, &pre_grant.scope),
            })),
            Output::Err(error) => Err(refused(error)),
        }
    }

    fn bind(&mut self, client: &ClientId, redirect_uri: String) -> Result<StepOf<Self>, Refusal> {
        let url: ExactUrl = redirect_uri.parse().map_err(|_| Refusal::Ignore)?;
        let bound = BoundClient {
            client_id: Cow::Owned(client.as_str().to_owned()),
            redirect_uri: Cow::Owned(RegisteredUrl::Exact(url)),
        };
        self.redirect_uri = redirect_uri;
        self.bound = Some(bound.clone());
        self.step(Input::Bound { request: self.request, bound_client: bound })
    }

    fn negotiated(&mut self, scope: Scope) -> Result<StepOf<Self>, Refusal> {
        let bound = self.bound.take().ok_or(Refusal::OutOfOrder)?;
        let pre_grant = PreGrant {
            client_id: bound.client_id.into_owned(),
            redirect_uri: bound.redirect_uri.into_owned(),
            scope: to_oxide(&scope)?,
        };
        self.scope = scope;
        let state = self.request.state().map(Cow::into_owned);
        self.step(Input::Negotiated { pre_grant, state })
    }
}

impl Machine for AuthorizationMachine<'_> {
    type Ask = AuthorizationAsk;
    type Answer = AuthorizationAnswer;
    type Done = Agreed;

    fn start(&mut self) -> Result<StepOf<Self>, Refusal> {
        self.step(Input::None)
    }

    fn advance(&mut self, answer: AuthorizationAnswer) -> Result<StepOf<Self>, Refusal> {
        match answer {
            AuthorizationAnswer::Bound { client, redirect_uri } => self.bind(&client, redirect_uri),
            AuthorizationAnswer::Extended { challenge } => {
                self.step(Input::Extended(extensions(challenge)?))
            }
            AuthorizationAnswer::Negotiated(scope) => self.negotiated(scope),
        }
    }
}

/// The challenge in the form in which oxide-auth carries it: S256 alone (RFC 9700 §2.1.1).
fn extensions(challenge: Option<String>) -> Result<Extensions, Refusal> {
    let mut extensions = Extensions::new();
    if let Some(challenge) = challenge {
        let pkce = Pkce::required();
        let value = pkce
            .challenge(Some(Cow::Borrowed("S256")), Some(Cow::Owned(challenge)))
            .map_err(|()| Refusal::InvalidRequest)?
            .ok_or(Refusal::InvalidRequest)?;
        extensions.set(&pkce, value);
    }
    Ok(extensions)
}

fn refused(error: Error) -> Refusal {
    match error {
        Error::Ignore => Refusal::Ignore,
        Error::PrimitiveError => Refusal::OutOfOrder,
        Error::Redirect(mut url) => match url.description().kind() {
            Kind::UnsupportedResponseType => Refusal::UnsupportedResponseType,
            Kind::InvalidScope => Refusal::InvalidScope,
            Kind::UnauthorizedClient => Refusal::UnauthorizedClient,
            Kind::InvalidRequest => Refusal::InvalidRequest,
            _ => Refusal::OutOfOrder,
        },
    }
}
