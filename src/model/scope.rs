//! `scope` (RFC 6749 §3.3).

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A list of scope tokens, in the order they were asked for, each once. May be empty.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(Vec<Box<str>>);

/// The text is no scope: a character outside `%x21 / %x23-5B / %x5D-7E`, or two spaces together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("scope tokens are printable ASCII without `\"` and `\\`, separated by single spaces")]
pub struct InvalidScope;

impl Scope {
    /// Asks for an ID token (OpenID Connect Core §3.1.2.1).
    pub const OPENID: &'static str = "openid";
    /// Asks for access while the user is away (OpenID Connect Core §11).
    pub const OFFLINE_ACCESS: &'static str = "offline_access";
    /// Lets a client read the revocation feed. Every tenant has it; a client only if it names it.
    pub const REVOCATIONS_READ: &'static str = "revocations:read";
    /// Lets an application make, list, rotate and revoke its owner's API keys.
    pub const API_KEYS: &'static str = "api_keys:manage";

    /// Reads a space-separated list; the empty text is the empty scope.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let mut scope = Self::default();
        if text.is_empty() {
            return Ok(scope);
        }
        for token in text.split(' ') {
            let fits = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            if token.is_empty() || !token.bytes().all(fits) {
                return Err(InvalidScope);
            }
            scope.insert(token);
        }
        Ok(scope)
    }

    fn insert(&mut self, token: &str) {
        if !self.contains(token) {
            self.0.push(token.into());
        }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `token` is in the list.
    pub fn contains(&self, token: &str) -> bool {
        self.0.iter().any(|t| **t == *token)
    }

    /// Whether every token of this scope is in `other`.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.iter().all(|token| other.contains(token))
    }

    /// The tokens that are also in `other`, in this scope's order.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.filter(|token| other.contains(token))
    }

    /// The tokens for which `keep` says yes.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|t| keep(t)).cloned().collect())
    }

    /// This scope and what `other` adds to it.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        other.iter().for_each(|token| all.insert(token));
        all
    }

    /// The tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|t| &**t)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, token) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(token)?;
        }
        Ok(())
    }
}
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}
impl TryFrom<String> for Scope {
    type Error = InvalidScope;
    fn try_from(text: String) -> Result<Self, InvalidScope> {
        Self::parse(&text)
    }
}
impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}
impl<'a> FromIterator<&'a str> for Scope {
    fn from_iter<I: IntoIterator<Item = &'a str>>(tokens: I) -> Self {
        let mut scope = Self::default();
        tokens.into_iter().for_each(|token| scope.insert(token));
        scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_doubles_are_dropped() {
        let scope = Scope::parse("openid email openid").unwrap();
        assert_eq!(scope.to_string(), "openid email");
        assert!(Scope::parse("email").unwrap().is_subset_of(&scope));
        assert_eq!(scope.intersection(&Scope::parse("email x").unwrap()).to_string(), "email");
    }

    #[test]
    fn what_the_rfc_excludes_is_refused() {
        for bad in ["a  b", " a", "a ", "a\"", "a\\b", "ä", "a\tb"] {
            assert!(Scope::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Scope::parse("").unwrap().is_empty());
    }
}
