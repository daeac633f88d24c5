//! The client credentials grant (RFC 6749 §4.4) as oxide-auth's `ClientCredentials` machine.

use std::borrow::Cow;

use oxide_auth::code_grant::client_credentials::{
    ClientCredentials, Error, Input, Output, Request,
};
use oxide_auth::primitives::grant::Extensions;
use oxide_auth::primitives::registrar::{BoundClient, PreGrant, RegisteredUrl};

use super::convert::{kept, no_redirect_uri, refusal, to_oxide};
use super::{Machine, Refusal, Step, StepOf};
use crate::model::{ClientId, Scope};
use crate::oauth::client::AuthenticatedClient;

struct CredentialsRequest<'a> {
    client: &'a ClientId,
    scope: Option<&'a Scope>,
}

impl Request for CredentialsRequest<'_> {
    fn valid(&self) -> bool {
        true
    }
    fn authorization(&self) -> Option<(Cow<'_, str>, Cow<'_, [u8]>)> {
        Some((Cow::Borrowed(self.client.as_str()), Cow::Borrowed(&[])))
    }
    fn scope(&self) -> Option<Cow<'_, str>> {
        self.scope.map(|scope| Cow::Owned(scope.to_string()))
    }
    fn grant_type(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("client_credentials"))
    }
    fn extension(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// What the machine asks for.
pub(in crate::oauth) enum CredentialsAsk {
    /// The proof that the client is who it says.
    Authenticate,
    /// What of the scope it gets, having asked for this.
    Negotiate,
}

/// What a flow answers.
pub(in crate::oauth) enum CredentialsAnswer<'a> {
    /// The proof.
    Authenticated(&'a AuthenticatedClient),
    /// This much.
    Negotiated(Scope),
}

/// The machine and what it keeps of ours.
pub(in crate::oauth) struct ClientCredentialsMachine<'a> {
    machine: ClientCredentials,
    client: &'a ClientId,
    scope: Scope,
}

impl<'a> ClientCredentialsMachine<'a> {
    /// Begins with a request of `client` for `scope`.
    pub(in crate::oauth) fn new(client: &'a ClientId, scope: Option<&Scope>) -> Self {
        let machine = ClientCredentials::new(&CredentialsRequest { client, scope });
        Self { machine, client, scope: Scope::default() }
    }

    fn step(&mut self, input: Input) -> Result<StepOf<Self>, Refusal> {
        match self.machine.advance(input) {
            Output::Authenticate { client, .. } if client == self.client.as_str() => {
                Ok(Step::Ask(CredentialsAsk::Authenticate))
            }
            Output::Authenticate { .. } => Err(Refusal::OutOfOrder),
            // The proof names the client: there is nothing else to bind, and nothing to extend.
            Output::Binding { client_id } => {
                let bound_client = BoundClient {
                    client_id: Cow::Owned(client_id.to_owned()),
                    redirect_uri: Cow::Owned(RegisteredUrl::from(no_redirect_uri()?)),
                };
                self.step(Input::Bound { bound_client })
            }
            Output::Extend => self.step(Input::Extended { extensions: Extensions::new() }),
            Output::Negotiate { .. } => Ok(Step::Ask(CredentialsAsk::Negotiate)),
            Output::Ok { pre_grant, .. } => Ok(Step::Done(kept(&self.scope, &pre_grant.scope))),
            Output::Err(mut error) => Err(refused(&mut error)),
        }
    }
}

impl<'a> Machine for ClientCredentialsMachine<'a> {
    type Ask = CredentialsAsk;
    type Answer = CredentialsAnswer<'a>;
    type Done = Scope;

    fn start(&mut self) -> Result<StepOf<Self>, Refusal> {
        self.step(Input::None)
    }

    fn advance(&mut self, answer: CredentialsAnswer<'a>) -> Result<StepOf<Self>, Refusal> {
        match answer {
            CredentialsAnswer::Authenticated(proof) if proof.id() == self.client => {
                self.step(Input::Authenticated)
            }
            CredentialsAnswer::Authenticated(_) => Err(Refusal::InvalidClient),
            CredentialsAnswer::Negotiated(scope) => {
                let pre_grant = PreGrant {
                    client_id: self.client.as_str().to_owned(),
                    redirect_uri: RegisteredUrl::from(no_redirect_uri()?),
                    scope: to_oxide(&scope)?,
                };
                self.scope = scope;
                self.step(Input::Negotiated { pre_grant })
            }
        }
    }
}

fn refused(error: &mut Error) -> Refusal {
    match error {
        Error::Ignore => Refusal::Ignore,
        Error::Primitive(_) => Refusal::OutOfOrder,
        other => other.description().map_or(Refusal::OutOfOrder, |why| refusal(why.kind())),
    }
}
