//! What a resource server asked about one token or several, and in which form it is told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{Introspection, holder, inspect};
use crate::base::Secret;
use crate::limits::Limited;
use crate::oauth::client::{self, AuthenticatedClient, Presented};
use crate::oauth::{Call, Cause, Params, TokenError};
use crate::storage::Result as Stored;

/// The `typ` of a signed answer (RFC 9701 §5).
pub const SIGNED: &str = "token-introspection+jwt";

/// Tokens that one request may ask about.
const MOST: usize = 100;

/// An answer, and whose it is.
pub struct Answered {
    caller: AuthenticatedClient,
    said: Said,
}

enum Said {
    One(Box<Introspection>),
    /// In the order of the request; a token that came twice is there twice.
    Several(Vec<Arc<Introspection>>),
}

/// Answers a request that has `token` (RFC 7662 §2.1), or `tokens`: up to 100 with spaces between
/// them, for gateways. Each counts as one introspection and is looked at once.
pub async fn answer(
    call: &Call<'_>,
    presented: &Presented,
    form: &Params,
) -> Result<Answered, TokenError> {
    let caller = client::authenticate(call, presented).await?.confidential()?;
    let from = holder(call, form)?;
    let said = match (form.get("token"), form.get("tokens")) {
        (Some(_), Some(_)) => return Err(Cause::Unfit("tokens").into()),
        (None, Some(tokens)) => Said::Several(several(call, &caller, tokens, from).await?),
        (token, None) => {
            caller.count(call, Limited::Introspection)?;
            let token = token.ok_or(Cause::Missing("token"))?;
            Said::One(Box::new(inspect(call, &caller, token, from).await?))
        }
    };
    Ok(Answered { caller, said })
}

async fn several(
    call: &Call<'_>,
    caller: &AuthenticatedClient,
    tokens: &str,
    from: Option<IpAddr>,
) -> Result<Vec<Arc<Introspection>>, TokenError> {
    let tokens: Vec<&str> = tokens.split(' ').filter(|token| !token.is_empty()).collect();
    if tokens.is_empty() || tokens.len() > MOST {
        return Err(Cause::Unfit("tokens").into());
    }
    let mut known: HashMap<&str, Arc<Introspection>> = HashMap::new();
    let mut all = Vec::with_capacity(tokens.len());
    for token in tokens {
        let told = if let Some(told) = known.get(token) {
            Arc::clone(told)
        } else {
            caller.count(call, Limited::Introspection)?;
            let told = match inspect(call, caller, token, from).await {
                // A key that is used too often: the others are no worse for it.
                Err(error) if error.status() == 429 => Introspection(None),
                told => told?,
            };
            let told = Arc::new(told);
            known.insert(token, Arc::clone(&told));
            told
        };
        all.push(told);
    }
    Ok(all)
}

/// RFC 9701 §5: no `exp` and no `sub` here; those of the token are inside.
#[derive(Serialize)]
struct Signed<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: i64,
    token_introspection: Value,
}

impl Answered {
    /// The answer about one token; none if several were asked about.
    pub(super) fn into_one(self) -> Option<Introspection> {
        match self.said {
            Said::One(one) => Some(*one),
            Said::Several(_) => None,
        }
    }

    /// Whether each token was active, in order; for counting.
    pub fn actives(&self) -> Vec<bool> {
        match &self.said {
            Said::One(one) => vec![one.is_active()],
            Said::Several(all) => all.iter().map(|one| one.is_active()).collect(),
        }
    }

    /// The JSON body.
    pub fn to_json(&self) -> String {
        match &self.said {
            Said::One(one) => one.to_json(),
            Said::Several(all) => {
                let all: Vec<String> = all.iter().map(|one| one.to_json()).collect();
                format!("{{\"tokens\":[{}]}}", all.join(","))
            }
        }
    }

    /// The answer as a JWT for the caller alone (RFC 9701 §5), signed as its ID tokens would be; none
    /// for several tokens, which have no such form.
    pub async fn sign(&self, call: &Call<'_>) -> Option<Stored<Secret<String>>> {
        let Said::One(one) = &self.said else { return None };
        let inside = serde_json::from_str(&one.to_json()).ok()?;
        let claims = Signed {
            iss: call.tenant.issuer(),
            aud: self.caller.id().as_str(),
            iat: call.now.seconds(),
            token_introspection: inside,
        };
        let alg = self.caller.client().id_token_alg;
        let alg = alg.unwrap_or(call.tenant.settings.signing.id_token);
        let signer = call.tenant.keys.signer(alg, call.now).await;
        Some(signer.and_then(|signer| signer.sign(SIGNED, &claims)))
    }

    /// For how long the caller may keep the answer: as its `introspection_cache` says, never beyond
    /// the end of a token, and not at all if any is inactive or no access token.
    pub fn max_age(&self, call: &Call<'_>) -> Duration {
        let policy = self.caller.client().introspection_cache.unwrap_or_default();
        let shortest = match &self.said {
            Said::One(one) => one.lasts(call.now),
            Said::Several(all) => {
                all.iter().map(|one| one.lasts(call.now)).min().unwrap_or_default()
            }
        };
        policy.min(shortest)
    }
}
