//! The refresh token grant (RFC 6749 §6) as oxide-auth's `Refresh` machine.

use std::borrow::Cow;

use oxide_auth::code_grant::refresh::{Error, Input, Output, Refresh, Request};
use oxide_auth::primitives::grant::{Extensions, Grant};
use oxide_auth::primitives::issuer::{RefreshedToken, TokenType};

use super::convert::{far_future, kept, refusal, released, to_oxide};
use super::{Machine, Refusal, Step, StepOf, Tokens};
use crate::model::{ClientId, Scope};
use crate::oauth::client::AuthenticatedClient;

/// A refresh request, its client resolved to one identity.
pub(in crate::oauth) struct RefreshRequest<'a> {
    /// Who asks.
    pub(in crate::oauth) client: &'a ClientId,
    /// The refresh token.
    pub(in crate::oauth) token: &'a str,
    /// `scope`, when narrower than what was granted.
    pub(in crate::oauth) scope: Option<&'a Scope>,
}

impl Request for RefreshRequest<'_> {
    fn valid(&self) -> bool {
        true
    }
    fn refresh_token(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.token))
    }
    fn scope(&self) -> Option<Cow<'_, str>> {
        self.scope.map(|scope| Cow::Owned(scope.to_string()))
    }
    fn grant_type(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("refresh_token"))
    }
    fn authorization(&self) -> Option<(Cow<'_, str>, Cow<'_, [u8]>)> {
        Some((Cow::Borrowed(self.client.as_str()), Cow::Borrowed(&[])))
    }
    fn extension(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// What the machine asks for.
pub(in crate::oauth) enum RefreshAsk {
    /// The proof that the client is who it says.
    Authenticate,
    /// The grant of the refresh token.
    Recover,
    /// The tokens, for this scope: the refresh token is spent now.
    Issue(Scope),
}

/// What a flow answers.
pub(in crate::oauth) enum RefreshAnswer<'a> {
    /// The proof.
    Authenticated(&'a AuthenticatedClient),
    /// The grant.
    Recovered(RecoveredRefresh),
    /// The tokens.
    Issued(Tokens),
}

/// The grant of a refresh token, as far as the machine looks at it.
pub(in crate::oauth) struct RecoveredRefresh {
    /// Whose it is.
    pub(in crate::oauth) client: ClientId,
    /// Who allowed it.
    pub(in crate::oauth) subject: String,
    /// All that may come out of it.
    pub(in crate::oauth) scope: Scope,
}

/// The machine and what it keeps of ours.
pub(in crate::oauth) struct RefreshMachine<'a> {
    machine: Refresh,
    client: &'a ClientId,
    asked: Option<String>,
    scope: Scope,
}

impl<'a> RefreshMachine<'a> {
    /// Begins with a request.
    pub(in crate::oauth) fn new(request: &RefreshRequest<'a>) -> Self {
        Self {
            machine: Refresh::new(request),
            client: request.client,
            asked: request.scope.map(ToString::to_string),
            scope: Scope::default(),
        }
    }

    fn step(&mut self, input: Input<'_>) -> Result<StepOf<Self>, Refusal> {
        match self.machine.advance(input) {
            Output::Unauthenticated { client, .. } if client == self.client.as_str() => {
                Ok(Step::Ask(RefreshAsk::Authenticate))
            }
            Output::Unauthenticated { .. } => Err(Refusal::OutOfOrder),
            Output::RecoverRefresh { .. } => Ok(Step::Ask(RefreshAsk::Recover)),
            Output::Refresh { grant, .. } => {
                Ok(Step::Ask(RefreshAsk::Issue(kept(&self.scope, &grant.scope))))
            }
            Output::Ok(bearer) => Ok(Step::Done(released(bearer.to_json())?)),
            Output::Err(mut error) => Err(refused(&mut error)),
        }
    }
}

impl<'a> Machine for RefreshMachine<'a> {
    type Ask = RefreshAsk;
    type Answer = RefreshAnswer<'a>;
    type Done = Tokens;

    fn start(&mut self) -> Result<StepOf<Self>, Refusal> {
        self.step(Input::None)
    }

    fn advance(&mut self, answer: RefreshAnswer<'a>) -> Result<StepOf<Self>, Refusal> {
        let scope = self.asked.clone().map(Cow::Owned);
        match answer {
            RefreshAnswer::Authenticated(proof) if proof.id() == self.client => {
                self.step(Input::Authenticated { scope })
            }
            RefreshAnswer::Authenticated(_) => Err(Refusal::InvalidClient),
            RefreshAnswer::Recovered(found) => {
                self.scope = found.scope.clone();
                let grant = Some(Box::new(grant_of(found)?));
                self.step(Input::Recovered { scope, grant })
            }
            RefreshAnswer::Issued(tokens) => self.step(Input::Refreshed(RefreshedToken {
                token: tokens.access.reveal().clone(),
                refresh: tokens.refresh.as_ref().map(|token| token.reveal().clone()),
                until: far_future(),
                token_type: TokenType::Bearer,
            })),
        }
    }
}

fn grant_of(found: RecoveredRefresh) -> Result<Grant, Refusal> {
    Ok(Grant {
        owner_id: found.subject,
        client_id: found.client.as_str().to_owned(),
        scope: to_oxide(&found.scope)?,
        redirect_uri: super::convert::no_redirect_uri()?,
        until: far_future(),
        extensions: Extensions::new(),
    })
}

fn refused(error: &mut Error) -> Refusal {
    error.description().map_or(Refusal::OutOfOrder, |why| refusal(why.kind()))
}
