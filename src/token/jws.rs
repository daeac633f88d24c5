//! Reading compact JWS (RFC 7515 §7.1) that we made ourselves, as strictly as that allows.

use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

use crate::base::{Timestamp, base64url};
use crate::model::client::SigningAlg;
use crate::storage::Result;
use crate::tenant::Tenant;

/// No token of ours is longer; nothing longer is looked at.
const MAX_LENGTH: usize = 16 * 1024;

/// Why a token is not accepted; for logs, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Why {
    /// Neither a credential nor a JWS in compact form.
    #[error("malformed")]
    Malformed,
    /// Longer than any of ours.
    #[error("too long")]
    TooLong,
    /// A JWE: never decrypted, never inflated.
    #[error("encrypted")]
    Encrypted,
    /// A header member that we never write: `crit`, `jku`, `jwk`, `x5u`, `b64`, or one twice.
    #[error("unexpected header")]
    Header,
    /// The header's `alg` is not that of the key.
    #[error("wrong algorithm")]
    Algorithm,
    /// Not signed by a key of this tenant that is believed now.
    #[error("unknown key")]
    UnknownKey,
    /// The signature does not verify.
    #[error("bad signature")]
    Signature,
    /// `typ` is of another kind of token.
    #[error("wrong type")]
    Type,
    /// The claims are not of the shape that we write.
    #[error("unexpected claims")]
    Claims,
    /// Another issuer.
    #[error("wrong issuer")]
    Issuer,
    /// Over.
    #[error("expired")]
    Expired,
    /// From the future.
    #[error("not yet valid")]
    NotYet,
    /// An opaque token that storage does not know.
    #[error("unknown token")]
    UnknownToken,
    /// The grant that it came out of is revoked.
    #[error("grant revoked")]
    GrantRevoked,
}

/// Our own header: `alg`, `typ`, `kid`, and nothing else. So `jwk`, `jku` and `x5u` never lead
/// anywhere, `crit` and `b64` are refused (RFC 7515 §4.1.11, RFC 7797 §6), and no member may be
/// there twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// A JWS whose signature is good.
pub(super) struct Verified {
    pub(super) payload: Vec<u8>,
    pub(super) kid: Arc<str>,
}

/// Checks a compact JWS of `typ` against the tenant's keys.
pub(super) async fn verify(
    tenant: &Tenant,
    token: &str,
    typ: &str,
    now: Timestamp,
) -> Result<std::result::Result<Verified, Why>> {
    let (header, message, payload, signature) = match split(token) {
        Ok(parts) => parts,
        Err(why) => return Ok(Err(why)),
    };
    if !is_type(&header.typ, typ) {
        return Ok(Err(Why::Type));
    }
    let Some(verifier) = tenant.keys.verifier(&header.kid, now).await? else {
        return Ok(Err(Why::UnknownKey));
    };
    // RFC 8725 §3.1: the key says which algorithm it is for; the token only agrees.
    if SigningAlg::parse(&header.alg) != Some(verifier.alg()) {
        return Ok(Err(Why::Algorithm));
    }
    if !verifier.verify(message, signature) {
        return Ok(Err(Why::Signature));
    }
    let payload = base64url::decode(payload).map_err(|_| Why::Malformed);
    Ok(payload.map(|payload| Verified { payload, kid: header.kid.into() }))
}

/// Header, signing input, payload and signature of a compact JWS.
fn split(token: &str) -> std::result::Result<(Header, &str, &str, &str), Why> {
    if token.len() > MAX_LENGTH {
        return Err(Why::TooLong);
    }
    match token.bytes().filter(|byte| *byte == b'.').count() {
        2 => {}
        4 => return Err(Why::Encrypted),
        _ => return Err(Why::Malformed),
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Why::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(Why::Malformed)?;
    let header = base64url::decode(header).map_err(|_| Why::Malformed)?;
    let header = serde_json::from_slice(&header).map_err(|_| Why::Header)?;
    Ok((header, message, payload, signature))
}

/// Whether `typ` is `wanted`: media types ignore case, and `application/` may be left out
/// (RFC 7515 §4.1.9).
fn is_type(typ: &str, wanted: &str) -> bool {
    let (prefix, rest) = typ.split_at_checked("application/".len()).unwrap_or(("", typ));
    let bare = if prefix.eq_ignore_ascii_case("application/") { rest } else { typ };
    bare.eq_ignore_ascii_case(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_may_be_spelt_in_any_case_and_in_full() {
        for good in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
            assert!(is_type(good, "at+jwt"), "{good}");
        }
        for bad in ["JWT", "", "at+jwt ", "application/", "text/at+jwt", "at+jwtx", "äapplicatio"]
        {
            assert!(!is_type(bad, "at+jwt"), "{bad}");
        }
    }

    fn why(token: &str) -> Option<Why> {
        split(token).err()
    }

    #[test]
    fn what_is_no_jws_is_refused_by_its_shape() {
        assert_eq!(why("a.b.c.d.e"), Some(Why::Encrypted));
        assert_eq!(why("a.b"), Some(Why::Malformed));
        assert_eq!(why(""), Some(Why::Malformed));
        assert_eq!(why("!.b.c"), Some(Why::Malformed));
        assert_eq!(why(&"a".repeat(MAX_LENGTH + 1)), Some(Why::TooLong));
    }

    #[test]
    fn a_header_has_our_three_members_once_and_no_others() {
        let with = |json: &str| why(&format!("{}.e30.AA", base64url::encode(json)));
        assert_eq!(with(r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#), None);
        for bad in [
            r#"{"alg":"ES256","typ":"JWT"}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"k","crit":["exp"]}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"k","crit":[]}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"k","b64":false}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"k","jku":"https://evil.example/"}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"k","x5u":"https://evil.example/"}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"k","jwk":{"kty":"oct","k":"AA"}}"#,
            r#"{"alg":"ES256","alg":"none","typ":"JWT","kid":"k"}"#,
            r#"{"alg":null,"typ":"JWT","kid":"k"}"#,
            "[]",
            "",
        ] {
            assert_eq!(with(bad), Some(Why::Header), "{bad}");
        }
    }
}
