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
}
