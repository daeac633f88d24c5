//! Authorization codes (RFC 6749 §4.1.2).

use serde::{Deserialize, Serialize};

use super::{ClientId, GrantId, SessionId, UserId, grant::GrantTerms};
use crate::base::Timestamp;

/// Marks the digest of an authorization code.
#[derive(Debug)]
pub enum Code {}

/// What a code was issued for; none of it ever changes. Stored as one versioned JSON column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeTerms {
    /// The version of this shape: 1.
    #[serde(rename = "v")]
    pub version: u8,
    /// Where it was sent.
    pub redirect_uri: String,
    /// Whether the request named that URI; if so, so must the token request (RFC 6749 §4.1.3).
    pub redirect_uri_sent: bool,
    /// The S256 challenge (RFC 7636), when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_challenge: Option<String>,
    /// `nonce`, for the ID token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Key that the code is bound to (RFC 9449 §10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpop_jkt: Option<String>,
}

/// A code with all that is decided by it, read without a lock before it is spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeRecord {
    /// The client it was issued to.
    pub client: ClientId,
    /// Who consented.
    pub user: UserId,
    /// In which session.
    pub session: Option<SessionId>,
    /// The grant that it opens.
    pub grant: GrantId,
    /// What it was issued for.
    pub terms: CodeTerms,
    /// What was consented to.
    pub grant_terms: GrantTerms,
    /// Whether the grant outlives the session.
    pub offline: bool,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// It cannot be redeemed from then on.
    pub expires_at: Timestamp,
}
