//! An access token on its way: what it will say is settled before anything is spent, and it is made
//! after that.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::task::JoinHandle;

use super::grants::refresh_token::windows;
use super::target::Target;
use super::token::TokenResponse;
use super::{Call, Cause, TokenError};
use crate::base::{Secret, Timestamp};
use crate::identity::claims;
use crate::model::client::AccessTokenFormat;
use crate::model::token::AccessClaims;
use crate::model::{Client, ClientId, GrantId, Scope, SessionId, UserId};
use crate::revocation::status;
use crate::storage::{NewOpaqueToken, Result as Stored};
use crate::tenant::Tenant;
use crate::token::access::{self, Minted};
use crate::token::id::{self, IdClaims};

/// What every grant asks before anything is spent: that nothing which would be minted is covered by
/// a not-before, and that the keys are at hand.
pub(in crate::oauth) async fn ready_to_mint(
    call: &Call<'_>,
    client: &Client,
    user: Option<UserId>,
    scope: &Scope,
) -> Result<(), TokenError> {
    let blocked = call
        .services
        .revocations
        .minting_blocked(call.tenant, user, &client.id, call.now)
        .await
        .map_err(Cause::Store)?;
    if let Some(retry_after) = blocked {
        return Err(Cause::MintingBlocked { retry_after }.into());
    }
    let signing = &call.tenant.settings.signing;
    if format_of(call, client) == AccessTokenFormat::Jwt {
        call.tenant.keys.signer(signing.access_token, call.now).await.map_err(Cause::Store)?;
    }
    if user.is_some() && scope.contains(Scope::OPENID) {
        let alg = client.id_token_alg.unwrap_or(signing.id_token);
        call.tenant.keys.signer(alg, call.now).await.map_err(Cause::Store)?;
    }
    Ok(())
}

fn format_of(call: &Call<'_>, client: &Client) -> AccessTokenFormat {
    client.access_token_format.unwrap_or(call.tenant.settings.access_token_format)
}

/// For whom an access token speaks, and what it comes out of.
#[derive(Debug, Clone, Default)]
pub(in crate::oauth) struct Origin {
    pub(in crate::oauth) user: Option<UserId>,
    pub(in crate::oauth) grant: Option<GrantId>,
    /// None when the grant outlives its session.
    pub(in crate::oauth) session: Option<SessionId>,
    pub(in crate::oauth) generation: Option<u32>,
    pub(in crate::oauth) auth_time: Option<Timestamp>,
    pub(in crate::oauth) acr: Option<String>,
    pub(in crate::oauth) amr: Vec<String>,
    /// The grant's own end, which no token outlives.
    pub(in crate::oauth) ends: Option<Timestamp>,
}

/// An access token that is about to be issued. An opaque one is drawn at once, since its row goes
/// into the statement that spends; a JWT is signed after that.
pub(in crate::oauth) struct Draft {
    claims: AccessClaims,
    drawn: Option<Minted>,
}

impl Draft {
    /// Everything that the token will say. Where the tenant keeps status lists, a signed token has its
    /// place from here on.
    pub(in crate::oauth) async fn new(
        call: &Call<'_>,
        client: &Client,
        origin: Origin,
        target: &Target,
    ) -> Result<Self, TokenError> {
        let lifetime =
            client.access_token_ttl.unwrap_or(call.tenant.settings.lifetimes.access_token);
        let issued_at = Timestamp::from_seconds(call.now.seconds());
        let expires_at = issued_at.plus(lifetime);
        let entropy = &*call.services.entropy;
        let mut claims = AccessClaims {
            jti: access::new_jti(entropy),
            client: client.id.clone(),
            user: origin.user,
            subject: origin.user.map_or_else(|| client.id.to_string(), |user| user.to_string()),
            audience: target.audience.clone(),
            scope: target.scope.clone(),
            grant: origin.grant,
            session: origin.session,
            generation: origin.generation,
            auth_time: origin.auth_time,
            acr: origin.acr,
            amr: origin.amr,
            issued_at,
            expires_at: origin.ends.map_or(expires_at, |ends| expires_at.min(ends)),
            status: None,
        };
        let drawn = match format_of(call, client) {
            AccessTokenFormat::Jwt => {
                let statuses = &call.services.statuses;
                let place = statuses.place(call.tenant, claims.expires_at, call.now).await;
                claims.status = place.map_err(Cause::Store)?;
                None
            }
            AccessTokenFormat::Opaque => Some(access::draw_opaque(&claims, entropy)),
        };
        Ok(Self { claims, drawn })
    }

    /// The row to be written, when the token is opaque or has a place in a status list.
    pub(in crate::oauth) fn row(&self) -> Option<NewOpaqueToken> {
        match &self.drawn {
            Some(minted) => minted.opaque.clone(),
            None => status::row(&self.claims),
        }
    }

    /// When it ends.
    pub(in crate::oauth) fn expires_at(&self) -> Timestamp {
        self.claims.expires_at
    }

    /// Makes the token, after what it comes out of was spent; `generation` is the verdict's.
    pub(in crate::oauth) async fn mint(
        &mut self,
        call: &Call<'_>,
        generation: Option<u32>,
    ) -> Stored<Secret<String>> {
        if let Some(minted) = self.drawn.take() {
            return Ok(minted.token);
        }
        self.claims.generation = generation;
        let entropy = &*call.services.entropy;
        let minted =
            access::mint(call.tenant, &self.claims, AccessTokenFormat::Jwt, call.now, entropy);
        Ok(minted.await?.token)
    }

    /// The response around the token; `id` asks for an ID token beside it.
    pub(in crate::oauth) async fn respond(
        &self,
        call: &Call<'_>,
        client: &Client,
        tokens: super::engine::Tokens,
        id: Option<IdClaims>,
    ) -> Result<TokenResponse, TokenError> {
        let id_token = match id {
            Some(claims) => Some(
                id::mint(call.tenant, client, &claims, Some(&tokens.access), call.now)
                    .await
                    .map_err(Cause::Store)?,
            ),
            None => None,
        };
        Ok(TokenResponse {
            access_token: tokens.access,
            expires_in: self.claims.expires_at.since(self.claims.issued_at),
            scope: self.claims.scope.clone(),
            refresh_token: tokens.refresh,
            id_token,
            issued_token_type: None,
        })
    }

    /// What the ID token beside this token says, if `openid` is in its scope
    /// (OpenID Connect Core §3.1.3.3).
    pub(in crate::oauth) fn id_claims(
        &self,
        nonce: Option<String>,
        session: Option<SessionId>,
        about_user: Map<String, Value>,
    ) -> Option<IdClaims> {
        let wanted = self.claims.user.is_some() && self.claims.scope.contains(Scope::OPENID);
        wanted.then(|| IdClaims {
            subject: self.claims.subject.clone(),
            nonce,
            auth_time: self.claims.auth_time,
            acr: self.claims.acr.clone(),
            amr: self.claims.amr.clone(),
            session,
            user: about_user,
        })
    }
}

/// The claims about the user that the authorization request wanted in the ID token
/// (OpenID Connect Core §5.5); without such a wish nothing is looked up.
pub(in crate::oauth) async fn wanted_in_id_token(
    call: &Call<'_>,
    user: Option<UserId>,
    wanted: Option<&Value>,
) -> Result<Map<String, Value>, TokenError> {
    let (Some(user), Some(_)) = (user, wanted.and_then(|wanted| wanted.get("id_token"))) else {
        return Ok(Map::new());
    };
    let user = call.tenant.store.find_user(user).await.map_err(Cause::Store)?;
    Ok(user.map(|user| claims::requested(&user, wanted, "id_token")).unwrap_or_default())
}

/// A refresh head: the grant, and the generation of its token.
type Head = (GrantId, u32);

/// Which access tokens of a refresh head were met in use, so that the hint to storage is written
/// once (`Grants::mark_head_seen`).
pub struct SeenHeads(moka::sync::Cache<Head, ()>);

impl Default for SeenHeads {
    fn default() -> Self {
        Self(moka::sync::Cache::new(50_000))
    }
}

impl SeenHeads {
    /// A live token was met: if it came with a refresh token that a lost response could still
    /// replace, storage is told, once and in the background, that it did arrive.
    pub(crate) fn met(&self, call: &Call<'_>, claims: &AccessClaims) {
        let (Some(grant), Some(generation)) = (claims.grant, claims.generation) else { return };
        // The first generation has no predecessor that could be presented again.
        if generation < 2 {
            return;
        }
        let (tenant, client) = (Arc::clone(call.tenant), claims.client.clone());
        let age = call.now.since(claims.issued_at);
        let head = (grant, generation);
        drop(self.once(head, async move { note(&tenant, &client, head, age).await }));
    }

    /// Writes for a head that was not met before; a failure leaves it to the next meeting.
    fn once(
        &self,
        head: Head,
        write: impl Future<Output = Stored<()>> + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        if !self.0.entry(head).or_insert(()).is_fresh() {
            return None;
        }
        let met = self.0.clone();
        Some(tokio::spawn(async move {
            if let Err(error) = write.await {
                met.invalidate(&head);
                tracing::debug!(grant = %head.0, "could not note a refresh head in use: {error}");
            }
        }))
    }
}

/// Tells storage, unless the predecessor of `head` cannot be replaced any more after `age`.
async fn note(tenant: &Tenant, client: &ClientId, head: Head, age: Duration) -> Stored<()> {
    let Some(client) = tenant.client(client).await? else { return Ok(()) };
    let window = windows(&tenant.settings.lifetimes, &client).long;
    // Tokens count in whole seconds.
    if window.is_zero() || age > window + Duration::from_secs(1) {
        return Ok(());
    }
    tenant.store.mark_head_seen(head.0, head.1).await
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::storage::StoreError;

    #[tokio::test]
    async fn a_head_is_noted_once_and_again_only_if_that_failed() {
        let (seen, head) = (SeenHeads::default(), (GrantId(Uuid::from_u128(1)), 2));
        let failed = seen.once(head, async { Err(StoreError::unavailable("gone")) });
        failed.expect("a first write").await.unwrap();
        seen.once(head, async { Ok(()) }).expect("a second write").await.unwrap();
        assert!(seen.once(head, async { Ok(()) }).is_none());
    }
}
