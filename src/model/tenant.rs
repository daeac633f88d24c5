//! A tenant: a realm of users, clients and keys that no other tenant can reach.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::{Entropy, Timestamp};

/// The immutable identity of a tenant. Every row, cache key, MAC and key-derivation input uses it;
/// the slug is only a label, and a slug that is used again gets another uid.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantUid(Arc<str>);

impl TenantUid {
    /// The uid of the tenant that a fresh database brings along, for the slug of the same name.
    pub const DEFAULT: &'static str = "default";

    /// A uid that was stored.
    pub fn stored(uid: &str) -> Self {
        Self(uid.into())
    }

    /// Draws a new uid: `t` and 25 letters of lower-case base 36 (more than 128 bits).
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut number = u128::from_be_bytes(entropy.bytes());
        let mut text = String::from("t");
        for _ in 0..25 {
            text.push(char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize]));
            number /= 36;
        }
        Self(text.into())
    }

    /// The uid as text: lower-case letters, digits, `-` and `_`, at most 63.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for TenantUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a tenant in `config.yaml` and in paths: `[a-z0-9]`, then up to 62 of `[a-z0-9_-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantSlug(Arc<str>);

/// The text is no tenant name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a tenant name is 1 to 63 of a-z, 0-9, `-` and `_`, and begins with a letter or digit")]
pub struct InvalidSlug;

impl TenantSlug {
    /// Reads a slug.
    pub fn parse(text: &str) -> Result<Self, InvalidSlug> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let fits = text.len() <= 63
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if starts_well && fits { Ok(Self(text.into())) } else { Err(InvalidSlug) }
    }

    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TenantSlug {
    type Error = InvalidSlug;
    fn try_from(text: String) -> Result<Self, InvalidSlug> {
        Self::parse(&text)
    }
}
impl From<TenantSlug> for String {
    fn from(slug: TenantSlug) -> Self {
        slug.0.as_ref().to_owned()
    }
}
impl fmt::Display for TenantSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for TenantSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a tenant serves. Only `tenants suspend` suspends and only `tenants delete` deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantStatus {
    /// It serves.
    Active,
    /// Every endpoint answers 404; its data stays.
    Suspended,
    /// Gone; its slug may be used again, by a tenant with another uid.
    Deleted,
}

impl TenantStatus {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }

    /// From storage.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Suspended, Self::Deleted].into_iter().find(|s| s.as_str() == text)
    }
}

/// A tenant as storage knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its identity.
    pub uid: TenantUid,
    /// Its label.
    pub slug: TenantSlug,
    /// Whether it serves.
    pub status: TenantStatus,
    /// When it was first seen.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemEntropy;

    #[test]
    fn a_slug_is_lower_case_and_short() {
        assert!(TenantSlug::parse("acme-2_x").is_ok());
        for bad in ["", "Acme", "-a", "a/b", "a.b", "ä", &"a".repeat(64)] {
            assert!(TenantSlug::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_uid_fits_where_a_slug_fits() {
        assert!(TenantSlug::parse(TenantUid::generate(&SystemEntropy).as_str()).is_ok());
    }
}
