use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::{Value, json};

use super::{KeyPolicy, Ring, RingFault, TenantKeys, limit_key, ring_checks};
use crate::base::{Secret, SystemEntropy, Timestamp, base64url};
use crate::config::settings::RingKey;
use crate::model::client::SigningAlg;
use crate::model::key::KeyState;
use crate::model::{Audit, RevocationKey, TenantUid};
use crate::storage::memory::Memory;
use crate::storage::{AddKey, RevocationLog as _, RotateKey, Storage as _};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn ring(byte: u8) -> Arc<Ring> {
    Arc::new(Ring::new(vec![RingKey { id: 1, secret: Secret::new(vec![byte; 32]) }]))
}

fn keys(store: &Memory, tenant: &str, ring: Arc<Ring>) -> TenantKeys {
    let uid = TenantUid::stored(tenant);
    let policy = KeyPolicy {
        algs: vec![SigningAlg::ES256, SigningAlg::EdDSA],
        rsa_bits: 2048,
        longest_token: HOUR,
        grace: HOUR,
    };
    let handle = store.tenant(&uid);
    TenantKeys::new(uid, handle, ring, Arc::new(SystemEntropy), policy)
}

fn acme() -> (Memory, TenantKeys) {
    let store = Memory::new("e1", NOW);
    let keys = keys(&store, "acme", ring(1));
    (store, keys)
}

async fn signs(keys: &TenantKeys, now: Timestamp) -> String {
    keys.signer(SigningAlg::ES256, now).await.unwrap().kid().to_owned()
}

#[tokio::test]
async fn what_each_algorithm_signs_verifies_with_the_published_keys_alone() {
    let (_, keys) = acme();
    for alg in SigningAlg::ALL {
        let signer = keys.signer(alg, NOW).await.unwrap();
        let token = signer.sign("at+jwt", &json!({ "sub": "ada" })).unwrap();
        let published: JwkSet = serde_json::from_str(&keys.jwks(NOW).await.unwrap()).unwrap();
        let jwk = published.find(signer.kid()).unwrap();
        let mut validation = Validation::new(alg.as_str().parse().unwrap());
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(jwk).unwrap();
        let read = decode::<Value>(token.reveal(), &key, &validation).unwrap();
        assert_eq!(read.claims, json!({ "sub": "ada" }), "{alg:?}");
        assert_eq!(read.header.typ.as_deref(), Some("at+jwt"));
        let (message, signature) = token.reveal().rsplit_once('.').unwrap();
        let verifier = keys.verifier(signer.kid(), NOW).await.unwrap().unwrap();
        assert!(verifier.verify(message, signature), "{alg:?}");
        assert!(!verifier.verify(&message[1..], signature), "{alg:?}");
    }
}

#[tokio::test]
async fn an_es256_signature_is_64_bytes_in_one_spelling() {
    let (_, keys) = acme();
    let signer = keys.signer(SigningAlg::ES256, NOW).await.unwrap();
    let verifier = keys.verifier(signer.kid(), NOW).await.unwrap().unwrap();
    let token = signer.sign("JWT", &json!({})).unwrap();
    let (message, good) = token.reveal().rsplit_once('.').unwrap();
    let bytes = base64url::decode(good).unwrap();
    let der = [&[0x30, 0x44, 0x02, 0x20], &bytes[..32], &[0x02, 0x20], &bytes[32..]].concat();
    let mut stray = good.to_owned();
    stray.pop();
    // 64 bytes end in two bits of a letter: A, Q, g or w.
    stray.push('B');
    let bad = [
        base64url::encode([0; 64]),
        base64url::encode(&bytes[..63]),
        base64url::encode([&bytes[..], &[0]].concat()),
        base64url::encode(der),
        format!("{good}="),
        stray,
        String::new(),
    ];
    assert!(verifier.verify(message, good));
    for signature in bad {
        assert!(!verifier.verify(message, &signature), "{signature}");
    }
}

#[tokio::test]
async fn a_kid_is_the_thumbprint_of_its_key() {
    let (_, keys) = acme();
    let kid = signs(&keys, NOW).await;
    let published: Value = serde_json::from_str(&keys.jwks(NOW).await.unwrap()).unwrap();
    let all = published["keys"].as_array().unwrap();
    let key = all.iter().find(|key| key["kid"] == kid).unwrap();
    // RFC 7638 §3: the required members in lexical order, without spaces.
    let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, key["x"], key["y"]);
    assert_eq!(kid, base64url::encode(crate::base::Digest::<()>::of(text.as_bytes()).as_bytes()));
}

#[tokio::test]
async fn many_requests_and_nodes_at_first_use_make_one_key() {
    let (store, here) = acme();
    let there = keys(&store, "acme", ring(1));
    let (here, there) = (Arc::new(here), Arc::new(there));
    let mut all = tokio::task::JoinSet::new();
    for i in 0..20 {
        let keys = if i % 2 == 0 { Arc::clone(&here) } else { Arc::clone(&there) };
        all.spawn(async move { signs(&keys, NOW).await });
    }
    let mut kids = all.join_all().await;
    kids.dedup();
    assert_eq!(kids.len(), 1);
    assert_eq!(here.list(NOW).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_set_has_a_key_for_each_algorithm_in_use_and_nothing_private() {
    let (_, keys) = acme();
    let published: Value = serde_json::from_str(&keys.jwks(NOW).await.unwrap()).unwrap();
    let mut algs = Vec::new();
    for key in published["keys"].as_array().unwrap() {
        assert_eq!(key["use"], "sig");
        assert!(key["kid"].is_string());
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{private}");
        }
        algs.push(key["alg"].as_str().unwrap());
    }
    algs.sort_unstable();
    assert_eq!(algs, ["ES256", "EdDSA"]);
}

#[tokio::test]
async fn a_sealed_key_opens_for_its_tenant_and_ring_alone() {
    let (store, keys_of_acme) = acme();
    signs(&keys_of_acme, NOW).await;
    let record = store.tenant(&TenantUid::stored("acme")).list_keys().await.unwrap().remove(0);

    let globex = store.tenant(&TenantUid::stored("globex"));
    assert_eq!(globex.add_first_key(&record, &Audit::default()).await.unwrap(), AddKey::Added);
    let stolen = keys(&store, "globex", ring(1)).signer(SigningAlg::ES256, NOW).await;
    assert!(stolen.is_err(), "moved to another tenant's rows");

    let other_ring = keys(&store, "acme", ring(2)).signer(SigningAlg::ES256, NOW).await;
    assert!(other_ring.is_err());
    assert_eq!(signs(&keys(&store, "acme", ring(1)), NOW).await, record.kid);
}

#[tokio::test]
async fn a_rotated_key_is_published_before_it_signs_and_after_it_stops() {
    let (_, keys) = acme();
    let old = signs(&keys, NOW).await;
    let audit = Audit::default();
    let outcome = keys.rotate(SigningAlg::ES256, HOUR, NOW, &audit).await.unwrap();
    assert_eq!(outcome, RotateKey::Rotated);
    let outcome = keys.rotate(SigningAlg::ES256, HOUR, NOW, &audit).await.unwrap();
    assert_eq!(outcome, RotateKey::AlreadyPending);
    let outcome = keys.rotate(SigningAlg::PS256, HOUR, NOW, &audit).await.unwrap();
    assert_eq!(outcome, RotateKey::NoActiveKey(SigningAlg::PS256));

    let listed = keys.list(NOW).await.unwrap();
    let new = listed.iter().find(|key| key.state == KeyState::Pending).unwrap().kid.clone();
    assert!(keys.jwks(NOW).await.unwrap().contains(&new));
    assert_eq!(signs(&keys, NOW).await, old);

    let turn = NOW.plus(HOUR);
    assert_eq!(signs(&keys, turn).await, new);
    // The old key stays for the longest token that it can have signed, and the grace.
    let end = turn.plus(HOUR * 2);
    let just_before = end.minus(Duration::from_millis(1));
    assert!(keys.verifier(&old, just_before).await.unwrap().is_some());
    assert!(keys.jwks(just_before).await.unwrap().contains(&old));
    assert!(keys.verifier(&old, end).await.unwrap().is_none());
    assert!(!keys.jwks(end).await.unwrap().contains(&old));
}

#[tokio::test]
async fn a_key_that_another_node_made_is_found_by_its_kid() {
    let (store, here) = acme();
    let there = keys(&store, "acme", ring(1));
    signs(&here, NOW).await;
    signs(&there, NOW).await;
    let audit = Audit::default();
    let outcome = there.rotate(SigningAlg::ES256, Duration::ZERO, NOW, &audit).await.unwrap();
    assert_eq!(outcome, RotateKey::Rotated);
    let new = signs(&there, NOW).await;
    assert!(here.verifier(&new, NOW).await.unwrap().is_none(), "looked a moment ago");
    assert!(here.verifier(&new, NOW.plus(Duration::from_secs(1))).await.unwrap().is_some());
}

#[tokio::test]
async fn a_compromised_key_is_replaced_and_everything_it_signed_is_revoked() {
    let (store, keys) = acme();
    let bad = signs(&keys, NOW).await;
    let audit = Audit::default();
    assert!(keys.compromise(&bad, NOW, &audit).await.unwrap());
    assert!(keys.verifier(&bad, NOW).await.unwrap().is_none());
    assert!(!keys.jwks(NOW).await.unwrap().contains(&bad));
    let new = signs(&keys, NOW).await;
    assert_ne!(new, bad);
    let log = store.revocation_snapshot(NOW).await.unwrap().entries;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].revocation.key, RevocationKey::Kid(bad));
    assert!(!keys.compromise("unknown", NOW, &audit).await.unwrap());
}

#[tokio::test]
async fn a_pending_key_steps_in_for_a_compromised_one() {
    let (_, keys) = acme();
    let bad = signs(&keys, NOW).await;
    let audit = Audit::default();
    let _ = keys.rotate(SigningAlg::ES256, HOUR, NOW, &audit).await.unwrap();
    assert!(keys.compromise(&bad, NOW, &audit).await.unwrap());
    assert_ne!(signs(&keys, NOW).await, bad);
    let states: Vec<_> = keys.list(NOW).await.unwrap().iter().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Active, KeyState::Compromised]);
}

#[tokio::test]
async fn a_ring_with_another_secret_must_not_start_and_a_missing_key_is_named() {
    let store = Memory::new("e1", NOW);
    let ring = |keys: &[(u8, u8)]| {
        let key = |&(id, byte): &(u8, u8)| RingKey { id, secret: Secret::new(vec![byte; 32]) };
        Ring::new(keys.iter().map(key).collect())
    };
    assert_eq!(ring_checks(&ring(&[(2, 2), (1, 1)]), &store, NOW).await.unwrap(), [0_u8; 0]);
    assert_eq!(ring_checks(&ring(&[(2, 2)]), &store, NOW).await.unwrap(), [1]);
    let fault = ring_checks(&ring(&[(2, 9)]), &store, NOW).await.unwrap_err();
    assert!(matches!(fault, RingFault::Mismatch(2)));
}

#[test]
fn a_counter_has_one_name_per_tenant_purpose_and_value() {
    let ring = ring(1);
    let (acme, globex) = (TenantUid::stored("acme"), TenantUid::stored("globex"));
    let name = limit_key(&ring, &acme, "login", "ada@example.com");
    assert_eq!(name, limit_key(&ring, &acme, "login", "ada@example.com"));
    assert_ne!(name, limit_key(&ring, &globex, "login", "ada@example.com"));
    assert_ne!(name, limit_key(&ring, &acme, "ip", "ada@example.com"));
    assert_ne!(name, limit_key(&ring, &acme, "login", "bob@example.com"));
}
