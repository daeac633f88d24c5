//! skeleton
use std::sync::Arc;

use crate::base::{Entropy, Secret, Timestamp};
use crate::model::client::AccessTokenFormat;
use crate::model::token::AccessClaims;
use crate::storage::{NewOpaqueToken, Result};
use crate::tenant::Tenant;

/// A new access token.
#[derive(Debug)]
pub struct Minted {
    /// What the client gets.
    pub token: Secret<String>,
    /// Its row, when it is opaque; the caller stores it.
    pub opaque: Option<NewOpaqueToken>,
}

/// What a presented access token is. Revocation is not yet looked at.
#[derive(Debug, Clone)]
#[must_use]
pub enum Read {
    /// Ours, signed, unexpired.
    Jwt {
        /// What it says.
        claims: Arc<AccessClaims>,
        /// The key that signed it.
        kid: Arc<str>,
    },
    /// An opaque token that is known and unexpired, and whose grant is live.
    Opaque(Arc<AccessClaims>),
    /// Not a live access token of this tenant.
    Invalid(Why),
}

/// Why a token is not accepted; for logs, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// skeleton
    #[error("malformed")]
    Malformed,
}

/// A random identifier for `jti`: 22 letters of base64url.
pub fn new_jti(entropy: &dyn Entropy) -> String {
    crate::base::base64url::encode(entropy.bytes::<16>())
}

/// Draws an opaque token for `claims`.
pub fn draw_opaque(claims: &AccessClaims, entropy: &dyn Entropy) -> Minted {
    todo!()
}

/// Mints an access token: signs a JWT, or draws an opaque one.
pub async fn mint(
    tenant: &Tenant,
    claims: &AccessClaims,
    format: AccessTokenFormat,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<Minted> {
    todo!()
}

/// Reads a presented access token.
pub async fn read(tenant: &Tenant, token: &str, now: Timestamp) -> Result<Read> {
    todo!()
}
