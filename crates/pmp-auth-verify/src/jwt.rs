//! JWT access tokens (RFC 9068 §4, RFC 8725): signature and claims, nothing about revocation.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::VerifyError;
use crate::issuer::Issuer;
use crate::keys::Key;
use crate::token::{Times, audiences};

/// The protected header, as far as it has a say.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    alg: Option<String>,
    pub(crate) kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
    b64: Option<Value>,
}

/// A JWS in compact form; nothing of it is believed yet.
pub(crate) struct Parsed<'a> {
    message: &'a str,
    signature: &'a str,
    pub(crate) header: Header,
    pub(crate) claims: Map<String, Value>,
}

pub(crate) fn parse(text: &str) -> Result<Parsed<'_>, VerifyError> {
    let malformed = || VerifyError::invalid("malformed");
    let (message, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = message.split_once('.').ok_or_else(malformed)?;
    let header = part(header).ok_or_else(malformed)?;
    let claims = part(claims).ok_or_else(malformed)?;
    Ok(Parsed { message, signature, header, claims })
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// RFC 7515 §4.1.9: `application/` may be left out, letters may be large.
fn is_type(typ: Option<&str>, wanted: &str) -> bool {
    let typ = typ.unwrap_or_default().to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ) == wanted
}

/// Checks that one of the issuer's keys signed it as a `typ`; gives that key.
pub(crate) async fn signed_by(
    issuer: &Arc<Issuer>,
    parsed: &Parsed<'_>,
    typ: &str,
) -> Result<Arc<Key>, VerifyError> {
    let header = &parsed.header;
    if !is_type(header.typ.as_deref(), typ) {
        return Err(VerifyError::invalid("typ"));
    }
    if header.crit.is_some() || header.b64.is_some() {
        return Err(VerifyError::invalid("crit"));
    }
    let (Some(alg), Some(kid)) = (&header.alg, &header.kid) else {
        return Err(VerifyError::invalid("header"));
    };
    let key = issuer.key(kid).await?.ok_or_else(|| VerifyError::invalid("unknown key"))?;
    // RFC 8725 §3.1: the key says which algorithm it is for, the token has no say.
    let algorithm = key.algorithm(alg).ok_or_else(|| VerifyError::invalid("algorithm"))?;
    let good = jsonwebtoken::crypto::verify(
        parsed.signature,
        parsed.message.as_bytes(),
        key.decoding(),
        algorithm,
    );
    match good {
        Ok(true) => Ok(key),
        Ok(false) | Err(_) => Err(VerifyError::invalid("signature")),
    }
}

fn is_text(value: Option<&Value>) -> bool {
    value.and_then(Value::as_str).is_some_and(|text| !text.is_empty())
}

/// Whether one of `wanted` is among `audience`.
pub(crate) fn meets(wanted: &[String], audience: &[String]) -> bool {
    audience.iter().any(|one| wanted.contains(one))
}

/// Checks the claims that RFC 9068 §2.2 demands, and what they say of this API.
pub(crate) fn check_claims(
    claims: &Map<String, Value>,
    issuer: &Issuer,
) -> Result<(), VerifyError> {
    let refuse = |what| Err(VerifyError::invalid(what));
    if claims.get("iss").and_then(Value::as_str) != Some(issuer.url()) {
        return refuse("issuer");
    }
    if !["sub", "client_id", "jti"].iter().all(|name| is_text(claims.get(*name))) {
        return refuse("no sub, client_id or jti");
    }
    if !["exp", "iat"].iter().all(|name| claims.get(*name).is_some_and(Value::is_number)) {
        return refuse("no exp or iat");
    }
    check_form(claims)?;
    if !meets(issuer.audience(), &audiences(claims.get("aud"))) {
        return refuse("audience");
    }
    Ok(())
}

/// Checks what may be absent, but must be right where it is.
pub(crate) fn check_form(claims: &Map<String, Value>) -> Result<(), VerifyError> {
    for name in ["exp", "nbf", "iat"] {
        if claims.get(name).is_some_and(|value| !value.is_number()) {
            return Err(VerifyError::invalid("a time is no number"));
        }
    }
    if claims.get("scope").is_some_and(|value| !value.is_string()) {
        return Err(VerifyError::invalid("scope"));
    }
    // A key-bound token (RFC 7800) is no bearer token, and nothing here proves possession.
    if claims.contains_key("cnf") {
        return Err(VerifyError::invalid("bound to a key"));
    }
    Ok(())
}

/// Checks `exp`, `nbf` and `iat` (RFC 7519 §4.1) at `now`, all in seconds.
pub(crate) fn check_time(times: Times, now: f64, leeway: f64) -> Result<(), VerifyError> {
    if times.exp.is_some_and(|exp| now >= exp + leeway) {
        return Err(VerifyError::invalid("expired"));
    }
    if times.nbf.is_some_and(|nbf| nbf > now + leeway) {
        return Err(VerifyError::invalid("not yet valid"));
    }
    if times.iat.is_some_and(|iat| iat > now + leeway) {
        return Err(VerifyError::invalid("issued in the future"));
    }
    Ok(())
}
