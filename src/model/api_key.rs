//! API keys: long-lived credentials of a user or a client, checked like tokens.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ClientId, GrantId, Scope, UserId};
use crate::base::Timestamp;

/// Names a key in lists, in the revocation log (`api_key`), and as the `gid` of what was exchanged
/// for it; it opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApiKeyId(pub Uuid);

impl ApiKeyId {
    /// As tokens that were exchanged for the key name it.
    pub fn as_grant(self) -> GrantId {
        GrantId(self.0)
    }
}
impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Debug for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl FromStr for ApiKeyId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// How storage knows the secret of a key: HMAC-SHA-256 under a pepper that is not in storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PepperedDigest {
    /// The id of the pepper (`server.api_key_peppers`), 1 to 255.
    pub pepper: u8,
    /// The HMAC.
    pub mac: [u8; 32],
}

/// Whose key it is: it can never do more than its owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A user's; the client is the one through which it was made, where there was one.
    User {
        /// Who.
        user: UserId,
        /// Through which client; names `client_id` where the key is used.
        client: Option<ClientId>,
    },
    /// A client's own.
    Client(ClientId),
}

impl Owner {
    /// The user, if it is one's.
    pub fn user(&self) -> Option<UserId> {
        match self {
            Self::User { user, .. } => Some(*user),
            Self::Client(_) => None,
        }
    }

    /// The client that is named with it.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::User { client, .. } => client.as_ref(),
            Self::Client(client) => Some(client),
        }
    }
}

/// How often a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRate {
    /// So many times …
    pub limit: u32,
    /// … in so long, whole seconds.
    pub window: Duration,
}

/// A key as storage keeps it, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name.
    pub id: ApiKeyId,
    /// Whose.
    pub owner: Owner,
    /// What its owner calls it, 1 to 100 characters.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The first letters of the key, as its owner recognises it.
    pub prefix: String,
    /// What it allows: a subset of its creator's.
    pub scope: Scope,
    /// The audiences at which it is good; never empty.
    pub audiences: Vec<String>,
    /// Whether it may be exchanged for a short-lived JWT even though it has `allowed_ips`.
    pub exchange: bool,
    /// Where it may be used from; anywhere when empty.
    pub allowed_ips: Vec<IpNet>,
    /// How often.
    pub rate: KeyRate,
    /// When it was made.
    pub created_at: Timestamp,
    /// It is dead from then on; at most a year after it was made.
    pub expires_at: Timestamp,
    /// When it was used last, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// From where.
    pub last_used_ip: Option<IpAddr>,
    /// How often it was used, flushed in batches.
    pub usage_count: u64,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The key that took its place in a rotation; this one is dead from `grace_until` on.
    pub replaced_by: Option<ApiKeyId>,
    /// The end of its grace after a rotation.
    pub grace_until: Option<Timestamp>,
}

impl ApiKey {
    /// When it ends by itself: at the end of its grace after a rotation, else when it expires.
    pub fn ends_at(&self) -> Timestamp {
        self.grace_until.map_or(self.expires_at, |until| until.min(self.expires_at))
    }

    /// Whether its times and state allow it at `now`. Its owner's state is another question.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none()
            && now < self.expires_at
            && self.grace_until.is_none_or(|until| now < until)
    }
}
