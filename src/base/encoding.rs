//! How bytes are spelt. Decoders accept one spelling only, so that a token cannot be written in
//! two ways.

use thiserror::Error;

/// The text is not what the encoder would have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not in canonical form")]
pub struct MalformedText;

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// base64url without padding (RFC 4648 §5), as JOSE and PKCE write it.
pub mod base64url {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::MalformedText;

    /// Spells `bytes`.
    pub fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads `text`; padding, other alphabets and stray trailing bits are errors.
    pub fn decode(text: &str) -> Result<Vec<u8>, MalformedText> {
        URL_SAFE_NO_PAD.decode(text).map_err(|_| MalformedText)
    }
}

/// Base 64 with the plain alphabet (RFC 4648 §4), as HTTP Basic writes it.
pub mod base64 {
    use base64::Engine as _;
    use base64::alphabet::STANDARD as PLAIN;
    use base64::engine::general_purpose::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

    use super::MalformedText;

    // Some clients leave the padding out; HTTP Basic is the one place where that is forgiven.
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &PLAIN,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );

    /// Spells `bytes`.
    pub fn encode(bytes: impl AsRef<[u8]>) -> String {
        STANDARD.encode(bytes)
    }

    /// Reads `text`, padded or not.
    pub fn decode(text: &str) -> Result<Vec<u8>, MalformedText> {
        LENIENT.decode(text).map_err(|_| MalformedText)
    }
}

/// Base 62 (digits, upper case, lower case) of fixed width: a number of `n` bytes always takes the
/// same count of letters, so the spelling is unique and a double click selects all of it.
pub mod base62 {
    use super::MalformedText;

    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    /// How many letters `bytes` bytes take.
    pub const fn width(bytes: usize) -> usize {
        // 1 / log2(62) = 0.167948…, rounded up; exact for every length below 10,000 bytes.
        (bytes * 8 * 167_949).div_ceil(1_000_000)
    }

    /// Spells `bytes`, the most significant first.
    pub fn encode(bytes: &[u8]) -> String {
        let mut number = bytes.to_vec();
        let mut letters = vec![b'0'; width(bytes.len())];
        let mut from = 0;
        for letter in letters.iter_mut().rev() {
            let mut rest = 0_u32;
            for byte in &mut number[from..] {
                let value = (rest << 8) | u32::from(*byte);
                *byte = u8::try_from(value / 62).unwrap_or(u8::MAX); // value < 62 × 256
                rest = value % 62;
            }
            *letter = ALPHABET[rest as usize];
            while from < number.len() && number[from] == 0 {
                from += 1;
            }
        }
        letters.into_iter().map(char::from).collect()
    }

    /// Reads what [`encode`] wrote for `bytes` bytes.
    pub fn decode(text: &str, bytes: usize) -> Result<Vec<u8>, MalformedText> {
        if text.len() != width(bytes) {
            return Err(MalformedText);
        }
        let mut number = vec![0_u8; bytes];
        for letter in text.bytes() {
            let digit = match letter {
                b'0'..=b'9' => letter - b'0',
                b'A'..=b'Z' => letter - b'A' + 10,
                b'a'..=b'z' => letter - b'a' + 36,
                _ => return Err(MalformedText),
            };
            let mut carry = u32::from(digit);
            for byte in number.iter_mut().rev() {
                let value = u32::from(*byte) * 62 + carry;
                *byte = (value & 0xff) as u8;
                carry = value >> 8;
            }
            if carry != 0 {
                return Err(MalformedText);
            }
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64url_has_one_spelling() {
        assert_eq!(base64url::encode([0xff, 0xfe]), "__4");
        assert!(base64url::decode("__4=").is_err());
        assert!(base64url::decode("//4").is_err());
        assert!(base64url::decode("__5").is_err(), "stray bits in the last letter");
    }

    #[test]
    fn base62_refuses_what_does_not_fit() {
        assert_eq!(base62::encode(&[0xff]), "47");
        assert!(base62::decode("48", 1).is_err());
        assert!(base62::decode("4", 1).is_err());
        assert!(base62::decode("4-", 1).is_err());
    }

    proptest! {
        #[test]
        fn base62_reads_what_it_wrote(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = base62::encode(&bytes);
            prop_assert_eq!(text.len(), base62::width(bytes.len()));
            prop_assert_eq!(base62::decode(&text, bytes.len()).unwrap(), bytes);
        }
    }
}
