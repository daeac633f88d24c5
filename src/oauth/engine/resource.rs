//! A protected resource (RFC 6750) as oxide-auth's `Resource` machine: ours is userinfo.

use std::borrow::Cow;
use std::sync::Arc;

use oxide_auth::code_grant::resource::{
    Error, ErrorCode, Input, Output, Request, Resource as Oxide,
};
use oxide_auth::primitives::grant::{Extensions, Grant};
use oxide_auth::primitives::prelude::Scope as OxideScope;

use super::convert::{far_future, no_redirect_uri, to_oxide};
use super::{Machine, Refusal, Step, StepOf};
use crate::model::token::AccessClaims;

/// What is needed where.
pub(crate) struct Resource<'a> {
    /// The token presented.
    pub(crate) token: &'a str,
    /// The scope token that is needed.
    pub(crate) needs: &'static str,
}

impl Request for Resource<'_> {
    fn valid(&self) -> bool {
        true
    }
    fn token(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Owned(format!("Bearer {}", self.token)))
    }
}

/// What the machine asks for.
pub(crate) enum ResourceAsk {
    /// What the token says, if it is live.
    Recover,
}

/// What a flow answers.
pub(crate) enum ResourceAnswer {
    /// A live token. One that is not ends the flow instead: the machine would call it
    /// `invalid_request`, where RFC 6750 §3.1 says `invalid_token`.
    Recovered(Arc<AccessClaims>),
}

/// The machine and what it keeps of ours.
pub(crate) struct ResourceMachine<'a> {
    machine: Oxide,
    resource: Resource<'a>,
    claims: Option<Arc<AccessClaims>>,
}

impl<'a> ResourceMachine<'a> {
    /// Begins with a request for `resource`.
    pub(crate) fn new(resource: Resource<'a>) -> Self {
        Self { machine: Oxide::new(), resource, claims: None }
    }

    fn scopes(&self) -> Result<[OxideScope; 1], Refusal> {
        Ok([self.resource.needs.parse().map_err(|_| Refusal::OutOfOrder)?])
    }
}

impl Machine for ResourceMachine<'_> {
    type Ask = ResourceAsk;
    type Answer = ResourceAnswer;
    type Done = Arc<AccessClaims>;

    fn start(&mut self) -> Result<StepOf<Self>, Refusal> {
        let Output::DetermineScopes =
            self.machine.advance(Input::Request { request: &self.resource })
        else {
            return Err(Refusal::OutOfOrder);
        };
        let scopes = self.scopes()?;
        match self.machine.advance(Input::Scopes(&scopes)) {
            Output::Recover { token } if token == self.resource.token => {
                Ok(Step::Ask(ResourceAsk::Recover))
            }
            _ => Err(Refusal::OutOfOrder),
        }
    }

    fn advance(&mut self, answer: ResourceAnswer) -> Result<StepOf<Self>, Refusal> {
        let ResourceAnswer::Recovered(claims) = answer;
        let grant = Grant {
            owner_id: claims.subject.clone(),
            client_id: claims.client.as_str().to_owned(),
            scope: to_oxide(&claims.scope)?,
            redirect_uri: no_redirect_uri()?,
            until: far_future(),
            extensions: Extensions::new(),
        };
        self.claims = Some(claims);
        match self.machine.advance(Input::Recovered(Some(grant))) {
            Output::Ok(_) => self.claims.take().map(Step::Done).ok_or(Refusal::OutOfOrder),
            Output::Err(Error::AccessDenied { failure, .. }) => Err(match failure.code {
                Some(ErrorCode::InsufficientScope) => Refusal::InvalidScope,
                _ => Refusal::InvalidGrant,
            }),
            _ => Err(Refusal::OutOfOrder),
        }
    }
}
