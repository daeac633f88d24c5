use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::issuer::{API, TestIssuer, TestKey, now};
use super::{later, options, ready, told};
use crate::{Code, IssuerOptions, Kind, Mode, Verifier};

const OK: Result<(), (Code, &str)> = Ok(());

fn invalid(reason: &'static str) -> Result<(), (Code, &'static str)> {
    Err((Code::InvalidToken, reason))
}

#[tokio::test]
async fn a_good_token_says_whose_it_is() {
    let issuer = TestIssuer::start().await;
    let verifier = ready(options(&issuer, Mode::Local)).await;
    let token = verifier.verify(&issuer.token("a"), &["orders:read".to_owned()]).await.unwrap();
    assert_eq!((token.kind(), token.issuer()), (Kind::Jwt, issuer.url.as_str()));
    assert_eq!((token.subject(), token.client_id()), ("alice", "web"));
    assert_eq!((token.audience(), token.scopes().len()), (&[API.to_owned()][..], 2));
    assert_eq!(token.claims()["gid"], "g1");
    let lacking = verifier.verify(&issuer.token("a"), &["orders:write".to_owned()]).await;
    assert_eq!(lacking.unwrap_err().code(), Code::InsufficientScope);
}

#[tokio::test]
async fn claims_that_are_wrong_are_refused() {
    let issuer = TestIssuer::start().await;
    let verifier = ready(options(&issuer, Mode::Local)).await;
    let cases: &[(&str, Value, &str)] = &[
        ("iss", json!("https://other.example"), "issuer"),
        ("aud", json!("https://other.example"), "audience"),
        ("aud", json!([API, 7]), "audience"),
        ("aud", Value::Null, "audience"),
        ("exp", json!(now() - 11), "expired"),
        ("exp", json!("tomorrow"), "no exp or iat"),
        ("nbf", json!(now() + 60), "not yet valid"),
        ("iat", json!(now() + 60), "issued in the future"),
        ("iat", Value::Null, "no exp or iat"),
        ("sub", json!(""), "no sub, client_id or jti"),
        ("client_id", Value::Null, "no sub, client_id or jti"),
        ("jti", json!(7), "no sub, client_id or jti"),
        ("scope", json!(["a"]), "scope"),
        ("cnf", json!({"jkt": "x"}), "bound to a key"),
    ];
    for (name, value, reason) in cases {
        let mut claims = issuer.claims("a");
        claims[*name] = value.clone();
        assert_eq!(told(&verifier, &issuer.sign(&claims)).await, invalid(reason), "{name}");
    }
    let mut claims = issuer.claims("a");
    claims["aud"] = json!(["https://x.example", API]);
    claims["exp"] = json!(now() - 5); // within the leeway
    assert_eq!(told(&verifier, &issuer.sign(&claims)).await, OK);
}

#[tokio::test]
async fn signatures_and_headers_that_are_wrong_are_refused() {
    let issuer = TestIssuer::start().await;
    let verifier = ready(options(&issuer, Mode::Local)).await;
    let good = issuer.token("a");
    let key = issuer.lock().keys[0].clone();
    let claims = issuer.claims("a");
    assert_eq!(told(&verifier, &key.sign("JWT", &claims)).await, invalid("typ"));
    assert_eq!(told(&verifier, &key.sign("application/AT+JWT", &claims)).await, OK);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (_, body) = message.split_once('.').unwrap();
    let with = |header: Value| {
        format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()))
    };
    let headers = [
        (json!({"alg": "none", "kid": "k1", "typ": "at+jwt"}), "algorithm"),
        (json!({"alg": "HS256", "kid": "k1", "typ": "at+jwt"}), "algorithm"),
        (json!({"alg": "RS256", "kid": "k1", "typ": "at+jwt"}), "algorithm"),
        (json!({"alg": "ES256", "typ": "at+jwt"}), "header"),
        (json!({"alg": "ES256", "kid": "k1", "typ": "at+jwt", "crit": ["x"]}), "crit"),
        (json!({"alg": "ES256", "kid": "k1", "typ": "at+jwt", "more": 1}), "signature"),
        (json!({"alg": "ES256", "kid": "k9", "typ": "at+jwt"}), "unknown key"),
    ];
    for (header, reason) in headers {
        assert_eq!(told(&verifier, &with(header.clone())).await, invalid(reason), "{header}");
    }
    let other = TestKey::new("k1").sign("at+jwt", &claims);
    assert_eq!(told(&verifier, &other).await, invalid("signature"));
    for text in ["", "a b", "..", "a.b.c", &"x".repeat(20_000)] {
        assert_eq!(told(&verifier, text).await, invalid("malformed"), "{text}");
    }
    assert_eq!(told(&verifier, "pmp_rt_abc").await, invalid("a refresh token"));
    assert_eq!(told(&verifier, &good).await, OK, "the good one still is");
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_once_in_a_while() {
    let issuer = TestIssuer::start().await;
    let clock = later();
    let verifier = ready(options(&issuer, Mode::Local).clock(clock.clone())).await;
    let (old, new) = (issuer.token("a"), TestKey::new("k2"));
    issuer.change(|inner| inner.keys.push(new.clone()));
    let fresh = new.sign("at+jwt", &issuer.claims("b"));
    assert_eq!(told(&verifier, &fresh).await, invalid("unknown key"), "fetched a moment ago");
    assert_eq!(issuer.asked("jwks"), 1);
    clock.advance(5);
    assert_eq!(told(&verifier, &fresh).await, invalid("unknown key"), "within the cooldown");
    clock.advance(26);
    assert_eq!(told(&verifier, &fresh).await, OK);
    assert_eq!(issuer.asked("jwks"), 2);
    assert_eq!(told(&verifier, &old).await, OK);
    // A key that is gone takes its tokens along, remembered or not.
    issuer.change(|inner| drop(inner.keys.remove(0)));
    clock.advance(31);
    let stranger = TestKey::new("k3").sign("at+jwt", &issuer.claims("c"));
    assert_eq!(told(&verifier, &stranger).await, invalid("unknown key"));
    assert_eq!(told(&verifier, &old).await, invalid("unknown key"));
    assert_eq!(told(&verifier, &fresh).await, OK);
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_an_outage_only_when_they_are_old() {
    let issuer = TestIssuer::start().await;
    let clock = later();
    let verifier = ready(options(&issuer, Mode::Local).clock(clock.clone())).await;
    let mut claims = issuer.claims("a");
    claims["exp"] = json!(now() + 100_000);
    let token = issuer.sign(&claims);
    issuer.change(|inner| inner.down = true);
    clock.advance(1800);
    assert_eq!(told(&verifier, &token).await, OK);
    clock.advance(1801);
    assert_eq!(told(&verifier, &token).await, Err((Code::Unavailable, "the keys cannot be had")));
}

#[tokio::test]
async fn each_issuer_has_its_own_audience_and_keys() {
    let (one, two) = (TestIssuer::start().await, TestIssuer::start().await);
    let builder = Verifier::builder()
        .issuer(one.url.as_str())
        .issuer(IssuerOptions::new(&two.url).audience("https://two.example"))
        .audience(API);
    let verifier = ready(builder).await;
    assert_eq!(told(&verifier, &one.token("a")).await, OK);
    assert_eq!(told(&verifier, &two.token("a")).await, invalid("audience"));
    let mut claims = two.claims("b");
    claims["aud"] = json!("https://two.example");
    assert_eq!(told(&verifier, &two.sign(&claims)).await, OK);
    assert_eq!(told(&verifier, &one.sign(&claims)).await, invalid("signature"), "one signs as two");
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_and_closing_ends_it() {
    let refused = |builder: crate::Builder| builder.build().unwrap_err().to_string();
    let https = "https://id.example";
    let base = || Verifier::builder().issuer(https).audience(API);
    assert_eq!(refused(Verifier::builder().audience(API)), "an issuer is required");
    assert_eq!(refused(Verifier::builder().issuer(https)), "audience is required");
    assert_eq!(refused(base().issuer(https)), "an issuer is there twice");
    assert_eq!(refused(base().mode(Mode::Feed)), "the feed needs credentials or a feed_token");
    assert_eq!(refused(base().mode(Mode::Introspect)), "introspection needs credentials");
    assert_eq!(refused(base().algorithms(&["HS256"])), "algorithms are asymmetric ones");
    assert_eq!(refused(base().leeway(Duration::from_secs(61))), "leeway is at most 60 s");
    let http = Verifier::builder().issuer("http://id.example").audience(API);
    assert_eq!(refused(http), "issuer http://id.example is not an https address");
    let issuer = TestIssuer::start().await;
    let verifier = ready(options(&issuer, Mode::Feed)).await;
    assert!(verifier.is_ready());
    verifier.close();
    assert!(!verifier.is_ready());
    assert_eq!(told(&verifier, &issuer.token("a")).await, Err((Code::Unavailable, "closed")));
}
