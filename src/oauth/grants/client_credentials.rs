//! A client asks for itself (RFC 6749 §4.4). Nothing is stored for a JWT, unless it has a place
//! in a status list; one row for an opaque token; never a refresh token (§4.4.3).

use crate::model::Scope;
use crate::oauth::client::AuthenticatedClient;
use crate::oauth::draft::{Draft, Origin, ready_to_mint};
use crate::oauth::engine::{
    self, ClientCredentialsMachine, CredentialsAnswer, CredentialsAsk, Flow,
};
use crate::oauth::token::{CredentialsGrant, TokenResponse};
use crate::oauth::{Call, Cause, TokenError, target};

/// Issues an access token to `client` itself.
pub(in crate::oauth) async fn grant(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    request: &CredentialsGrant,
) -> Result<TokenResponse, TokenError> {
    let machine = ClientCredentialsMachine::new(client.id(), request.scope.as_ref());
    let scope = engine::drive(machine, &mut Ask { client, scope: request.scope.as_ref() }).await?;
    let client = client.client();
    let named = &request.resources;
    let target = target::resolve(&call.tenant.settings, client, named, named, &scope)?;
    ready_to_mint(call, client, None, &target.scope).await?;

    let mut draft = Draft::new(call, client, Origin::default(), &target).await?;
    if let Some(row) = draft.row() {
        call.tenant.store.issue_access_token(&row).await.map_err(Cause::Store)?;
    }
    let access = draft.mint(call, None).await.map_err(Cause::Store)?;
    draft.respond(call, client, engine::Tokens { access, refresh: None }, None).await
}

struct Ask<'a> {
    client: &'a AuthenticatedClient,
    scope: Option<&'a Scope>,
}

impl<'a> Flow<ClientCredentialsMachine<'a>> for Ask<'a> {
    type Error = TokenError;

    async fn answer(&mut self, ask: CredentialsAsk) -> Result<CredentialsAnswer<'a>, TokenError> {
        Ok(match ask {
            CredentialsAsk::Authenticate => CredentialsAnswer::Authenticated(self.client),
            CredentialsAsk::Negotiate => CredentialsAnswer::Negotiated(self.negotiate()?),
        })
    }
}

impl Ask<'_> {
    /// RFC 6749 §3.3: what was asked for, all of which the client must have; else its default.
    fn negotiate(&self) -> Result<Scope, Cause> {
        let client = self.client.client();
        match self.scope {
            None => Ok(client.default_scopes.filter(|token| !needs_a_user(token))),
            Some(asked) if asked.iter().any(needs_a_user) => Err(Cause::ScopeTooWide),
            Some(asked) if asked.is_subset_of(&client.scopes) => Ok(asked.clone()),
            Some(_) => Err(Cause::ScopeTooWide),
        }
    }
}

/// `openid` is about a user, `offline_access` about one who is away; a client is neither.
fn needs_a_user(token: &str) -> bool {
    token == Scope::OPENID || token == Scope::OFFLINE_ACCESS
}
