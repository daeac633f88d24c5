//! Cases of JSON Web Tokens: wherever a JWT is taken, only ours is, and only for what it is.

mod rig;

use std::time::{Duration, Instant};

use aws_lc_rs::{digest, hmac};
use pmp_auth::base::base64url;
use pmp_auth::model::Audit;
use pmp_auth::model::client::SigningAlg;
use pmp_auth::storage::RotateKey;
use serde_json::{Value, json};

use rig::{API, NOW, Rig, part, payload};

/// The same header and payload under another `alg`, without a signature yet.
fn under(alg: &str, token: &str) -> String {
    let mut header = part(token, 0);
    header["alg"] = alg.into();
    format!("{}.{}", base64url::encode(header.to_string()), token.split('.').nth(1).unwrap())
}

#[tokio::test]
async fn sec_jwt_01() {
    let rig = Rig::new().await;
    for token in [rig.access("acme").await, rig.id("acme", "app").await] {
        let (_, signature) = token.rsplit_once('.').unwrap();
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            for signature in ["", "AA", signature] {
                let forged = format!("{}.{signature}", under(alg, &token));
                assert!(rig.refuses("acme", &forged).await, "{alg:?} {signature:?}");
            }
        }
    }
}

#[tokio::test]
async fn sec_jwt_02() {
    let rig = Rig::new().await;
    let token = rig.access("acme").await;
    let published = rig.tenant("acme").keys.jwks(NOW).await.unwrap();
    let published: Value = serde_json::from_str(&published).unwrap();
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    for jwk in published["keys"].as_array().unwrap() {
        let x = base64url::decode(jwk["x"].as_str().unwrap()).unwrap();
        let point = match jwk["y"].as_str() {
            Some(y) => [vec![4], x, base64url::decode(y).unwrap()].concat(),
            None => x,
        };
        let text = jwk.to_string();
        secrets.extend([point, format!("{text}\n").into_bytes(), text.into_bytes()]);
    }
    secrets.push(published.to_string().into_bytes());
    for secret in secrets {
        let message = under("HS256", &token);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let mac = hmac::sign(&key, message.as_bytes());
        let forged = format!("{message}.{}", base64url::encode(mac));
        assert!(rig.refuses("acme", &forged).await);
    }
    assert!(rig.accepts("acme", &token).await);
}

/// Signed by the tenant's own key, so that only the header can be the reason.
async fn refused_for_its_header(rig: &Rig, more: Value) {
    let claims = payload(&rig.access("acme").await).to_string();
    let header = rig.header("acme", more.clone()).await.to_string();
    let token = rig.sign("acme", &header, &claims).await;
    assert!(rig.refuses("acme", &token).await, "{more}");
}

#[tokio::test]
async fn sec_jwt_04() {
    let rig = Rig::new().await;
    let published = rig.tenant("globex").keys.jwks(NOW).await.unwrap();
    let published: Value = serde_json::from_str(&published).unwrap();
    refused_for_its_header(&rig, json!({"jwk": published["keys"][0]})).await;
    // Signed by the key that the header brings.
    let claims = payload(&rig.access("acme").await).to_string();
    let header = rig.header("acme", json!({"jwk": published["keys"][0]})).await.to_string();
    let token = rig.sign("globex", &header, &claims).await;
    assert!(rig.refuses("acme", &token).await);
}

#[tokio::test]
async fn sec_jwt_05() {
    let rig = Rig::new().await;
    for address in ["https://evil.test/jwks", "http://127.0.0.1:9/", "http://169.254.169.254/"] {
        refused_for_its_header(&rig, json!({"jku": address})).await;
        refused_for_its_header(&rig, json!({"x5u": address})).await;
    }
}

#[tokio::test]
async fn sec_jwt_07() {
    let rig = Rig::new().await;
    let theirs = rig.access("globex").await;
    assert!(rig.accepts("globex", &theirs).await);
    assert!(rig.refuses("acme", &theirs).await);
    let hint = rig.id("globex", "app").await;
    assert!(rig.hint("globex", &hint).await.is_some());
    assert!(rig.refuses("acme", &hint).await);
    // With acme's issuer in it, under either kid.
    let claims = payload(&rig.access("acme").await).to_string();
    for kid in ["acme", "globex"] {
        let header = rig.header(kid, json!({})).await.to_string();
        let token = rig.sign("globex", &header, &claims).await;
        assert!(rig.refuses("acme", &token).await, "kid of {kid}");
    }
}

#[tokio::test]
async fn sec_jwt_09() {
    let rig = Rig::new().await;
    for crit in [json!(["exp"]), json!(["unknown"]), json!([])] {
        refused_for_its_header(&rig, json!({"crit": crit})).await;
    }
    refused_for_its_header(&rig, json!({"b64": false})).await;
    refused_for_its_header(&rig, json!({"b64": false, "crit": ["b64"]})).await;
}

#[tokio::test]
async fn sec_jwt_12() {
    let rig = Rig::new().await;
    let claims = payload(&rig.access("acme").await).to_string();
    for (typ, good) in [("JWT", false), ("", false), ("AT+JWT", true), ("application/at+jwt", true)]
    {
        let header = rig.header("acme", json!({"typ": typ})).await.to_string();
        let token = rig.sign("acme", &header, &claims).await;
        assert_eq!(rig.accepts("acme", &token).await, good, "{typ:?}");
    }
    let mut untyped = rig.header("acme", json!({})).await;
    untyped.as_object_mut().unwrap().remove("typ");
    assert!(rig.refuses("acme", &rig.sign("acme", &untyped.to_string(), &claims).await).await);
    assert!(!rig.accepts("acme", &rig.id("acme", "app").await).await);
    assert!(rig.hint("acme", &rig.access("acme").await).await.is_none());
}

#[tokio::test]
async fn sec_jwt_13() {
    let rig = Rig::new().await;
    let both = rig.with_claim("aud", json!([API, "https://other.test"])).await;
    assert!(rig.accepts("acme", &both).await);
    for bad in [json!(null), json!(7), json!({"0": API}), json!([]), json!([API, 7])] {
        let token = rig.with_claim("aud", bad.clone()).await;
        assert!(rig.refuses("acme", &token).await, "{bad}");
    }
    let mut without = payload(&rig.access("acme").await);
    without.as_object_mut().unwrap().remove("aud");
    let header = rig.header("acme", json!({})).await.to_string();
    assert!(rig.refuses("acme", &rig.sign("acme", &header, &without.to_string()).await).await);
}

#[tokio::test]
async fn sec_jwt_14() {
    let rig = Rig::new().await;
    for other in [
        "http://127.0.0.1:8080/t/acme/",
        "http://127.0.0.1:8080/t/Acme",
        "HTTP://127.0.0.1:8080/t/acme",
        "https://127.0.0.1:8080/t/acme",
        "http://localhost:8080/t/acme",
        "http://127.0.0.1:8080/t/globex",
        "http://127.0.0.1:8080",
    ] {
        let token = rig.with_claim("iss", json!(other)).await;
        assert!(rig.refuses("acme", &token).await, "{other}");
        assert!(rig.refuses("globex", &token).await, "{other}");
    }
}

#[tokio::test]
async fn sec_jwt_16() {
    let rig = Rig::new().await;
    for name in ["iat", "nbf"] {
        for (ahead, good) in [(9, true), (59, true), (61, false)] {
            let token = rig.with_claim(name, json!(NOW.seconds() + ahead)).await;
            assert_eq!(rig.accepts("acme", &token).await, good, "{name} +{ahead} s");
        }
    }
}

#[tokio::test]
async fn sec_jwt_17() {
    let rig = Rig::new().await;
    let header = rig.header("acme", json!({})).await.to_string();
    let claims = payload(&rig.access("acme").await).to_string();
    for member in [r#""sub":"root""#, r#""aud":"https://api.test""#, r#""exp":1900000000"#] {
        let twice = format!("{{{member},{}", &claims[1..]);
        assert!(rig.refuses("acme", &rig.sign("acme", &header, &twice).await).await, "{member}");
    }
    for member in [r#""alg":"none""#, r#""kid":"x""#, r#""typ":"JWT""#] {
        let twice = format!("{{{member},{}", &header[1..]);
        assert!(rig.refuses("acme", &rig.sign("acme", &twice, &claims).await).await, "{member}");
    }
}

#[tokio::test]
async fn sec_jwt_20() {
    let rig = Rig::new().await;
    let header = |value: Value| base64url::encode(value.to_string());
    let slow = header(json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2_147_483_647}));
    let bomb = header(json!({"alg": "dir", "enc": "A128GCM", "zip": "DEF"}));
    let body = base64url::encode(vec![0; 10_000]);
    let begun = Instant::now();
    for head in [slow, bomb] {
        assert!(rig.refuses("acme", &format!("{head}.AAAA.AAAA.{body}.AAAA")).await);
    }
    assert!(rig.refuses("acme", &"a".repeat(1 << 20)).await);
    // Nothing is derived or inflated; a derivation of that many rounds takes minutes.
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// n - s, for the order n of P-256.
fn negated(s: &[u8]) -> Vec<u8> {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let mut out = vec![0; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let digit = i16::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap();
        let digit = digit - i16::from(s[at]) - borrow;
        borrow = i16::from(digit < 0);
        out[at] = u8::try_from(digit + 256 * borrow).unwrap();
    }
    out
}

#[tokio::test]
async fn sec_jwt_22() {
    let rig = Rig::new().await;
    let token = rig.access("acme").await;
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = base64url::decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let der = [&[0x30, 0x44, 0x02, 0x20], r, &[0x02, 0x20], s].concat();
    for bad in [vec![0; 64], der, signature[..63].to_vec(), [&signature[..], &[0]].concat()] {
        let forged = format!("{message}.{}", base64url::encode(bad));
        assert!(rig.refuses("acme", &forged).await);
    }
    // The twin is the same token: what revokes one revokes the other, by its `jti`.
    let twin = format!("{message}.{}", base64url::encode([r, &negated(s)].concat()));
    assert!(rig.accepts("acme", &twin).await);
    let acme = rig.tenant("acme");
    let claims = match pmp_auth::token::access::read(&acme, &token, NOW).await.unwrap() {
        pmp_auth::token::access::Read::Jwt { claims, .. } => claims,
        other => panic!("{other:?}"),
    };
    let audit = Audit::default();
    let change =
        pmp_auth::storage::Change { now: NOW, not_after: claims.expires_at, audit: &audit };
    acme.store.revoke_access_token(&claims, &change).await.unwrap();
    assert!(!rig.accepts("acme", &token).await);
    assert!(!rig.accepts("acme", &twin).await);
}

#[tokio::test]
async fn sec_jwt_24() {
    let rig = Rig::new().await;
    let mut kids = Vec::new();
    for slug in ["acme", "globex"] {
        let published = rig.tenant(slug).keys.jwks(NOW).await.unwrap();
        let published: Value = serde_json::from_str(&published).unwrap();
        for key in published["keys"].as_array().unwrap() {
            let mut names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
            names.sort_unstable();
            let expected: &[&str] = match key["kty"].as_str() {
                Some("EC") => &["alg", "crv", "kid", "kty", "use", "x", "y"],
                Some("OKP") => &["alg", "crv", "kid", "kty", "use", "x"],
                other => panic!("{other:?}"),
            };
            assert_eq!(names, expected);
            assert_eq!(key["use"], "sig");
            kids.push(key["kid"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(kids.len(), 4);
    kids.sort_unstable();
    kids.dedup();
    assert_eq!(kids.len(), 4, "no key is of two tenants");
}

#[tokio::test]
async fn sec_jwt_28() {
    let rig = Rig::new().await;
    let elsewhere = rig.another().await;
    let (token, audit) = (rig.access("acme").await, Audit::default());
    let retired = rig.kid("acme").await;
    assert!(elsewhere.accepts("acme", &token).await);
    let keys = &rig.tenant("acme").keys;
    let rotated = keys.rotate(SigningAlg::ES256, Duration::ZERO, NOW, &audit).await.unwrap();
    assert_eq!(rotated, RotateKey::Rotated);
    for node in [&rig, &elsewhere] {
        node.clock.advance(Duration::from_secs(599));
        node.learn().await;
        assert!(node.accepts("acme", &token).await, "valid until its end");
        node.clock.set(NOW);
        node.learn().await;
    }
    assert!(keys.compromise(&retired, NOW, &audit).await.unwrap());
    assert!(!rig.accepts("acme", &token).await, "refused at once where it was done");
    elsewhere.learn().await;
    assert!(!elsewhere.accepts("acme", &token).await, "and as soon as the log says so elsewhere");
    assert!(rig.accepts("acme", &rig.access("acme").await).await, "the new key's are good");
}

#[tokio::test]
async fn sec_jwt_29() {
    let rig = Rig::new().await;
    for _ in 0..1_000 {
        for (client, alg) in [("app", "ES256"), ("old", "EdDSA")] {
            let header = part(&rig.id("acme", client).await, 0);
            assert_eq!(header["alg"], alg);
        }
    }
}

#[tokio::test]
async fn sec_jwt_31() {
    let rig = Rig::new().await;
    let token = rig.id("acme", "app").await;
    let claims = payload(&token);
    let half = &digest::digest(&digest::SHA256, b"access").as_ref()[..16].to_vec();
    assert_eq!(
        claims,
        json!({
            "iss": "http://127.0.0.1:8080/t/acme",
            "sub": claims["sub"],
            "aud": "app",
            "iat": NOW.seconds(),
            "exp": NOW.seconds() + 300,
            "nonce": " a+b%20é",
            "at_hash": base64url::encode(half),
        })
    );
    let hint = rig.hint("acme", &token).await.unwrap();
    assert_eq!(
        (hint.audience, Value::from(hint.subject)),
        (vec!["app".into()], claims["sub"].clone())
    );
}
