//! skeleton
use serde_json::{Map, Value};

use crate::base::{Secret, Timestamp};
use crate::model::{Client, SessionId};
use crate::storage::Result;
use crate::tenant::Tenant;

/// What an ID token says beside `iss`, `aud`, `iat` and `exp` (OpenID Connect Core §2).
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
    /// Claims about the user that belong into the ID token; protocol claims win.
    pub user: Map<String, Value>,
}

/// Signs an ID token for `client`; `access_token`, when one is issued beside it, gives `at_hash`.
pub async fn mint(
    tenant: &Tenant,
    client: &Client,
    claims: &IdClaims,
    access_token: Option<&Secret<String>>,
    now: Timestamp,
) -> Result<Secret<String>> {
    todo!()
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

/// Reads an `id_token_hint`: an ID token of this issuer, expired or not; else none.
pub async fn read_hint(tenant: &Tenant, token: &str, now: Timestamp) -> Result<Option<Hint>> {
    todo!()
}
