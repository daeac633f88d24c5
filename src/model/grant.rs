//! A grant: what a user consented to, for one client. The one row that is revoked, whatever came
//! out of it; its refresh columns are the whole life of its refresh tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ClientId, Scope, SessionId, UserId, refresh::RefreshHead};
use crate::base::Timestamp;

/// `gid`: names the grant in tokens and in the revocation log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(pub Uuid);

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl FromStr for GrantId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// `live` becomes `revoked` once, and never the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// Tokens may come out of it.
    Live,
    /// None ever will again.
    Revoked,
}

/// What the user agreed to and how they were known; never changes after it was written. Stored as
/// one versioned JSON column, with columns of their own for what is enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTerms {
    /// The version of this shape: 1.
    #[serde(rename = "v")]
    pub version: u8,
    /// What was granted.
    pub scope: Scope,
    /// The resources (audiences) that tokens may be for (RFC 8707).
    pub resources: Vec<String>,
    /// Names of claims asked for one by one (`claims`, OpenID Connect Core §5.5), as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<serde_json::Value>,
    /// `acr` of the authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// `amr` of the authentication.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// When the user proved who they are.
    pub auth_time: Timestamp,
    /// The latest end of the session that it dies with; none when it outlives its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ends: Option<Timestamp>,
}

/// A grant as storage keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub id: GrantId,
    /// For whom.
    pub client: ClientId,
    /// By whom.
    pub user: Option<UserId>,
    /// In which session.
    pub session: Option<SessionId>,
    /// What was agreed.
    pub terms: GrantTerms,
    /// Key that a public client's refresh tokens are bound to (RFC 9449), set at birth.
    pub jkt: Option<String>,
    /// Whether it outlives its session (`offline_access`).
    pub offline: bool,
    /// Live or revoked.
    pub state: GrantState,
    /// When it was made.
    pub created_at: Timestamp,
    /// A refresh token unused until then is dead.
    pub idle_expires_at: Timestamp,
    /// Nothing comes out of it after that.
    pub expires_at: Timestamp,
    /// Its refresh token's life; none when none was issued.
    pub refresh: Option<RefreshHead>,
}
