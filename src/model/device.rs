//! Device codes (RFC 8628): what a device asked for, and the short code by which its user finds it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ClientId, GrantId, Scope, UserId};
use crate::base::{Entropy, Timestamp};

/// Marks the digest of a device code.
#[derive(Debug)]
pub enum DeviceCode {}

/// The letters of user codes (RFC 8628 §6.1): no vowels, so no words; nothing that is mistaken for
/// a digit.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// `user_code`: eight letters of twenty (34.5 bits), shown as `XXXX-XXXX`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserCode(String);

impl UserCode {
    /// How many letters it has.
    pub const LENGTH: usize = 8;

    /// Draws one; every code is as likely as any other.
    pub fn draw(entropy: &dyn Entropy) -> Self {
        // 240 = 12 × 20: bytes from there on are drawn again.
        let mut code = String::with_capacity(Self::LENGTH);
        while code.len() < Self::LENGTH {
            for byte in entropy.bytes::<16>().into_iter().filter(|byte| *byte < 240) {
                if code.len() < Self::LENGTH {
                    code.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
                }
            }
        }
        Self(code)
    }

    /// Reads what a person typed: any case, with spaces, dashes or dots anywhere. None when that
    /// cannot be a code.
    pub fn parse(typed: &str) -> Option<Self> {
        let mut code = String::with_capacity(Self::LENGTH);
        for letter in typed.chars() {
            match letter.to_ascii_uppercase() {
                '-' | '.' | '_' | '\u{2010}'..='\u{2015}' => {}
                letter if letter.is_whitespace() => {}
                letter if letter.is_ascii() && LETTERS.contains(&(letter as u8)) => {
                    if code.len() == Self::LENGTH {
                        return None;
                    }
                    code.push(letter);
                }
                _ => return None,
            }
        }
        (code.len() == Self::LENGTH).then_some(Self(code))
    }

    /// The eight letters alone; what digests are made of.
    pub fn letters(&self) -> &str {
        &self.0
    }
}

/// As people see it: `XXXX-XXXX`.
impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", &self.0[..4], &self.0[4..])
    }
}

/// Never in logs.
impl fmt::Debug for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserCode(…)")
    }
}

/// How storage knows a user code: an HMAC over tenant and code under a key of the ring, since the
/// code alone is short enough to try them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserCodeDigest {
    /// The ring key.
    pub kid: u8,
    /// HMAC-SHA-256.
    pub mac: [u8; 32],
}

/// Once decided, never undecided: `pending → approved → redeemed`, `pending → denied`. Expiry is
/// a time, not a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceStatus {
    /// Nobody decided yet.
    Pending,
    /// A user allowed it; the next poll gets tokens.
    Approved,
    /// A user said no.
    Denied,
    /// Tokens were issued.
    Redeemed,
}

impl DeviceStatus {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Redeemed => "redeemed",
        }
    }

    /// From storage.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Approved, Self::Denied, Self::Redeemed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// What a device asked for beside scope and resources. Stored as one versioned JSON column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceTerms {
    /// The version of this shape: 1.
    #[serde(rename = "v")]
    pub version: u8,
    /// The S256 challenge (RFC 7636), when the device sent one: then it is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_challenge: Option<String>,
    /// `nonce`, for the ID token, when the device sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Whether the client proved itself when it asked (a confidential client, on a server).
    #[serde(default)]
    pub confidential: bool,
}

/// A device code as storage keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Who asked.
    pub client: ClientId,
    /// For what.
    pub scope: Scope,
    /// For which resources (RFC 8707); none means the tenant's default audience.
    pub resources: Vec<String>,
    /// What else was asked.
    pub terms: DeviceTerms,
    /// Where it stands.
    pub status: DeviceStatus,
    /// Who decided.
    pub user: Option<UserId>,
    /// The grant that an approval made.
    pub grant: Option<GrantId>,
    /// Seconds between polls, as it stands (RFC 8628 §3.5), whole seconds.
    pub interval: Duration,
    /// Where it was asked from.
    pub requested_ip: Option<String>,
    /// With which user agent, cut to 512 bytes.
    pub requested_user_agent: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// It cannot be approved nor redeemed from then on.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemEntropy;

    #[test]
    fn a_code_reads_back_however_a_person_types_it() {
        let code = UserCode::draw(&SystemEntropy);
        let shown = code.to_string();
        assert_eq!(shown.len(), 9);
        for typed in [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace('-', " "),
            format!("  {} ", code.letters()),
            shown.replace('-', " \u{2013} "),
        ] {
            assert_eq!(UserCode::parse(&typed), Some(code.clone()), "{typed:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_code_is_none() {
        for typed in ["", "BCDF-GHJ", "BCDF-GHJKL", "BCDF-GHJ1", "BCDF-GHJA", "BCDFGHJÉ", "ß"] {
            assert_eq!(UserCode::parse(typed), None, "{typed:?}");
        }
    }

    #[test]
    fn every_letter_comes_up_and_no_other() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.extend(UserCode::draw(&SystemEntropy).letters().bytes());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), LETTERS);
    }
}
