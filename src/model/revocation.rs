//! Entries of the revocation log: one row per thing revoked, append-only.

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

/// What is revoked. Each names a set of tokens by one of their claims.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationKey {
    /// One access token, by `jti`.
    Jti(String),
    /// The access tokens of one refresh generation: `gid.gen`.
    Head(String),
    /// Everything out of one grant, by `gid`.
    Grant(String),
    /// Everything that dies with one session, by `sid`.
    Session(String),
    /// Tokens of one subject issued up to `not_before`.
    Subject(String),
    /// Tokens of one client issued up to `not_before`.
    Client(String),
    /// Tokens of the whole tenant issued up to `not_before`.
    Tenant,
    /// One API key and what was exchanged for it.
    ApiKey(String),
    /// Every token whose header names this key, whatever its `iat`.
    Kid(String),
}

impl RevocationKey {
    /// The `kind` column.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Jti(_) => "jti",
            Self::Head(_) => "head",
            Self::Grant(_) => "grant",
            Self::Session(_) => "session",
            Self::Subject(_) => "subject",
            Self::Client(_) => "client",
            Self::Tenant => "tenant",
            Self::ApiKey(_) => "api_key",
            Self::Kid(_) => "kid",
        }
    }

    /// The `key` column; empty for the tenant.
    pub fn key(&self) -> &str {
        match self {
            Self::Jti(key)
            | Self::Head(key)
            | Self::Grant(key)
            | Self::Session(key)
            | Self::Subject(key)
            | Self::Client(key)
            | Self::ApiKey(key)
            | Self::Kid(key) => key,
            Self::Tenant => "",
        }
    }

    /// From the two columns.
    pub fn from_columns(kind: &str, key: &str) -> Option<Self> {
        let key = key.to_owned();
        Some(match kind {
            "jti" => Self::Jti(key),
            "head" => Self::Head(key),
            "grant" => Self::Grant(key),
            "session" => Self::Session(key),
            "subject" => Self::Subject(key),
            "client" => Self::Client(key),
            "tenant" => Self::Tenant,
            "api_key" => Self::ApiKey(key),
            "kid" => Self::Kid(key),
            _ => return None,
        })
    }

    /// The key of the access tokens that came with refresh generation `generation` of `grant`.
    pub fn head(grant: super::GrantId, generation: u32) -> Self {
        Self::Head(format!("{grant}.{generation}"))
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What is revoked.
    pub key: RevocationKey,
    /// The audiences whose tokens it can match; none for all.
    pub audience: Option<Vec<String>>,
    /// For subject, client and tenant: tokens with `iat` up to and including this are dead.
    pub not_before: Option<Timestamp>,
    /// Last `exp` of any token that it can match, plus 60 s: then the entry may go.
    pub expires_at: Timestamp,
    /// When it was revoked.
    pub at: Timestamp,
}
