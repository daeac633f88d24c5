use async_trait::async_trait;

use super::{Change, Result};
use crate::base::Digest;
use crate::model::token::{AccessClaims, OpaqueToken};

/// Access tokens that have a row: opaque ones, and signed ones with a place in a status list. Those
/// of a grant are written by the statement that redeems or rotates; those without one
/// (client_credentials) here.
#[async_trait]
pub trait AccessTokens: Send + Sync {
    /// Stores the row of a token. Not audited: stateless issuance is logged and counted.
    async fn issue_access_token(&self, token: &NewOpaqueToken) -> Result<()>;

    /// The token of this digest, expired or not, as long as its row stands, and whether its grant
    /// is still live: one indexed look-up. Revocation is the log's to say.
    async fn find_access_token(&self, token: &Digest<OpaqueToken>) -> Result<Option<OpaqueRecord>>;

    /// Revokes one access token by `jti`: a `jti` entry that expires at `change.not_after`, and the row of
    /// an opaque one is gone. Audits `token.revoked`. Idempotent.
    async fn revoke_access_token(&self, claims: &AccessClaims, change: &Change<'_>) -> Result<()>;
}

/// The row of a token that is opaque, or that has a place in a status list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOpaqueToken {
    /// The token's digest; of a signed one, that of its place, which no token spells.
    pub digest: Digest<OpaqueToken>,
    /// What it says.
    pub claims: AccessClaims,
}

/// What storage knows of an opaque token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpaqueRecord {
    /// What it says.
    pub claims: AccessClaims,
    /// False when the grant it came out of is revoked.
    pub grant_live: bool,
}
