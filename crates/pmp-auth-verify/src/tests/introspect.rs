use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};

use super::issuer::{API, TestIssuer, now};
use super::{later, options, ready, told};
use crate::status_list::Bits;
use crate::{Code, Kind, Mode, OnLoss, Verifier};

const INACTIVE: Result<(), (Code, &str)> = Err((Code::InvalidToken, "not active"));

fn active(issuer: &TestIssuer) -> Value {
    json!({"active": true, "iss": issuer.url, "aud": API, "sub": "alice", "client_id": "web",
        "scope": "orders:read", "exp": now() + 300})
}

#[tokio::test]
async fn opaque_tokens_and_keys_are_introspected_in_every_mode() {
    let issuer = TestIssuer::start().await;
    let known = active(&issuer);
    issuer.change(|inner| {
        inner.active.insert("pmp_at_1".to_owned(), known.clone());
        inner.active.insert("pak_1".to_owned(), known.clone());
    });
    for mode in [Mode::Local, Mode::Feed, Mode::Introspect, Mode::StatusList] {
        let verifier = ready(options(&issuer, mode)).await;
        let token = verifier.verify("pmp_at_1", &["orders:read".to_owned()]).await.unwrap();
        assert_eq!((token.kind(), token.subject()), (Kind::Opaque, "alice"));
        assert_eq!(verifier.verify("pak_1", &[]).await.unwrap().kind(), Kind::ApiKey);
        assert_eq!(told(&verifier, "pmp_at_2").await, INACTIVE);
    }
    let without = Verifier::builder().issuer(issuer.url.as_str()).audience(API);
    assert_eq!(told(&ready(without).await, "pmp_at_1").await, INACTIVE, "no credentials");
}

#[tokio::test]
async fn an_answer_is_kept_as_long_as_it_says() {
    let issuer = TestIssuer::start().await;
    let (known, token) = (active(&issuer), issuer.token("a"));
    issuer.change(|inner| drop(inner.active.insert(token.clone(), known)));
    let clock = later();
    let verifier = ready(options(&issuer, Mode::Introspect).clock(clock.clone())).await;
    for _ in 0..2 {
        assert_eq!(told(&verifier, &token).await, Ok(()));
    }
    assert_eq!(issuer.asked("introspect"), 2, "no-store");
    issuer.change(|inner| inner.cache_control = "private, max-age=10");
    assert_eq!(told(&verifier, &token).await, Ok(()));
    issuer.change(|inner| inner.active.clear());
    assert_eq!(told(&verifier, &token).await, Ok(()));
    assert_eq!(issuer.asked("introspect"), 3);
    clock.advance(10);
    assert_eq!(told(&verifier, &token).await, INACTIVE);
    issuer.change(|inner| inner.down = true);
    assert_eq!(told(&verifier, &token).await, Err((Code::Unavailable, "introspection failed")));
}

#[tokio::test]
async fn answers_for_others_are_refused() {
    let issuer = TestIssuer::start().await;
    let verifier = ready(options(&issuer, Mode::Introspect)).await;
    let cases = [
        ("iss", json!("https://other.example"), "issuer"),
        ("aud", json!("https://other.example"), "audience"),
        ("aud", Value::Null, "audience"),
        ("cnf", json!({}), "bound to a key"),
        ("exp", json!(now() - 60), "expired"),
    ];
    for (name, value, reason) in cases {
        let mut answer = active(&issuer);
        answer[name] = value;
        issuer.change(|inner| drop(inner.active.insert("pmp_at_1".to_owned(), answer)));
        assert_eq!(told(&verifier, "pmp_at_1").await, Err((Code::InvalidToken, reason)));
    }
}

#[test]
fn the_vectors_of_the_status_list_draft_are_read() {
    let read = |lst: &str, bits: usize, size: u64| -> Vec<u8> {
        let bits = Bits::unpack(lst, bits).unwrap();
        (0..size).map(|idx| bits.at(idx).unwrap()).collect()
    };
    let one = read("eNrbuRgAAhcBXQ", 1, 16);
    assert_eq!(one, [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]);
    let two = read("eNo76fITAAPfAgc", 2, 12);
    assert_eq!(two, [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]);
    // The appendix: lists of 2^20 tokens, all valid but a few.
    for line in include_str!("status_lists.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split(' ');
        let mut next = || parts.next().unwrap();
        let (bits, lst) = (next().parse().unwrap(), next());
        let list = Bits::unpack(lst, bits).unwrap();
        let mut set = 0;
        for pair in parts {
            let (idx, status) = pair.split_once('=').unwrap();
            let (idx, status) = (idx.parse().unwrap(), status.parse().unwrap());
            assert_eq!(list.at(idx), Some(status), "{bits}: {idx}");
            set += 1;
        }
        assert_eq!((0..1 << 20).filter(|idx| list.at(*idx) != Some(0)).count(), set, "{bits}");
        assert_eq!(list.at(1 << 20), None);
    }
    let bytes = read(&packed(&[7, 0, 255]), 8, 3);
    assert_eq!(bytes, [7, 0, 255]);
    assert!(Bits::unpack("eNrbuRgAAhcBXQ", 3).is_none());
    assert!(Bits::unpack("AAAA", 1).is_none());
    let bomb = packed(&vec![0; (16 << 20) + 1]);
    assert!(Bits::unpack(&bomb, 1).is_none(), "it is not unpacked beyond 16 MiB");
}

fn packed(bytes: &[u8]) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    URL_SAFE_NO_PAD.encode(encoder.finish().unwrap())
}

fn listed(issuer: &TestIssuer, idx: u64) -> String {
    let mut claims = issuer.claims(&format!("j{idx}"));
    claims["status"] =
        json!({"status_list": {"idx": idx, "uri": format!("{}/lists/1", issuer.url)}});
    claims["exp"] = json!(now() + 100_000);
    issuer.sign(&claims)
}

fn publish(issuer: &TestIssuer, bytes: &[u8], change: impl FnOnce(&mut Value)) {
    let mut claims = json!({"iss": issuer.url, "sub": format!("{}/lists/1", issuer.url),
        "iat": now(), "ttl": 30, "status_list": {"bits": 1, "lst": packed(bytes)}});
    change(&mut claims);
    issuer.change(|inner| {
        let list = inner.keys[0].sign("statuslist+jwt", &claims);
        inner.lists.insert("1".to_owned(), list);
    });
}

#[tokio::test]
async fn a_status_list_is_asked_for_once_in_its_ttl() {
    let issuer = TestIssuer::start().await;
    let clock = later();
    let verifier = ready(options(&issuer, Mode::StatusList).clock(clock.clone())).await;
    publish(&issuer, &[0b10], |_| {});
    let (good, bad, beyond) = (listed(&issuer, 0), listed(&issuer, 1), listed(&issuer, 8));
    let revoked = Err((Code::InvalidToken, "revoked"));
    assert_eq!(told(&verifier, &good).await, Ok(()));
    assert_eq!(told(&verifier, &bad).await, revoked);
    assert_eq!(told(&verifier, &beyond).await, Err((Code::InvalidToken, "status index")));
    publish(&issuer, &[0b11], |_| {});
    assert_eq!(told(&verifier, &good).await, Ok(()));
    assert_eq!(issuer.asked("list"), 1);
    clock.advance(30);
    assert_eq!(told(&verifier, &good).await, revoked);
    assert_eq!(issuer.asked("list"), 2);
    // A token without a status: only the issuer can know.
    assert_eq!(told(&verifier, &issuer.token("plain")).await, INACTIVE);
    let mut claims = issuer.claims("x");
    claims["status"] = json!({"status_list": {"idx": 0, "uri": "https://evil.example/1"}});
    let elsewhere = Err((Code::InvalidToken, "the status list is elsewhere"));
    assert_eq!(told(&verifier, &issuer.sign(&claims)).await, elsewhere);
}

#[tokio::test]
async fn a_bad_or_missing_status_list_is_an_outage() {
    let issuer = TestIssuer::start().await;
    let outage = Err((Code::Unavailable, "the status list cannot be had"));
    let token = listed(&issuer, 0);
    let changes: [fn(&mut Value); 5] = [
        |claims| claims["sub"] = json!("https://other.example"),
        |claims| claims["iss"] = json!("https://other.example"),
        |claims| claims["exp"] = json!(now() - 1),
        |claims| claims["ttl"] = json!(0),
        |claims| claims["status_list"]["bits"] = json!(3),
    ];
    for change in changes {
        let verifier = ready(options(&issuer, Mode::StatusList)).await;
        publish(&issuer, &[0], change);
        assert_eq!(told(&verifier, &token).await, outage);
    }
    publish(&issuer, &[0], |_| {});
    let policies = [OnLoss::FailClosed, OnLoss::Grace(Duration::from_mins(1)), OnLoss::Introspect];
    for policy in policies {
        let clock = later();
        let builder = options(&issuer, Mode::StatusList).on_loss(policy);
        let verifier = ready(builder.clock(clock.clone())).await;
        assert_eq!(told(&verifier, &token).await, Ok(()));
        clock.advance(31);
        issuer.change(|inner| drop(inner.lists.remove("1")));
        let answer = told(&verifier, &token).await;
        match policy {
            OnLoss::FailClosed => assert_eq!(answer, outage),
            OnLoss::Grace(_) => {
                assert_eq!(answer, Ok(()));
                clock.advance(60);
                assert_eq!(told(&verifier, &token).await, outage);
            }
            OnLoss::Introspect => assert_eq!(answer, INACTIVE),
        }
        publish(&issuer, &[0], |_| {});
    }
}
