//! An API key for a short-lived JWT (RFC 8693), so that an API sees one kind of credential. Nothing
//! is stored: the JWT names the key as its grant, and dies with it.

use std::time::Duration;

use crate::base::{Secret, Timestamp};
use crate::model::Scope;
use crate::model::api_key::{ApiKey, Owner};
use crate::model::client::AccessTokenFormat;
use crate::model::token::AccessClaims;
use crate::oauth::client::AuthenticatedClient;
use crate::oauth::draft::ready_to_mint;
use crate::oauth::token::{ExchangeGrant, TokenResponse};
use crate::oauth::{Call, Cause, Params, TokenError, target};
use crate::revocation::status;
use crate::token::access;
use crate::token::api_key::Checked;

/// The type of an API key as a subject token; ours, since RFC 8693 §3 knows none for it.
pub(in crate::oauth) const API_KEY: &str = "urn:pmp-auth:params:oauth:token-type:api_key";
/// RFC 8693 §3.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// How long what is exchanged lives at most.
const LONGEST: Duration = Duration::from_mins(5);

/// Reads the form (RFC 8693 §2.1).
pub(in crate::oauth) fn parse(
    form: &Params,
    mut audiences: Vec<String>,
    scope: Option<Scope>,
) -> Result<ExchangeGrant, Cause> {
    let need = |name: &'static str| form.get(name).ok_or(Cause::Missing(name));
    let subject_token = Secret::new(need("subject_token")?.to_owned());
    if need("subject_token_type")? != API_KEY {
        return Err(Cause::TokenType("subject_token_type"));
    }
    if form.get("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN) {
        return Err(Cause::TokenType("requested_token_type"));
    }
    // Nobody acts for somebody else here.
    if form.get("actor_token").is_some() {
        return Err(Cause::TokenType("actor_token"));
    }
    for audience in form.all("audience") {
        if !audiences.iter().any(|known| known == audience) {
            audiences.push(audience.to_owned());
        }
    }
    Ok(ExchangeGrant { subject_token, scope, audiences })
}

/// Mints a JWT for whoever holds a live key.
pub(in crate::oauth) async fn exchange(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    request: &ExchangeGrant,
) -> Result<TokenResponse, TokenError> {
    let services = call.services;
    let text = request.subject_token.reveal();
    let checked =
        services.api_keys.check(call.tenant, &services.revocations, text, call.peer(), call.now);
    let key = match checked.await.map_err(Cause::Store)? {
        Checked::Live(key) => key,
        Checked::Refused(refusal) => return Err(Cause::SubjectToken(refusal).into()),
        Checked::TooOften(often) => {
            return Err(Cause::TooMany { retry_after: often.retry_after }.into());
        }
    };
    if !key.allowed_ips.is_empty() && !key.exchange {
        return Err(Cause::NotExchangeable.into());
    }
    let mut claims = claims(call, client, &key, request)?;
    let named = if claims.client == *client.id() {
        client.client().clone()
    } else {
        let found = call.tenant.client(&claims.client).await.map_err(Cause::Store)?;
        found.ok_or(Cause::UnknownClient)?
    };
    ready_to_mint(call, &named, claims.user, &Scope::default()).await?;
    let place = services.statuses.place(call.tenant, claims.expires_at, call.now).await;
    claims.status = place.map_err(Cause::Store)?;
    if let Some(row) = status::row(&claims) {
        call.tenant.store.issue_access_token(&row).await.map_err(Cause::Store)?;
    }
    let entropy = &*services.entropy;
    let minted = access::mint(call.tenant, &claims, AccessTokenFormat::Jwt, call.now, entropy);
    Ok(TokenResponse {
        access_token: minted.await.map_err(Cause::Store)?.token,
        expires_in: claims.expires_at.since(claims.issued_at),
        scope: claims.scope,
        refresh_token: None,
        id_token: None,
        issued_token_type: Some(ACCESS_TOKEN),
    })
}

fn claims(
    call: &Call<'_>,
    client: &AuthenticatedClient,
    key: &ApiKey,
    request: &ExchangeGrant,
) -> Result<AccessClaims, Cause> {
    let audience = match request.audiences.as_slice() {
        [] => key.audiences.as_slice(),
        named if named.iter().all(|one| key.audiences.contains(one)) => named,
        _ => return Err(Cause::TargetNotAllowed),
    };
    let [audience] = audience else { return Err(Cause::TargetAmbiguous) };
    let audience = vec![audience.clone()];
    let scope = match &request.scope {
        None => &key.scope,
        Some(asked) if asked.is_subset_of(&key.scope) => asked,
        Some(_) => return Err(Cause::ScopeTooWide),
    };
    let issued_at = Timestamp::from_seconds(call.now.seconds());
    let lifetime = call.tenant.settings.lifetimes.access_token.min(LONGEST);
    let ends = Timestamp::from_seconds(key.ends_at().seconds());
    let subject = match &key.owner {
        Owner::User { user, .. } => user.to_string(),
        Owner::Client(owner) => owner.to_string(),
    };
    // What ends the key's client ends this, too.
    let named = key.owner.client().unwrap_or(client.id()).clone();
    Ok(AccessClaims {
        jti: access::new_jti(&*call.services.entropy),
        client: named,
        user: key.owner.user(),
        subject,
        scope: target::cut(&call.tenant.settings, &audience, scope),
        audience,
        grant: Some(key.id.as_grant()),
        session: None,
        generation: None,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        issued_at,
        expires_at: issued_at.plus(lifetime).min(ends),
        status: None,
    })
}
