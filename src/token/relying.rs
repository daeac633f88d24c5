//! What any relying party or API does with our tokens: check them with the published keys alone.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use thiserror::Error;

use crate::base::Timestamp;

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Disbelief {
    /// It is no JWT of an algorithm that we use.
    #[error("not a signed JWT")]
    NotSigned,
    /// No published key has its `kid`.
    #[error("signed with a key that is not published")]
    UnknownKey,
    /// Signature, issuer or audience is wrong.
    #[error("signature, issuer or audience does not fit")]
    Wrong,
    /// Its time is over.
    #[error("expired")]
    Expired,
}

/// The claims of `token`, if one of `keys` (a JWK set) signed it for `audience` (any when none) in
/// the name of `issuer`, and it has not ended at `now`.
pub fn check(
    token: &str,
    keys: &Value,
    issuer: &str,
    audience: Option<&str>,
    now: Timestamp,
) -> Result<Value, Disbelief> {
    let header = decode_header(token).map_err(|_| Disbelief::NotSigned)?;
    let kid = header.kid.as_deref().ok_or(Disbelief::UnknownKey)?;
    let keys: JwkSet = serde_json::from_value(keys.clone()).map_err(|_| Disbelief::UnknownKey)?;
    let jwk = keys.find(kid).ok_or(Disbelief::UnknownKey)?;
    let asymmetric = [Algorithm::ES256, Algorithm::RS256, Algorithm::PS256, Algorithm::EdDSA];
    let alg = asymmetric.into_iter().find(|alg| {
        *alg == header.alg
            && jwk.common.key_algorithm.is_some_and(|k| k.to_string() == format!("{alg:?}"))
    });
    let mut validation = Validation::new(alg.ok_or(Disbelief::NotSigned)?);
    validation.set_issuer(&[issuer]);
    match audience {
        Some(audience) => validation.set_audience(&[audience]),
        None => validation.validate_aud = false,
    }
    validation.set_required_spec_claims(&["exp", "iss"]);
    validation.validate_exp = false; // by the clock that we were given
    let key = DecodingKey::from_jwk(jwk).map_err(|_| Disbelief::UnknownKey)?;
    let claims: Value = decode(token, &key, &validation).map_err(|_| Disbelief::Wrong)?.claims;
    match claims["exp"].as_i64() {
        Some(exp) if now.seconds() < exp => Ok(claims),
        _ => Err(Disbelief::Expired),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::base64url;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    fn signed(header: &Value, claims: &Value) -> (String, Value) {
        let random = SystemRandom::new();
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let keys = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k",
            "x": base64url::encode(&point[1..33]), "y": base64url::encode(&point[33..]),
        }]});
        let body = format!(
            "{}.{}",
            base64url::encode(header.to_string()),
            base64url::encode(claims.to_string())
        );
        let signature = pair.sign(&random, body.as_bytes()).unwrap();
        (format!("{body}.{}", base64url::encode(signature)), keys)
    }

    #[test]
    fn only_a_live_token_of_the_issuer_for_the_audience_is_believed() {
        let header = json!({"alg": "ES256", "kid": "k"});
        let (token, keys) = signed(&header, &json!({"iss": "i", "aud": "a", "exp": 100}));
        let at = Timestamp::from_seconds;
        assert_eq!(check(&token, &keys, "i", Some("a"), at(99)).unwrap()["aud"], "a");
        assert_eq!(check(&token, &keys, "i", Some("a"), at(100)), Err(Disbelief::Expired));
        assert_eq!(check(&token, &keys, "i/", Some("a"), at(99)), Err(Disbelief::Wrong));
        assert_eq!(check(&token, &keys, "i", Some("b"), at(99)), Err(Disbelief::Wrong));
        let other = signed(&header, &json!({"iss": "i", "aud": "a", "exp": 100})).1;
        assert_eq!(check(&token, &other, "i", None, at(99)), Err(Disbelief::Wrong));
        assert_eq!(
            check(&token, &json!({"keys": []}), "i", None, at(99)),
            Err(Disbelief::UnknownKey)
        );
        let (none, keys) =
            signed(&json!({"alg": "HS256", "kid": "k"}), &json!({"iss": "i", "exp": 100}));
        assert_eq!(check(&none, &keys, "i", None, at(99)), Err(Disbelief::NotSigned));
    }
}
