use std::time::Duration;

use aws_lc_rs::hmac;
use serde_json::{Map, Value, json};

use super::Why;
use super::access::{self, Minted, Read};
use super::id::{self, Hint, IdClaims};
use crate::base::{Secret, SystemEntropy, base64url};
use crate::model::client::{AccessTokenFormat, SigningAlg};
use crate::model::token::AccessClaims;
use crate::model::{Audit, ClientId, Scope};
use crate::storage::RotateKey;
use crate::tenant::Tenant;
use crate::tenant::testing::{House, NOW, TWO};

const TTL: Duration = Duration::from_mins(10);

fn claims() -> AccessClaims {
    AccessClaims {
        jti: access::new_jti(&SystemEntropy),
        client: ClientId::new("app"),
        user: Some("6e9a3c52-95ab-4be4-90ef-20c4ea4d7b9e".parse().unwrap()),
        subject: "6e9a3c52-95ab-4be4-90ef-20c4ea4d7b9e".into(),
        audience: vec!["https://api.example".into()],
        scope: Scope::parse("openid").unwrap(),
        grant: Some("0d39f6ab-7e9b-4f10-8a4f-4f2c7a3f8a53".parse().unwrap()),
        session: None,
        generation: Some(1),
        auth_time: Some(NOW),
        acr: None,
        amr: vec!["pwd".into()],
        issued_at: NOW,
        expires_at: NOW.plus(TTL),
        status: None,
    }
}

async fn mint(tenant: &Tenant, claims: &AccessClaims, format: AccessTokenFormat) -> Minted {
    access::mint(tenant, claims, format, NOW, &SystemEntropy).await.unwrap()
}

async fn jwt(tenant: &Tenant, claims: &AccessClaims) -> String {
    mint(tenant, claims, AccessTokenFormat::Jwt).await.token.reveal().clone()
}

async fn id_token(tenant: &Tenant) -> String {
    let app = tenant.client(&ClientId::new("app")).await.unwrap().unwrap();
    let claims = IdClaims {
        subject: "ada".into(),
        nonce: Some("n-0S6_WzA2Mj".into()),
        auth_time: Some(NOW),
        acr: None,
        amr: vec![],
        session: Some("b1e3c1a0-4a0b-4a51-9a55-3f1f6bb0c0de".parse().unwrap()),
        user: Map::from_iter([
            ("email".into(), "ada@example.com".into()),
            ("sub".into(), "root".into()),
            ("exp".into(), 9.into()),
        ]),
    };
    let beside = Secret::new("token".to_owned());
    id::mint(tenant, &app, &claims, Some(&beside), NOW).await.unwrap().reveal().clone()
}

/// Why it is invalid; none when it is not.
async fn why(tenant: &Tenant, token: &str) -> Option<Why> {
    match access::read(tenant, token, NOW).await.unwrap() {
        Read::Invalid(why) => Some(why),
        Read::Jwt { .. } | Read::Opaque(_) => None,
    }
}

fn payload_of(token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    String::from_utf8(base64url::decode(payload).unwrap()).unwrap()
}

/// With Ed25519 for ID tokens: an RSA key takes its time.
async fn house() -> House {
    House::new(&TWO.replace("    clients:", "    signing: { id_token: EdDSA }\n    clients:")).await
}

#[tokio::test]
async fn a_minted_jwt_reads_back_first_by_signature_then_from_memory() {
    let acme = house().await.tenant("acme");
    let claims = claims();
    let token = jwt(&acme, &claims).await;
    for round in ["first", "again"] {
        let Read::Jwt { claims: read, kid } = access::read(&acme, &token, NOW).await.unwrap()
        else {
            panic!("{round}");
        };
        assert_eq!(*read, claims);
        assert!(acme.keys.verifier(&kid, NOW).await.unwrap().is_some());
    }
    assert!(acme.verified.get(&acme.uid, &token).is_some());
}

#[tokio::test]
async fn a_remembered_token_still_expires() {
    let acme = house().await.tenant("acme");
    let token = jwt(&acme, &claims()).await;
    assert_eq!(why(&acme, &token).await, None);
    let read = access::read(&acme, &token, NOW.plus(TTL)).await.unwrap();
    assert!(matches!(read, Read::Invalid(Why::Expired)));
}

#[tokio::test]
async fn a_remembered_token_dies_with_its_compromised_key_and_outlives_a_retired_one() {
    let acme = house().await.tenant("acme");
    let token = jwt(&acme, &claims()).await;
    assert_eq!(why(&acme, &token).await, None);
    let audit = Audit::default();
    let kid = acme.keys.signer(SigningAlg::ES256, NOW).await.unwrap().kid().to_owned();
    let rotated = acme.keys.rotate(SigningAlg::ES256, Duration::ZERO, NOW, &audit).await.unwrap();
    assert_eq!(rotated, RotateKey::Rotated);
    assert_eq!(why(&acme, &token).await, None);
    assert!(acme.keys.compromise(&kid, NOW, &audit).await.unwrap());
    assert_eq!(why(&acme, &token).await, Some(Why::UnknownKey));
}

#[tokio::test]
async fn a_token_of_one_tenant_is_nothing_to_another() {
    let house = house().await;
    let (acme, globex) = (house.tenant("acme"), house.tenant("globex"));
    let token = jwt(&globex, &claims()).await;
    assert_eq!(why(&globex, &token).await, None);
    assert_eq!(why(&acme, &token).await, Some(Why::UnknownKey));
    // With acme's issuer, signed by globex under its own kid, or under acme's.
    let payload = payload_of(&token).replace("/t/globex", "/t/acme");
    let signer = globex.keys.signer(SigningAlg::ES256, NOW).await.unwrap();
    let ours = acme.keys.signer(SigningAlg::ES256, NOW).await.unwrap();
    for (kid, expected) in [(signer.kid(), Why::UnknownKey), (ours.kid(), Why::Signature)] {
        let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": kid }).to_string();
        let forged = signer.sign_text(&header, &payload);
        assert_eq!(why(&acme, &forged).await, Some(expected));
    }
    // Signed by acme for globex' issuer.
    let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": ours.kid() }).to_string();
    let foreign = ours.sign_text(&header, &payload_of(&token));
    assert_eq!(why(&acme, &foreign).await, Some(Why::Issuer));
}

#[tokio::test]
async fn no_algorithm_and_no_hmac_under_a_public_key_is_believed() {
    let acme = house().await.tenant("acme");
    let good = jwt(&acme, &claims()).await;
    let signer = acme.keys.signer(SigningAlg::ES256, NOW).await.unwrap();
    let payload = base64url::encode(payload_of(&good));
    let with = |alg: &str| {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": signer.kid() }).to_string();
        format!("{}.{payload}", base64url::encode(header))
    };
    let (_, signature) = good.rsplit_once('.').unwrap();
    for alg in ["none", "None", "NONE", "nOnE", "", "ES384", "RS256", "es256", "EdDSA"] {
        for signature in ["", "AA", signature] {
            let token = format!("{}.{signature}", with(alg));
            assert_eq!(why(&acme, &token).await, Some(Why::Algorithm), "{alg:?} {signature:?}");
        }
    }
    let jwks: Value = serde_json::from_str(&acme.keys.jwks(NOW).await.unwrap()).unwrap();
    let all = jwks["keys"].as_array().unwrap();
    let jwk = all.iter().find(|key| key["kid"] == signer.kid()).unwrap();
    let coordinate = |name: &str| base64url::decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let text = jwk.to_string();
    for secret in [point.as_slice(), text.as_bytes(), format!("{text}\n").as_bytes(), b""] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let message = with("HS256");
        let mac = base64url::encode(hmac::sign(&key, message.as_bytes()));
        assert_eq!(why(&acme, &format!("{message}.{mac}")).await, Some(Why::Algorithm));
    }
}

#[tokio::test]
async fn a_header_that_brings_its_own_key_or_demands_extensions_is_refused_even_well_signed() {
    let acme = house().await.tenant("acme");
    let payload = payload_of(&jwt(&acme, &claims()).await);
    let signer = acme.keys.signer(SigningAlg::ES256, NOW).await.unwrap();
    let base = json!({ "alg": "ES256", "typ": "at+jwt", "kid": signer.kid() });
    assert_eq!(why(&acme, &signer.sign_text(&base.to_string(), &payload)).await, None);
    for (name, value) in [
        ("jwk", json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" })),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("http://127.0.0.1/x")),
        ("x5c", json!(["AA"])),
        ("crit", json!(["exp"])),
        ("crit", json!(["unknown"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        let mut header = base.clone();
        header[name] = value;
        let token = signer.sign_text(&header.to_string(), &payload);
        assert_eq!(why(&acme, &token).await, Some(Why::Header), "{name}");
    }
}

#[tokio::test]
async fn one_kind_of_token_is_not_another() {
    let acme = house().await.tenant("acme");
    let access = jwt(&acme, &claims()).await;
    let id = id_token(&acme).await;
    assert_eq!(why(&acme, &id).await, Some(Why::Type));
    assert_eq!(id::read_hint(&acme, &access, NOW).await.unwrap(), None);
    let signer = acme.keys.signer(SigningAlg::ES256, NOW).await.unwrap();
    for (typ, expected) in [
        ("JWT", Some(Why::Type)),
        ("", Some(Why::Type)),
        ("AT+JWT", None),
        ("application/at+jwt", None),
    ] {
        let header = json!({ "alg": "ES256", "typ": typ, "kid": signer.kid() }).to_string();
        let token = signer.sign_text(&header, &payload_of(&access));
        assert_eq!(why(&acme, &token).await, expected, "{typ}");
    }
    let untyped = json!({ "alg": "ES256", "kid": signer.kid() }).to_string();
    let token = signer.sign_text(&untyped, &payload_of(&access));
    assert_eq!(why(&acme, &token).await, Some(Why::Header));
}

#[tokio::test]
async fn encrypted_and_oversized_tokens_are_refused_unread() {
    let acme = house().await.tenant("acme");
    let bomb =
        base64url::encode(json!({ "alg": "PBES2-HS256+A128KW", "p2c": 2_147_483_647 }).to_string());
    assert_eq!(why(&acme, &format!("{bomb}.AA.AA.AA.AA")).await, Some(Why::Encrypted));
    assert_eq!(why(&acme, &"a.".repeat(20_000)).await, Some(Why::TooLong));
    for junk in ["", ".", "..", "a.b.c", "pmp_at_", "pmp_rt_x", "\u{0}", "ä.ä.ä"] {
        assert!(why(&acme, junk).await.is_some(), "{junk:?}");
    }
}

/// n - s, for the order n of P-256.
fn negated(s: &[u8]) -> Vec<u8> {
    let order: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut out = vec![0; 32];
    let mut borrow = 0_i16;
    for at in (0..32).rev() {
        let mut digit = i16::from(order[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(digit < 0);
        digit += 256 * borrow;
        out[at] = u8::try_from(digit).unwrap();
    }
    out
}

#[tokio::test]
async fn the_twin_of_a_signature_is_the_same_token_by_its_id() {
    let acme = house().await.tenant("acme");
    let claims = claims();
    let token = jwt(&acme, &claims).await;
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = base64url::decode(signature).unwrap();
    let twin = [&signature[..32], &negated(&signature[32..])].concat();
    let twin = format!("{message}.{}", base64url::encode(twin));
    assert_ne!(twin, token);
    let Read::Jwt { claims: read, .. } = access::read(&acme, &twin, NOW).await.unwrap() else {
        panic!("ECDSA signatures come in pairs");
    };
    assert_eq!(read.jti, claims.jti);
}

#[tokio::test]
async fn an_opaque_token_is_known_by_its_row_alone() {
    let house = house().await;
    let (acme, globex) = (house.tenant("acme"), house.tenant("globex"));
    let claims = AccessClaims { grant: None, user: None, generation: None, ..claims() };
    let minted = mint(&acme, &claims, AccessTokenFormat::Opaque).await;
    let token = minted.token.reveal();
    assert!(token.starts_with("pmp_at_"));
    assert_eq!(why(&acme, token).await, Some(Why::UnknownToken));
    acme.store.issue_access_token(&minted.opaque.unwrap()).await.unwrap();
    let Read::Opaque(read) = access::read(&acme, token, NOW).await.unwrap() else { panic!() };
    assert_eq!(*read, claims);
    assert_eq!(why(&globex, token).await, Some(Why::UnknownToken));
    let later = access::read(&acme, token, NOW.plus(TTL)).await.unwrap();
    assert!(matches!(later, Read::Invalid(_)));
    let mut typo = token.clone();
    typo.pop();
    assert_eq!(why(&acme, &typo).await, Some(Why::Malformed));
}

#[tokio::test]
async fn an_id_token_says_what_the_protocol_asks_and_the_user_cannot_overrule_it() {
    let acme = house().await.tenant("acme");
    let token = id_token(&acme).await;
    let payload: Value = serde_json::from_str(&payload_of(&token)).unwrap();
    assert_eq!(
        payload,
        json!({
            "iss": "https://id.example/t/acme",
            "sub": "ada",
            "aud": "app",
            "iat": 1_800_000_000,
            "exp": 1_800_000_300,
            "auth_time": 1_800_000_000,
            "nonce": "n-0S6_WzA2Mj",
            "sid": "b1e3c1a0-4a0b-4a51-9a55-3f1f6bb0c0de",
            "at_hash": payload["at_hash"],
            "email": "ada@example.com",
        })
    );
    assert_eq!(payload["at_hash"].as_str().map(str::len), Some(43), "half of SHA-512");
}

#[tokio::test]
async fn a_hint_may_be_expired_but_must_be_of_this_issuer() {
    let house = house().await;
    let (acme, globex) = (house.tenant("acme"), house.tenant("globex"));
    let token = id_token(&acme).await;
    let hint = Hint {
        subject: "ada".into(),
        session: Some("b1e3c1a0-4a0b-4a51-9a55-3f1f6bb0c0de".parse().unwrap()),
        audience: vec!["app".into()],
    };
    let later = NOW.plus(Duration::from_hours(24 * 30));
    assert_eq!(id::read_hint(&acme, &token, later).await.unwrap(), Some(hint));
    assert_eq!(id::read_hint(&globex, &token, NOW).await.unwrap(), None);
    let (message, _) = token.rsplit_once('.').unwrap();
    assert_eq!(id::read_hint(&acme, &format!("{message}.AA"), NOW).await.unwrap(), None);
    assert_eq!(id::read_hint(&acme, "", NOW).await.unwrap(), None);
}

#[tokio::test]
async fn each_client_gets_its_own_id_token_algorithm() {
    let yaml = TWO.replace("client_id: other,", "client_id: other, id_token_alg: ES256,");
    let acme = House::new(&yaml).await.tenant("acme");
    let other = acme.client(&ClientId::new("other")).await.unwrap().unwrap();
    assert_eq!(other.id_token_alg, Some(SigningAlg::ES256));
    let claims = IdClaims {
        subject: "ada".into(),
        nonce: None,
        auth_time: None,
        acr: None,
        amr: vec![],
        session: None,
        user: Map::new(),
    };
    let token = id::mint(&acme, &other, &claims, None, NOW).await.unwrap();
    let header = base64url::decode(token.reveal().split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!((header["alg"].as_str(), header["typ"].as_str()), (Some("ES256"), Some("JWT")));
}
