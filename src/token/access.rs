//! Access tokens: `at+jwt` (RFC 9068), or opaque references known by their digest.

use std::sync::Arc;

pub use super::Why;
use super::claims::{self, Written};
use super::jws;
use crate::base::{CredentialKind, Digest, Entropy, Secret, Timestamp, base64url};
use crate::keys::ACCESS_TOKEN;
use crate::model::client::AccessTokenFormat;
use crate::model::token::{AccessClaims, OpaqueToken};
use crate::storage::{NewOpaqueToken, Result};
use crate::tenant::{Tenant, VerifiedToken};

/// A new access token.
#[derive(Debug)]
pub struct Minted {
    /// What the client gets.
    pub token: Secret<String>,
    /// Its row, when it is opaque: the token is nothing before the row is stored.
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

/// A new `jti`: 128 random bits, 22 letters of base64url.
pub fn new_jti(entropy: &dyn Entropy) -> String {
    base64url::encode(entropy.bytes::<16>())
}

/// Draws an opaque token for `claims`.
pub fn draw_opaque(claims: &AccessClaims, entropy: &dyn Entropy) -> Minted {
    let token = CredentialKind::AccessToken.generate(entropy);
    let digest = digest(token.reveal());
    Minted { token, opaque: Some(NewOpaqueToken { digest, claims: claims.clone() }) }
}

/// Mints an access token: signs a JWT, or draws an opaque one.
pub async fn mint(
    tenant: &Tenant,
    claims: &AccessClaims,
    format: AccessTokenFormat,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<Minted> {
    if format == AccessTokenFormat::Opaque {
        return Ok(draw_opaque(claims, entropy));
    }
    let signer = tenant.keys.signer(tenant.settings.signing.access_token, now).await?;
    let token = signer.sign(ACCESS_TOKEN, &Written::new(tenant.issuer(), claims))?;
    Ok(Minted { token, opaque: None })
}

/// Reads a presented access token: signature (once, then from memory), claims, time; or the row.
pub async fn read(tenant: &Tenant, token: &str, now: Timestamp) -> Result<Read> {
    if token.starts_with(CredentialKind::AccessToken.prefix()) {
        return read_opaque(tenant, token, now).await;
    }
    if let Some(known) = tenant.verified.get(&tenant.uid, token) {
        return read_known(tenant, known, now).await;
    }
    let verified = match jws::verify(tenant, token, ACCESS_TOKEN, now).await? {
        Ok(verified) => verified,
        Err(why) => return Ok(Read::Invalid(why)),
    };
    let claims = match claims::read(&verified.payload, tenant.issuer(), now) {
        Ok(claims) => Arc::new(claims),
        Err(why) => return Ok(Read::Invalid(why)),
    };
    let known = VerifiedToken { claims, kid: verified.kid };
    tenant.verified.insert(&tenant.uid, token, known.clone());
    Ok(Read::Jwt { claims: known.claims, kid: known.kid })
}

/// A token whose signature was good before: its time may be over, or its key no longer believed.
async fn read_known(tenant: &Tenant, known: VerifiedToken, now: Timestamp) -> Result<Read> {
    if let Err(why) = claims::in_time(&known.claims, now) {
        return Ok(Read::Invalid(why));
    }
    Ok(match tenant.keys.verifier(&known.kid, now).await? {
        Some(_) => Read::Jwt { claims: known.claims, kid: known.kid },
        None => Read::Invalid(Why::UnknownKey),
    })
}

async fn read_opaque(tenant: &Tenant, token: &str, now: Timestamp) -> Result<Read> {
    if CredentialKind::AccessToken.parse(token, 32).is_err() {
        return Ok(Read::Invalid(Why::Malformed));
    }
    let Some(record) = tenant.store.find_access_token(&digest(token)).await? else {
        return Ok(Read::Invalid(Why::UnknownToken));
    };
    if !record.grant_live {
        return Ok(Read::Invalid(Why::GrantRevoked));
    }
    Ok(match claims::in_time(&record.claims, now) {
        Ok(()) => Read::Opaque(Arc::new(record.claims)),
        Err(why) => Read::Invalid(why),
    })
}

fn digest(token: &str) -> Digest<OpaqueToken> {
    Digest::of(token.as_bytes())
}
