//! Token introspection (RFC 7662), and the one place that says whether an access token is live.
//!
//! A caller learns of an access token only if it is for the caller (its audience) or was issued to
//! it, and of a refresh token only if it is its own; of any other token, exactly that it is not
//! active (RFC 7662 §2.2, §4).

mod answer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use answer::{Answered, SIGNED, answer};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::client::{AuthenticatedClient, Presented};
use super::grants::refresh_token;
use super::{Call, Cause, Params, Services, TokenError};
use crate::base::{CredentialKind, Timestamp};
use crate::model::token::AccessClaims;
use crate::model::{Grant, grant::GrantState};
use crate::revocation::Standing;
use crate::storage::Result as Stored;
use crate::token::access::{self, Read};
use crate::token::api_key::{self, Checked};

/// Answers an introspection request about one token, in short. The caller authenticates with a
/// secret: a public client could be anyone.
pub async fn introspect(
    call: &Call<'_>,
    presented: &Presented,
    form: &Params,
) -> Result<Introspection, TokenError> {
    answer(call, presented, form).await?.into_one().ok_or_else(|| Cause::Missing("token").into())
}

/// What `caller` may know about a token, or API key, whose holder is at `from`.
async fn inspect(
    call: &Call<'_>,
    caller: &AuthenticatedClient,
    token: &str,
    from: Option<IpAddr>,
) -> Result<Introspection, TokenError> {
    // `token_type_hint` is a hint: what a token is can be seen (RFC 7662 §2.1).
    if token.starts_with(CredentialKind::RefreshToken.prefix()) {
        return introspect_refresh(call, caller, token).await;
    }
    let claims = match live_bearer(call, token, from).await.map_err(Cause::Store)? {
        Bearer::Token(claims) => claims,
        Bearer::ApiKey(claims) if may_see(caller, &claims) => {
            return Ok(Introspection(Some(Active::api_key(call, &claims))));
        }
        Bearer::TooOften { retry_after } => return Err(Cause::TooMany { retry_after }.into()),
        Bearer::ApiKey(_) | Bearer::NotLive => return Ok(Introspection(None)),
    };
    if !may_see(caller, &claims) {
        return Ok(Introspection(None));
    }
    call.services.heads.met(call, &claims);
    Ok(Introspection(Some(Active::access(call, &claims))))
}

/// Where whoever holds the token is: a resource server, which has authenticated, may say so
/// (`client_ip`), else it is the caller itself.
fn holder(call: &Call<'_>, form: &Params) -> Result<Option<IpAddr>, Cause> {
    match form.get("client_ip") {
        Some(text) => text.parse().map(Some).map_err(|_| Cause::Unfit("client_ip")),
        None => Ok(call.peer()),
    }
}

/// What somebody presented as a bearer of rights, if it is live now.
#[derive(Debug, Clone)]
#[must_use]
pub enum Bearer {
    /// An access token.
    Token(Arc<AccessClaims>),
    /// An API key. `jti` and `grant` are its id; the client is empty if its owner names none.
    ApiKey(Arc<AccessClaims>),
    /// An API key that is used more often than it may be: 429.
    TooOften {
        /// When to come back.
        retry_after: Duration,
    },
    /// Neither.
    NotLive,
}

/// What `text` is: an access token or an API key, and what it says. `from` is the address of whoever
/// holds it. An error means that we cannot know, and must not guess.
pub async fn live_bearer(call: &Call<'_>, text: &str, from: Option<IpAddr>) -> Stored<Bearer> {
    if !text.starts_with(CredentialKind::ApiKey.prefix()) {
        return Ok(live_access(call, text).await?.map_or(Bearer::NotLive, Bearer::Token));
    }
    let Services { api_keys, revocations, .. } = call.services;
    Ok(match api_keys.check(call.tenant, revocations, text, from, call.now).await? {
        Checked::Live(key) => Bearer::ApiKey(Arc::new(api_key::claims(&key))),
        Checked::TooOften(often) => Bearer::TooOften { retry_after: often.retry_after },
        Checked::Refused(refusal) => {
            tracing::info!(tenant = call.tenant.slug.as_str(), "refused an API key: {refusal}");
            Bearer::NotLive
        }
    })
}

/// The claims of an access token that is live now: ours, unexpired, not revoked, of a client that
/// is enabled. No query for a JWT that was seen before; at most one for an opaque token. An error
/// means that we cannot know, and must not guess.
pub async fn live_access(call: &Call<'_>, token: &str) -> Stored<Option<Arc<AccessClaims>>> {
    let (claims, kid) = match access::read(call.tenant, token, call.now).await? {
        Read::Jwt { claims, kid } => (claims, Some(kid)),
        Read::Opaque(claims) => (claims, None),
        Read::Invalid(_) => return Ok(None),
    };
    let view = &call.services.revocations;
    match view.standing(call.tenant, &claims, kid.as_deref(), call.now).await? {
        Standing::Revoked => return Ok(None),
        Standing::Live => {}
    }
    let enabled = call.tenant.client(&claims.client).await?.is_some_and(|client| client.enabled);
    Ok(enabled.then_some(claims))
}

fn may_see(caller: &AuthenticatedClient, claims: &AccessClaims) -> bool {
    let own = claims.client == *caller.id();
    own || claims.audience.iter().any(|one| caller.client().audiences.contains(one))
}

async fn introspect_refresh(
    call: &Call<'_>,
    caller: &AuthenticatedClient,
    token: &str,
) -> Result<Introspection, TokenError> {
    let (presented, grant) = match refresh_token::find(call, caller, token).await {
        Ok(found) => found,
        Err(error) if error.status() == 400 => return Ok(Introspection(None)),
        Err(error) => return Err(error),
    };
    let live = grant.state == GrantState::Live
        && call.now < grant.idle_expires_at
        && call.now < grant.expires_at
        && grant.refresh.as_ref().is_some_and(|refresh| {
            (refresh.head, refresh.head_nonce) == (presented.generation, presented.nonce)
        });
    Ok(Introspection(live.then(|| Active::refresh(call, &grant))))
}

/// The answer (RFC 7662 §2.2).
#[derive(Debug)]
pub struct Introspection(Option<Active>);

impl Introspection {
    /// Whether the token is active, as far as the caller may know.
    pub fn is_active(&self) -> bool {
        self.0.is_some()
    }

    /// How long the answer stays true unless the token is revoked: until an access token ends. One
    /// about an API key may depend on who asks, and how often.
    fn lasts(&self, now: Timestamp) -> Duration {
        let access = self.0.as_ref().filter(|active| active.token_type == Some("Bearer"));
        let left = access.map_or(0, |active| active.exp - now.seconds());
        Duration::from_secs(left.try_into().unwrap_or(0))
    }

    /// The JSON body.
    pub fn to_json(&self) -> String {
        match &self.0 {
            Some(active) => serde_json::to_string(active).unwrap_or_default(), // cannot fail: no maps
            None => r#"{"active":false}"#.to_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of RFC 7662 §2.2")]
struct Active {
    active: bool,
    scope: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    sub: String,
    #[serde(serialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    aud: Vec<String>,
    iss: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    amr: Vec<String>,
    /// draft-ietf-oauth-status-list §6.2, as in the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
}

impl Active {
    fn access(call: &Call<'_>, claims: &AccessClaims) -> Self {
        Self {
            active: true,
            scope: claims.scope.to_string(),
            client_id: claims.client.to_string(),
            token_type: Some("Bearer"),
            exp: claims.expires_at.seconds(),
            iat: claims.issued_at.seconds(),
            nbf: Some(claims.issued_at.seconds()),
            sub: claims.subject.clone(),
            aud: claims.audience.clone(),
            iss: call.tenant.issuer().to_owned(),
            jti: Some(claims.jti.clone()),
            sid: claims.session.map(|session| session.to_string()),
            auth_time: claims.auth_time.map(Timestamp::seconds),
            acr: claims.acr.clone(),
            amr: claims.amr.clone(),
            status: claims.status.as_ref().map(|place| {
                json!({ "status_list": { "idx": place.idx, "uri": place.uri(call.tenant.issuer()) } })
            }),
        }
    }

    fn api_key(call: &Call<'_>, claims: &AccessClaims) -> Self {
        Self { token_type: Some("api_key"), ..Self::access(call, claims) }
    }

    fn refresh(call: &Call<'_>, grant: &Grant) -> Self {
        Self {
            active: true,
            scope: grant.terms.scope.to_string(),
            client_id: grant.client.to_string(),
            token_type: None,
            exp: grant.idle_expires_at.min(grant.expires_at).seconds(),
            iat: grant.created_at.seconds(),
            nbf: None,
            sub: grant.user.map_or_else(|| grant.client.to_string(), |user| user.to_string()),
            aud: Vec::new(),
            iss: call.tenant.issuer().to_owned(),
            jti: None,
            sid: grant.session.map(|session| session.to_string()),
            auth_time: Some(grant.terms.auth_time.seconds()),
            acr: grant.terms.acr.clone(),
            amr: grant.terms.amr.clone(),
            status: None,
        }
    }
}

/// RFC 7519 §4.1.3: one audience may be written as a string.
fn one_or_many<S: Serializer>(all: &Vec<String>, out: S) -> Result<S::Ok, S::Error> {
    match all.as_slice() {
        [one] => out.serialize_str(one),
        many => out.collect_seq(many),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inactive_token_says_exactly_that() {
        assert_eq!(Introspection(None).to_json(), r#"{"active":false}"#);
    }

    #[test]
    fn the_types_of_an_active_answer_are_those_of_the_rfc() {
        let active = Active {
            active: true,
            scope: "openid read".into(),
            client_id: "app".into(),
            token_type: Some("Bearer"),
            exp: 2,
            iat: 1,
            nbf: Some(1),
            sub: "ada".into(),
            aud: vec!["https://api.example".into()],
            iss: "https://id.example".into(),
            jti: Some("x".into()),
            sid: None,
            auth_time: None,
            acr: None,
            amr: vec![],
            status: None,
        };
        assert_eq!(
            Introspection(Some(active)).to_json(),
            r#"{"active":true,"scope":"openid read","client_id":"app","token_type":"Bearer","exp":2,"iat":1,"nbf":1,"sub":"ada","aud":"https://api.example","iss":"https://id.example","jti":"x"}"#
        );
    }
}
