//! The spelling of every credential that we hand out: a prefix that says what it is, the payload in
//! base 62, and a CRC-32 checksum in six letters. Secret scanners can know it, a typo is told from a
//! guess before any look-up, and there is one canonical spelling.

use thiserror::Error;

use super::{Entropy, Secret, base62};

const CHECKSUM_LETTERS: usize = 6;

/// What a credential is; its prefix says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// An opaque access token, `pmp_at_`.
    AccessToken,
    /// A refresh token, `pmp_rt_`.
    RefreshToken,
    /// A generated client secret, `pmp_cs_`.
    ClientSecret,
    /// An authorization code, `pmp_ac_`.
    AuthorizationCode,
    /// A device code, `pmp_dc_`.
    DeviceCode,
    /// An API key, `pak_`.
    ApiKey,
}

/// The text is no credential of this kind: wrong prefix, length, alphabet or checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed credential")]
pub struct MalformedCredential;

impl CredentialKind {
    /// The prefix, with its underscore.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::AccessToken => "pmp_at_",
            Self::RefreshToken => "pmp_rt_",
            Self::ClientSecret => "pmp_cs_",
            Self::AuthorizationCode => "pmp_ac_",
            Self::DeviceCode => "pmp_dc_",
            Self::ApiKey => "pak_",
        }
    }

    /// Spells `payload` as a credential of this kind.
    pub fn spell(self, payload: &[u8]) -> Secret<String> {
        let mut text = String::with_capacity(7 + base62::width(payload.len()) + CHECKSUM_LETTERS);
        text.push_str(self.prefix());
        text.push_str(&base62::encode(payload));
        text.push_str(&checksum(&text));
        Secret::new(text)
    }

    /// Draws a new credential of 256 random bits.
    pub fn generate(self, entropy: &dyn Entropy) -> Secret<String> {
        self.spell(&entropy.bytes::<32>())
    }

    /// The payload of `text`, which must be `bytes` long.
    pub fn parse(self, text: &str, bytes: usize) -> Result<Vec<u8>, MalformedCredential> {
        let letters = base62::width(bytes);
        let body = text.strip_prefix(self.prefix()).ok_or(MalformedCredential)?;
        if !body.is_ascii() || body.len() != letters + CHECKSUM_LETTERS {
            return Err(MalformedCredential);
        }
        let (signed, sum) = text.split_at(text.len() - CHECKSUM_LETTERS);
        if checksum(signed) != sum {
            return Err(MalformedCredential);
        }
        base62::decode(&body[..letters], bytes).map_err(|_| MalformedCredential)
    }
}

fn checksum(text: &str) -> String {
    base62::encode(&crc32fast::hash(text.as_bytes()).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemEntropy;

    #[test]
    fn a_credential_reads_back_and_any_change_is_malformed() {
        let kind = CredentialKind::AccessToken;
        let text = kind.generate(&SystemEntropy);
        let text = text.reveal();
        assert_eq!(text.len(), 7 + 43 + 6);
        assert_eq!(kind.spell(&kind.parse(text, 32).unwrap()).reveal(), text);
        for i in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[i] = if other[i] == b'x' { b'y' } else { b'x' };
            assert!(kind.parse(std::str::from_utf8(&other).unwrap(), 32).is_err(), "letter {i}");
        }
        assert!(kind.parse(&format!("{text} "), 32).is_err());
        assert!(kind.parse(&text[..text.len() - 1], 32).is_err());
        assert!(CredentialKind::RefreshToken.parse(text, 32).is_err());
    }
}
