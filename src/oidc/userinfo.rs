//! The userinfo endpoint (OpenID Connect Core §5.3): a resource protected as RFC 6750 says.

use serde_json::{Map, Value};

use crate::identity::claims;
use crate::model::token::AccessClaims;
use crate::model::{Scope, User};
use crate::oauth::Call;
use crate::oauth::bearer::{self, BearerError};

/// The claims about the user that the token's scope gives, as JSON text.
pub async fn userinfo(call: &Call<'_>, token: &str) -> Result<String, BearerError> {
    let claims = bearer::authorize(call, token, Scope::OPENID).await?;
    let user = claims.user.ok_or(BearerError::NotLive)?;
    let found = call.tenant.store.find_user(user).await?;
    let user = found.filter(|user| !user.disabled).ok_or(BearerError::NotLive)?;
    call.services.heads.met(call, &claims);
    let mut shown = claims::for_scope(&user, &claims.scope);
    shown.extend(wanted(call, &claims, &user).await?);
    // OpenID Connect Core §5.3.2: always there, and the same as in the ID token.
    shown.insert("sub".to_owned(), claims.subject.clone().into());
    Ok(Value::Object(shown).to_string())
}

/// The claims that the authorization request asked for one by one (OpenID Connect Core §5.5).
async fn wanted(
    call: &Call<'_>,
    token: &AccessClaims,
    user: &User,
) -> Result<Map<String, Value>, BearerError> {
    let Some(grant) = token.grant else { return Ok(Map::new()) };
    let grant = call.tenant.store.find_grant(grant).await?;
    let wanted = grant.and_then(|grant| grant.terms.claims);
    Ok(claims::requested(user, wanted.as_ref(), "userinfo"))
}
