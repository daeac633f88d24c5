//! Token revocation (RFC 7009). Idempotent: an unknown, spent, expired or foreign token is answered
//! like one that was revoked just now (§2.2), and nothing happens to it.

use std::time::Duration;

use tracing::info;

use super::client::{self, AuthenticatedClient, Presented};
use super::grants::refresh_token;
use super::{Call, Cause, Params, TokenError};
use crate::base::CredentialKind;
use crate::storage::{Change, RevokeGrant};
use crate::token::access::{self, Read};

/// How long after a token's end its revocation is kept: no verifier's clock is further behind.
const SKEW: Duration = Duration::from_mins(1);

/// What was revoked; the client is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Revoked {
    /// A grant, by its refresh token.
    Grant,
    /// One access token.
    AccessToken,
    /// There was nothing, or it was not the client's.
    Nothing,
}

/// Revokes a token of the client that asks.
pub async fn revoke(
    call: &Call<'_>,
    presented: &Presented,
    form: &Params,
) -> Result<Revoked, TokenError> {
    let client = client::authenticate(call, presented).await?;
    // `token_type_hint` is a hint: what a token is can be seen (RFC 7009 §2.1).
    let token = form.get("token").ok_or(Cause::Missing("token"))?;
    if token.starts_with(CredentialKind::RefreshToken.prefix()) {
        revoke_refresh(call, &client, token).await
    } else {
        revoke_access(call, &client, token).await
    }
}

/// The grant goes, and with it every access token that came out of it (RFC 7009 §2.1).
async fn revoke_refresh(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    token: &str,
) -> Result<Revoked, TokenError> {
    let grant = match refresh_token::find(call, client, token).await {
        Ok((_, grant)) => grant.id,
        Err(error) if error.status() == 400 => return Ok(Revoked::Nothing),
        Err(error) => return Err(error),
    };
    let revoked = call.tenant.store.revoke_grant(grant, call.now, call.audit).await;
    if revoked.map_err(Cause::Store)? != RevokeGrant::Revoked {
        return Ok(Revoked::Nothing);
    }
    let tenant = call.tenant.slug.as_str();
    info!(tenant, client.id = client.id().as_str(), %grant, "revoked a grant by its refresh token");
    Ok(Revoked::Grant)
}

/// One access token goes, by its `jti`; its refresh token stays.
async fn revoke_access(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    token: &str,
) -> Result<Revoked, TokenError> {
    let claims = match access::read(call.tenant, token, call.now).await.map_err(Cause::Store)? {
        Read::Jwt { claims, .. } | Read::Opaque(claims) => claims,
        Read::Invalid(_) => return Ok(Revoked::Nothing),
    };
    if claims.client != *client.id() {
        return Ok(Revoked::Nothing);
    }
    let not_after = claims.expires_at.plus(SKEW);
    let change = Change { now: call.now, not_after, audit: call.audit };
    call.tenant.store.revoke_access_token(&claims, &change).await.map_err(Cause::Store)?;
    let tenant = call.tenant.slug.as_str();
    info!(tenant, client.id = client.id().as_str(), jti = claims.jti, "revoked an access token");
    Ok(Revoked::AccessToken)
}
