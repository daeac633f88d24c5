//! Access tokens as storage and the revocation view see them.

use serde::{Deserialize, Serialize};

use super::{ClientId, GrantId, Scope, SessionId, UserId};
use crate::base::Timestamp;

/// Marks the digest of an opaque access token.
#[derive(Debug)]
pub enum OpaqueToken {}

/// What an access token says, whether it says so in a signature (RFC 9068) or in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Unique within the tenant: 22 letters of base64url, 128 random bits.
    pub jti: String,
    /// The client that it was issued to.
    pub client: ClientId,
    /// The user it speaks for; none for client_credentials, where the subject is the client.
    pub user: Option<UserId>,
    /// `sub`: the user's id, else the client's.
    pub subject: String,
    /// `aud`, at least one.
    pub audience: Vec<String>,
    /// What it allows.
    pub scope: Scope,
    /// The grant it came out of (`gid`); none for client_credentials.
    pub grant: Option<GrantId>,
    /// The session it dies with (`sid`); none when the grant is offline.
    pub session: Option<SessionId>,
    /// The refresh generation it came with (`gen`).
    pub generation: Option<u32>,
    /// `auth_time`.
    pub auth_time: Option<Timestamp>,
    /// `acr`.
    pub acr: Option<String>,
    /// `amr`.
    pub amr: Vec<String>,
    /// When it was issued, whole seconds.
    pub issued_at: Timestamp,
    /// When it ends, whole seconds.
    pub expires_at: Timestamp,
    /// Where a status list says whether it is revoked; none unless the tenant keeps such lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusPlace>,
}

/// A signed token's place in a status list (draft-ietf-oauth-status-list §6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusPlace {
    /// The list, as in its address.
    pub list: String,
    /// The index in it; no other token has it.
    pub idx: u32,
    /// The key that signed when the place was taken; a token that was read does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
}

impl StatusPlace {
    /// Where lists are, below the issuer.
    pub const PATH: &str = "/statuslists";

    /// The address of the list.
    pub fn uri(&self, issuer: &str) -> String {
        format!("{issuer}{}/{}", Self::PATH, self.list)
    }

    /// The place that a token names, if it is in a list of this issuer.
    pub fn at(issuer: &str, uri: &str, idx: u32) -> Option<Self> {
        let list = uri.strip_prefix(issuer)?.strip_prefix(Self::PATH)?.strip_prefix('/')?;
        Some(Self { list: list.to_owned(), idx, kid: None })
    }
}
