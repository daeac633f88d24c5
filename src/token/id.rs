//! ID tokens (OpenID Connect Core §2), and reading them back as `id_token_hint`.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims::Audience;
use super::jws;
use crate::base::{Secret, Timestamp, base64url};
use crate::keys::ID_TOKEN;
use crate::model::client::SigningAlg;
use crate::model::{Client, SessionId};
use crate::storage::Result;
use crate::tenant::Tenant;

/// What an ID token says beside `iss`, `aud`, `iat`, `exp` and `at_hash`.
#[derive(Debug, Clone)]
pub struct IdClaims {
    /// `sub`.
    pub subject: String,
    /// `nonce`, exactly as sent.
    pub nonce: Option<String>,
    /// `auth_time`.
    pub auth_time: Option<Timestamp>,
    /// `acr`.
    pub acr: Option<String>,
    /// `amr`.
    pub amr: Vec<String>,
    /// `sid`.
    pub session: Option<SessionId>,
    /// Claims about the user that belong into the ID token; they never replace the protocol's.
    pub user: Map<String, Value>,
}

/// What an `id_token_hint` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// `sub`.
    pub subject: String,
    /// `sid`.
    pub session: Option<SessionId>,
    /// `aud`.
    pub audience: Vec<String>,
}

/// Names that only the protocol fills.
const RESERVED: [&str; 16] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "nonce",
    "auth_time",
    "acr",
    "amr",
    "azp",
    "sid",
    "at_hash",
    "c_hash",
    "s_hash",
];

/// Signs an ID token for `client`; `access_token`, when one is issued beside it, gives `at_hash`.
pub async fn mint(
    tenant: &Tenant,
    client: &Client,
    claims: &IdClaims,
    access_token: Option<&Secret<String>>,
    now: Timestamp,
) -> Result<Secret<String>> {
    let settings = &tenant.settings;
    let alg = client.id_token_alg.unwrap_or(settings.signing.id_token);
    let signer = tenant.keys.signer(alg, now).await?;
    let mut all = claims.user.clone();
    all.retain(|name, _| !RESERVED.contains(&name.as_str()));
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            all.insert(name.to_owned(), value);
        }
    };
    set("iss", Some(tenant.issuer().into()));
    set("sub", Some(claims.subject.as_str().into()));
    set("aud", Some(client.id.as_str().into()));
    set("iat", Some(now.seconds().into()));
    set("exp", Some(now.plus(settings.lifetimes.id_token).seconds().into()));
    set("nonce", claims.nonce.as_deref().map(Value::from));
    set("auth_time", claims.auth_time.map(|at| at.seconds().into()));
    set("acr", claims.acr.as_deref().map(Value::from));
    set("amr", (!claims.amr.is_empty()).then(|| claims.amr.clone().into()));
    set("sid", claims.session.map(|session| session.to_string().into()));
    set("at_hash", access_token.map(|token| half_hash(alg, token.reveal()).into()));
    signer.sign(ID_TOKEN, &all)
}

/// Reads an `id_token_hint`: an ID token that this issuer signed, expired or not
/// (OpenID Connect Core §3.1.2.1, RP-Initiated Logout §4). None when it is anything else.
pub async fn read_hint(tenant: &Tenant, token: &str, now: Timestamp) -> Result<Option<Hint>> {
    #[derive(Deserialize)]
    struct Stated {
        iss: String,
        sub: String,
        aud: Audience,
        sid: Option<SessionId>,
    }
    let Ok(verified) = jws::verify(tenant, token, ID_TOKEN, now).await? else { return Ok(None) };
    let stated = serde_json::from_slice::<Stated>(&verified.payload).ok();
    Ok(stated.filter(|stated| stated.iss == tenant.issuer()).map(|stated| Hint {
        subject: stated.sub,
        session: stated.sid,
        audience: stated.aud.into_vec(),
    }))
}

/// `at_hash`: the left half of the token's digest, by the hash of the ID token's algorithm
/// (OpenID Connect Core §3.1.3.6); Ed25519 goes with SHA-512.
fn half_hash(alg: SigningAlg, token: &str) -> String {
    let hash = if alg == SigningAlg::EdDSA { &SHA512 } else { &SHA256 };
    let digest = digest(hash, token.as_bytes());
    let digest = digest.as_ref();
    base64url::encode(&digest[..digest.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_hash_is_the_left_half_by_the_hash_of_the_algorithm() {
        // OpenID Connect Core appendix A.4.
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(half_hash(SigningAlg::RS256, token), "77QmUPtjPfzWtF2AnpK9RQ");
        assert_eq!(half_hash(SigningAlg::ES256, token), half_hash(SigningAlg::PS256, token));
        assert_eq!(half_hash(SigningAlg::EdDSA, token).len(), 43);
    }
}
