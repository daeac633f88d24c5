//! A user: a human who signs in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use crate::base::{Secret, Timestamp};

/// The identity of a user within a tenant; `sub` in tokens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub Uuid);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl FromStr for UserId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// What a user types to say who they are (user name or e-mail), in the one spelling by which it is
/// looked up and counted: NFKC, lower case, without spaces around it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginName(String);

impl LoginName {
    /// The canonical spelling of `typed`. At most 254 characters matter (RFC 5321 §4.5.3.1.3).
    pub fn canonical(typed: &str) -> Self {
        let text: String =
            typed.trim().chars().take(254).nfkc().flat_map(char::to_lowercase).collect();
        Self(text)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for LoginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[login name]")
    }
}

/// A PHC string (`$argon2id$…`), as storage keeps it.
pub type PasswordHash = Secret<String>;

/// A user as storage keeps it.
#[derive(Debug, Clone)]
pub struct User {
    /// Their identity.
    pub id: UserId,
    /// Unique within the tenant, compared in canonical form.
    pub username: Option<String>,
    /// Unique within the tenant, compared in canonical form.
    pub email: String,
    /// Whether the e-mail is known to be theirs.
    pub email_verified: bool,
    /// Full name, for the `name` claim and greetings.
    pub name: Option<String>,
    /// The `given_name` claim.
    pub given_name: Option<String>,
    /// The `family_name` claim.
    pub family_name: Option<String>,
    /// Without one, they cannot sign in by password.
    pub password_hash: Option<PasswordHash>,
    /// When the password was last set.
    pub password_changed_at: Timestamp,
    /// A disabled user can do nothing.
    pub disabled: bool,
    /// When they were created.
    pub created_at: Timestamp,
    /// When they or their data last changed.
    pub updated_at: Timestamp,
    /// When they last signed in.
    pub last_login_at: Option<Timestamp>,
}

impl User {
    /// What to call them: name, else user name, else e-mail.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().or(self.username.as_deref()).unwrap_or(&self.email)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_login_are_one() {
        assert_eq!(
            LoginName::canonical(" Ada@Example.COM "),
            LoginName::canonical("ada@example.com")
        );
        assert_eq!(LoginName::canonical("ｄave"), LoginName::canonical("dave"));
    }
}
