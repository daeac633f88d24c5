//! The token endpoint (RFC 6749 §3.2): the one pipeline of every grant, so that none can forget a
//! step. Parse, authenticate, permit, then the grant's own part in `grants/`, then the response.

use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};

use super::client::{AuthenticatedClient, Presented};
use super::target::{self, Target};
use super::{Call, Cause, Params, TokenError, client, grants};
use crate::base::{Secret, Timestamp};
use crate::model::client::{AccessTokenFormat, GrantType};
use crate::model::token::AccessClaims;
use crate::model::{Client, GrantId, Scope, SessionId, UserId};
use crate::storage::{NewOpaqueToken, Result as Stored};
use crate::token::access::{self, Minted};
use crate::token::id::{self, IdClaims};

/// A token request, read once.
#[derive(Debug)]
pub(in crate::oauth) enum GrantRequest {
    /// RFC 6749 §4.1.3, RFC 7636 §4.5.
    AuthorizationCode(CodeGrant),
    /// RFC 6749 §6.
    RefreshToken(RefreshGrant),
    /// RFC 6749 §4.4.
    ClientCredentials(CredentialsGrant),
}

/// The parameters of a code's redemption.
#[derive(Debug)]
pub(in crate::oauth) struct CodeGrant {
    pub(in crate::oauth) code: Secret<String>,
    pub(in crate::oauth) redirect_uri: Option<String>,
    pub(in crate::oauth) verifier: Option<Secret<String>>,
    pub(in crate::oauth) resources: Vec<String>,
}

/// The parameters of a refresh.
#[derive(Debug)]
pub(in crate::oauth) struct RefreshGrant {
    pub(in crate::oauth) token: Secret<String>,
    pub(in crate::oauth) scope: Option<Scope>,
    pub(in crate::oauth) resources: Vec<String>,
}

/// The parameters of a client that asks for itself.
#[derive(Debug)]
pub(in crate::oauth) struct CredentialsGrant {
    pub(in crate::oauth) scope: Option<Scope>,
    pub(in crate::oauth) resources: Vec<String>,
}

impl GrantRequest {
    /// Reads the form; parameters that the grant does not know are ignored (RFC 6749 §3.2).
    pub(in crate::oauth) fn parse(form: &Params) -> Result<Self, Cause> {
        let need = |name: &'static str| form.get(name).ok_or(Cause::Missing(name));
        let secret = |text: &str| Secret::new(text.to_owned());
        let resources = target::requested(form);
        Ok(match need("grant_type")? {
            "authorization_code" => Self::AuthorizationCode(CodeGrant {
                code: secret(need("code")?),
                redirect_uri: form.get("redirect_uri").map(str::to_owned),
                verifier: form.get("code_verifier").map(secret),
                resources,
            }),
            "refresh_token" => Self::RefreshToken(RefreshGrant {
                token: secret(need("refresh_token")?),
                scope: scope(form)?,
                resources,
            }),
            "client_credentials" => {
                Self::ClientCredentials(CredentialsGrant { scope: scope(form)?, resources })
            }
            _ => return Err(Cause::UnsupportedGrantType),
        })
    }

    fn grant_type(&self) -> GrantType {
        match self {
            Self::AuthorizationCode(_) => GrantType::AuthorizationCode,
            Self::RefreshToken(_) => GrantType::RefreshToken,
            Self::ClientCredentials(_) => GrantType::ClientCredentials,
        }
    }
}

fn scope(form: &Params) -> Result<Option<Scope>, Cause> {
    form.get("scope").map(Scope::parse).transpose().map_err(|_| Cause::ScopeMalformed)
}

/// Answers a token request.
pub async fn answer(
    call: &Call<'_>,
    presented: &Presented,
    form: &Params,
) -> Result<TokenResponse, TokenError> {
    let request = GrantRequest::parse(form)?;
    let client = client::authenticate(call, presented).await?;
    let grant = request.grant_type();
    let answered = granted(call, &client, request).await;
    let (tenant, id) = (call.tenant.slug.as_str(), client.id().as_str());
    match &answered {
        Ok(_) => info!(tenant, client.id = id, grant = grant.as_str(), "issued an access token"),
        Err(error) if error.is_alarming() => {
            warn!(tenant, client.id = id, grant = grant.as_str(), "refused a token: {error}");
        }
        Err(error) => {
            info!(tenant, client.id = id, grant = grant.as_str(), "refused a token: {error}");
        }
    }
    answered
}

async fn granted(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    request: GrantRequest,
) -> Result<TokenResponse, TokenError> {
    permit(call, client, request.grant_type())?;
    match request {
        GrantRequest::AuthorizationCode(grant) => {
            grants::authorization_code::redeem(call, client, &grant).await
        }
        GrantRequest::RefreshToken(grant) => grants::refresh_token::refresh(call, client, &grant).await,
        GrantRequest::ClientCredentials(grant) => {
            grants::client_credentials::grant(call, client, &grant).await
        }
    }
}

/// Whether tenant and client have this grant type at all.
fn permit(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    grant: GrantType,
) -> Result<(), TokenError> {
    if !call.tenant.settings.grants.contains(&grant) {
        return Err(Cause::UnsupportedGrantType.into());
    }
    if grant == GrantType::ClientCredentials && client.is_public() {
        return Err(Cause::PublicClientCredentials.into());
    }
    if !client.client().may_use(grant) {
        return Err(Cause::GrantNotAllowed(grant.as_str()).into());
    }
    Ok(())
}

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
    /// Everything that the token will say.
    pub(in crate::oauth) fn new(
        call: &Call<'_>,
        client: &Client,
        origin: Origin,
        target: &Target,
    ) -> Self {
        let lifetime =
            client.access_token_ttl.unwrap_or(call.tenant.settings.lifetimes.access_token);
        let issued_at = Timestamp::from_seconds(call.now.seconds());
        let expires_at = issued_at.plus(lifetime);
        let entropy = &*call.services.entropy;
        let claims = AccessClaims {
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
        };
        let drawn = match format_of(call, client) {
            AccessTokenFormat::Jwt => None,
            AccessTokenFormat::Opaque => Some(access::draw_opaque(&claims, entropy)),
        };
        Self { claims, drawn }
    }

    /// The row to be written, when the token is opaque.
    pub(in crate::oauth) fn row(&self) -> Option<NewOpaqueToken> {
        self.drawn.as_ref().and_then(|minted| minted.opaque.clone())
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
        })
    }

    /// What the ID token beside this token says, if `openid` is in its scope
    /// (OpenID Connect Core §3.1.3.3).
    pub(in crate::oauth) fn id_claims(
        &self,
        nonce: Option<String>,
        session: Option<SessionId>,
    ) -> Option<IdClaims> {
        let wanted = self.claims.user.is_some() && self.claims.scope.contains(Scope::OPENID);
        wanted.then(|| IdClaims {
            subject: self.claims.subject.clone(),
            nonce,
            auth_time: self.claims.auth_time,
            acr: self.claims.acr.clone(),
            amr: self.claims.amr.clone(),
            session,
            user: serde_json::Map::new(),
        })
    }
}

/// A successful answer (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3).
#[derive(Debug)]
pub struct TokenResponse {
    access_token: Secret<String>,
    expires_in: Duration,
    scope: Scope,
    refresh_token: Option<Secret<String>>,
    id_token: Option<Secret<String>>,
}

impl TokenResponse {
    /// The JSON body.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            access_token: &'a str,
            token_type: &'static str,
            expires_in: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            refresh_token: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            id_token: Option<&'a str>,
            scope: &'a Scope,
        }
        let body = Body {
            access_token: self.access_token.reveal(),
            token_type: "Bearer",
            expires_in: self.expires_in.as_secs(),
            refresh_token: self.refresh_token.as_ref().map(|token| token.reveal().as_str()),
            id_token: self.id_token.as_ref().map(|token| token.reveal().as_str()),
            scope: &self.scope,
        };
        serde_json::to_string(&body).unwrap_or_default() // text and numbers: nothing can fail
    }
}

/// Which access tokens of a refresh head were met in use, so that the hint to storage is written
/// once (`Grants::mark_head_seen`).
pub struct SeenHeads(moka::sync::Cache<(GrantId, u32), ()>);

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
        let settings = &call.tenant.settings.lifetimes;
        let window = settings.refresh_long_window.unwrap_or(settings.access_token);
        if generation < 2 || call.now.since(claims.issued_at) > window {
            return;
        }
        if self.0.entry((grant, generation)).or_insert(()).is_fresh() {
            let store = call.tenant.store.clone();
            tokio::spawn(async move {
                if let Err(error) = store.mark_head_seen(grant, generation).await {
                    tracing::debug!(%grant, "could not note that a refresh head is in use: {error}");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(form: &str) -> Result<GrantRequest, Cause> {
        GrantRequest::parse(&Params::parse(form.as_bytes()).unwrap())
    }

    #[test]
    fn a_request_without_its_parameters_is_invalid_and_names_them() {
        assert!(matches!(parse("").unwrap_err(), Cause::Missing("grant_type")));
        assert!(matches!(
            parse("grant_type=authorization_code&code=").unwrap_err(),
            Cause::Missing("code")
        ));
        assert!(matches!(
            parse("grant_type=refresh_token").unwrap_err(),
            Cause::Missing("refresh_token")
        ));
        assert!(matches!(parse("grant_type=password").unwrap_err(), Cause::UnsupportedGrantType));
        assert!(matches!(
            parse("grant_type=client_credentials&scope=a++b").unwrap_err(),
            Cause::ScopeMalformed
        ));
    }

    #[test]
    fn an_empty_verifier_is_no_verifier_and_foreign_parameters_are_ignored() {
        let form = "grant_type=authorization_code&code=x&code_verifier=&refresh_token=y&scope=%22";
        let Ok(GrantRequest::AuthorizationCode(grant)) = parse(form) else {
            panic!("it is a code grant")
        };
        assert!(grant.verifier.is_none() && grant.redirect_uri.is_none());
    }

    #[test]
    fn a_response_says_what_was_granted_and_nothing_that_is_not_there() {
        let response = TokenResponse {
            access_token: Secret::new("at".into()),
            expires_in: Duration::from_secs(600),
            scope: Scope::parse("openid read").unwrap(),
            refresh_token: None,
            id_token: None,
        };
        assert_eq!(
            response.to_json(),
            r#"{"access_token":"at","token_type":"Bearer","expires_in":600,"scope":"openid read"}"#
        );
    }
}
