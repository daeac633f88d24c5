//! Request parameters, from a query or a form (RFC 6749 §3.1, §3.2, appendix B).

use std::fmt;

use thiserror::Error;

/// More parameters than any request of ours has are not read.
const MOST: usize = 64;

/// The one parameter that may come more than once (RFC 8707 §2).
const RESOURCE: &str = "resource";

/// The parameters of one request. An empty value counts as absent, and none comes twice
/// (RFC 6749 §3.1), but `resource`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

/// The text is no set of parameters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidParams {
    /// A parameter came twice.
    #[error("the parameter `{0}` is repeated; send it once")]
    Repeated(String),
    /// A percent sign without two hexadecimal digits, or not UTF-8.
    #[error("the parameters are not application/x-www-form-urlencoded in UTF-8")]
    Malformed,
    /// More than 64.
    #[error("more than 64 parameters")]
    TooMany,
}

impl Params {
    /// Reads `application/x-www-form-urlencoded` text.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidParams> {
        Self::of(Self::pairs(text)?)
    }

    /// Reads the same, but leaves out every parameter that comes twice and names it instead: an
    /// authorization request with one is still answered at its redirect URI (RFC 6749 §4.1.2.1).
    pub fn parse_unrepeated(text: &[u8]) -> Result<(Self, Vec<String>), InvalidParams> {
        let pairs = Self::pairs(text)?;
        let times = |name: &str| pairs.iter().filter(|(other, _)| other == name).count();
        let (once, repeated): (Vec<_>, Vec<_>) =
            pairs.iter().cloned().partition(|(name, _)| name == RESOURCE || times(name) == 1);
        Ok((Self(once), repeated.into_iter().map(|(name, _)| name).collect()))
    }

    fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, InvalidParams> {
        let mut params = Vec::new();
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let cut = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let value = pair.get(cut + 1..).unwrap_or_default();
            let name = form_decode(&pair[..cut]).ok_or(InvalidParams::Malformed)?;
            params.push((name, form_decode(value).ok_or(InvalidParams::Malformed)?));
            if params.len() > MOST {
                return Err(InvalidParams::TooMany);
            }
        }
        Ok(params)
    }

    /// From pairs that were decoded before.
    pub fn of(pairs: Vec<(String, String)>) -> Result<Self, InvalidParams> {
        for (at, (name, _)) in pairs.iter().enumerate() {
            if name != RESOURCE && pairs[..at].iter().any(|(other, _)| other == name) {
                return Err(InvalidParams::Repeated(shown(name)));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of `name`; none when it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of `name` that is not empty, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// Every name with its value, empty ones too, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Values may be secrets: only names are shown.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A name as it may stand in a message: what a stranger sent is not echoed at length.
fn shown(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect()
}

/// Decodes one name or value of a form; none unless it is well-formed UTF-8 (RFC 6749 appendix B).
pub(in crate::oauth) fn form_decode(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(*rest.next()?)? << 4 | hex_digit(*rest.next()?)?,
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_is_absent_and_a_missing_sign_is_an_empty_value() {
        let params = Params::parse(b"a=1&b=&c&d=x%20y+z%26&&=n").unwrap();
        assert_eq!(params.get("a"), Some("1"));
        assert_eq!(params.get("b"), None);
        assert_eq!(params.get("c"), None);
        assert_eq!(params.get("d"), Some("x y z&"));
        assert_eq!(params.iter().count(), 5);
    }

    #[test]
    fn a_parameter_that_comes_twice_is_refused_even_if_empty_or_spelt_otherwise() {
        for text in ["a=1&a=1", "a=&a=1", "a=1&%61=2"] {
            assert_eq!(Params::parse(text.as_bytes()), Err(InvalidParams::Repeated("a".into())));
        }
    }

    #[test]
    fn what_comes_twice_can_be_left_out_and_named() {
        let (params, repeated) =
            Params::parse_unrepeated(b"state=1&a=2&state=3&resource=x&resource=y").unwrap();
        assert_eq!(params.get("state"), None);
        assert_eq!(params.get("a"), Some("2"));
        assert_eq!(params.all("resource").count(), 2);
        assert_eq!(repeated, ["state", "state"]);
    }

    #[test]
    fn resource_may_come_more_than_once() {
        let params = Params::parse(b"resource=urn:a&resource=urn:b&resource=").unwrap();
        assert_eq!(params.all("resource").collect::<Vec<_>>(), ["urn:a", "urn:b"]);
    }

    #[test]
    fn what_does_not_decode_is_malformed() {
        for text in ["a=%", "a=%4", "a=%zz", "a=%ff", "%80=1", "a=%+1"] {
            assert_eq!(Params::parse(text.as_bytes()), Err(InvalidParams::Malformed), "{text}");
        }
        let many = "a&".repeat(65).replace('a', "b=1");
        assert_eq!(Params::parse(many.as_bytes()), Err(InvalidParams::TooMany));
    }

    #[test]
    fn debug_shows_names_alone() {
        let params = Params::parse(b"client_secret=hunter2").unwrap();
        assert_eq!(format!("{params:?}"), r#"["client_secret"]"#);
    }
}
