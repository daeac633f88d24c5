use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::issuer::{API, TestIssuer, half, now};
use super::{REVOKED, later, options, ready, told, until};
use crate::{Code, Event, FeedState, Mode, OnLoss, Transport};

#[tokio::test]
async fn nothing_passes_before_the_snapshot_and_what_it_holds_is_refused() {
    let issuer = TestIssuer::start().await;
    issuer.revoke_jti("dead");
    issuer.change(|inner| inner.down = true);
    let verifier = options(&issuer, Mode::Feed).build().unwrap();
    assert!(verifier.ready_within(Duration::from_millis(100)).await.is_err());
    assert!(!verifier.is_ready());
    let early = verifier.verify(&issuer.token("a"), &[]).await.unwrap_err();
    assert_eq!((early.code(), early.status().as_u16()), (Code::Unavailable, 503));
    issuer.change(|inner| inner.down = false);
    verifier.ready_within(Duration::from_secs(10)).await.unwrap();
    until(&verifier, &issuer.token("a"), Ok(())).await;
    assert_eq!(told(&verifier, &issuer.token("dead")).await, REVOKED);
    let health = verifier.health();
    assert_eq!((health[0].feed, health[0].entries), (Some(FeedState::Live), 1));
}

#[tokio::test]
async fn a_revocation_arrives_within_a_second_by_stream_and_by_poll() {
    for transport in [Transport::Sse, Transport::Poll] {
        let issuer = TestIssuer::start().await;
        let verifier = ready(options(&issuer, Mode::Feed).transport(transport)).await;
        let (one, two) = (issuer.token("one"), issuer.token("two"));
        assert_eq!(told(&verifier, &one).await, Ok(()));
        issuer.revoke_jti("one");
        let begun = Instant::now();
        until(&verifier, &one, REVOKED).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{transport:?}");
        assert_eq!(told(&verifier, &two).await, Ok(()));
    }
}

#[tokio::test]
async fn where_streams_do_not_pass_it_polls() {
    let issuer = TestIssuer::start().await;
    issuer.change(|inner| inner.streams = false);
    let verifier = ready(options(&issuer, Mode::Feed)).await;
    let token = issuer.token("a");
    assert_eq!(told(&verifier, &token).await, Ok(()));
    issuer.revoke_jti("a");
    until(&verifier, &token, REVOKED).await;
    assert_eq!(issuer.asked("stream"), 1);
}

#[tokio::test]
async fn each_kind_of_entry_kills_what_it_names() {
    let issuer = TestIssuer::start().await;
    let verifier = ready(options(&issuer, Mode::Feed)).await;
    let cases = [
        ("head", "g1.2"),
        ("grant", "g1"),
        ("session", "s1"),
        ("subject", "alice"),
        ("client", "web"),
        ("api_key", "g1"),
        ("kid", "k1"),
    ];
    let exp = now() + 360;
    for (n, (kind, key)) in cases.into_iter().enumerate() {
        // Each on a subject of its own audience, so that one does not hide the next.
        let audience = format!("https://{kind}.example");
        let mut claims = issuer.claims(&n.to_string());
        claims["aud"] = json!([API, audience]);
        let token = issuer.sign(&claims);
        issuer.revoke(json!({"k": kind, "h": half("other"), "exp": exp, "aud": [audience]}));
        issuer.revoke(json!({"k": kind, "h": half(key), "exp": exp, "aud": ["https://x.example"]}));
        issuer.revoke(
            json!({"k": kind, "h": half(key), "nbf": now() - 60, "exp": exp, "aud": [audience]}),
        );
        let size = 3 * n + 2;
        while verifier.health()[0].entries <= size {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(told(&verifier, &token).await, Ok(()), "{kind}");
        issuer.revoke(
            json!({"k": kind, "h": half(key), "nbf": now(), "exp": exp, "aud": [audience]}),
        );
        until(&verifier, &token, REVOKED).await;
        issuer.change(|inner| drop(inner.entries.pop()));
        issuer.revoke(json!({"k": "a later kind", "exp": exp}));
        break_stream(&issuer).await;
    }
    let token = issuer.token("t");
    assert_eq!(told(&verifier, &token).await, Ok(()));
    issuer.revoke(json!({"k": "tenant", "nbf": now(), "exp": exp}));
    until(&verifier, &token, REVOKED).await;
}

/// What the reader holds must not hang on the stream that said it.
async fn break_stream(issuer: &TestIssuer) {
    let before = issuer.asked("stream");
    issuer.change(|inner| inner.epoch += 1);
    while issuer.asked("stream") == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_lost_its_tail_is_united_with_what_is_held() {
    let issuer = TestIssuer::start().await;
    let verifier = ready(options(&issuer, Mode::Feed)).await;
    let (lost, new) = (issuer.token("lost"), issuer.token("new"));
    issuer.revoke_jti("lost");
    until(&verifier, &lost, REVOKED).await;
    // Another epoch, without it, and with another.
    issuer.change(|inner| {
        inner.epoch += 1;
        inner.entries.clear();
    });
    issuer.revoke_jti("new");
    until(&verifier, &new, REVOKED).await;
    assert_eq!(told(&verifier, &lost).await, REVOKED);
}

#[tokio::test]
async fn a_stale_cursor_after_an_outage_makes_it_take_a_snapshot() {
    let issuer = TestIssuer::start().await;
    let verifier = ready(options(&issuer, Mode::Feed)).await;
    let (a, b) = (issuer.token("a"), issuer.token("b"));
    let before = issuer.asked("stream");
    issuer.change(|inner| inner.down = true);
    while issuer.asked("stream") == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    issuer.change(|inner| inner.epoch += 7);
    issuer.revoke_jti("a");
    assert_eq!(told(&verifier, &a).await, Ok(()), "it does not know yet, and the feed is not lost");
    issuer.change(|inner| inner.down = false);
    until(&verifier, &a, REVOKED).await;
    assert_eq!(told(&verifier, &b).await, Ok(()));
}

#[tokio::test]
async fn a_lost_feed_is_what_the_policy_makes_of_it() {
    let issuer = TestIssuer::start().await;
    let token = issuer.token("a");
    let lost = Err((Code::Unavailable, "the revocation feed is lost"));
    issuer.revoke_jti("dead");
    let grace = OnLoss::Grace(Duration::from_mins(1));
    for policy in [OnLoss::FailClosed, grace, OnLoss::Introspect] {
        let clock = later();
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let listener = move |event: &Event| {
            let name = match event {
                Event::FeedLoaded { .. } => "loaded",
                Event::FeedLost { .. } => "lost",
                Event::FeedLive { .. } => "live",
                _ => return,
            };
            heard.lock().unwrap().push(name);
        };
        let builder = options(&issuer, Mode::Feed).on_loss(policy).clock(clock.clone());
        let verifier = ready(builder.on_event(listener)).await;
        assert_eq!(told(&verifier, &token).await, Ok(()), "it has the keys");
        let before = issuer.asked("stream");
        issuer.change(|inner| inner.down = true);
        while issuer.asked("stream") == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Of the 45 s some have really passed.
        clock.advance(35);
        assert_eq!(told(&verifier, &token).await, Ok(()), "{policy:?}");
        clock.advance(11);
        match policy {
            OnLoss::FailClosed => assert_eq!(told(&verifier, &token).await, lost),
            OnLoss::Grace(_) => {
                assert_eq!(told(&verifier, &token).await, Ok(()));
                clock.advance(60);
                assert_eq!(told(&verifier, &token).await, lost);
            }
            OnLoss::Introspect => {
                let failed = Err((Code::Unavailable, "introspection failed"));
                assert_eq!(told(&verifier, &token).await, failed);
            }
        }
        assert_eq!(told(&verifier, &issuer.token("dead")).await, REVOKED, "known, so it stays");
        issuer.change(|inner| inner.down = false);
        until(&verifier, &token, Ok(())).await;
        assert_eq!(*events.lock().unwrap(), ["loaded", "lost", "live"]);
    }
}

#[tokio::test]
async fn a_large_snapshot_is_loaded_at_once_and_forgotten_at_its_end() {
    let issuer = TestIssuer::start().await;
    issuer.change(|inner| {
        inner.entries = (0..20_000)
            .map(|n| json!({"k": "jti", "h": half(&n.to_string()), "exp": now() + 360}))
            .collect();
    });
    let verifier = ready(options(&issuer, Mode::Feed)).await;
    assert_eq!(verifier.health()[0].entries, 20_000);
    assert_eq!(told(&verifier, &issuer.token("19999")).await, REVOKED);
    assert_eq!(told(&verifier, &issuer.token("20000")).await, Ok(()));
}

#[test]
fn entries_are_kept_to_their_end_and_joined() {
    use crate::revoked::{RevokedSet, Wire, keys_of};
    let wire = |value| serde_json::from_value::<Wire>(value).unwrap();
    let entry = |exp: i64| wire(json!({"k": "jti", "h": half("a"), "exp": exp}));
    let keys = keys_of(json!({"jti": "a"}).as_object().unwrap(), None);
    let mut set = RevokedSet::default();
    set.add(vec![entry(100), entry(200), entry(150)]).unwrap();
    assert_eq!(set.size(), 1, "the same entry, however often it comes");
    set.forget(199);
    assert!(set.matches(&keys, 0.0, &[]));
    set.forget(200);
    assert!(!set.matches(&keys, 0.0, &[]));
    assert_eq!(set.size(), 0);
    for bad in [
        json!({"k": "jti", "exp": 1}),
        json!({"k": "tenant", "h": half("a"), "exp": 1}),
        json!({"k": "jti", "h": "short", "exp": 1}),
    ] {
        assert!(set.add(vec![entry(300), wire(bad.clone())]).is_err(), "{bad}");
        assert_eq!(set.size(), 0, "all of a page or nothing");
    }
}

#[test]
fn events_are_read_however_they_are_cut() {
    use crate::sse::{Parser, Said};
    let text =
        ": 1\r\n\r\nretry: 250\nevent: revoked\nid: 1.2\ndata: {\"a\":\ndata: 1}\n\nid: x\n\n: 2\n";
    let event = Said::Event {
        name: "revoked".to_owned(),
        data: "{\"a\":\n1}".to_owned(),
        id: Some("1.2".to_owned()),
    };
    let wanted = [Said::Comment, Said::Retry(250), event, Said::Comment];
    for size in 1..text.len() {
        let mut parser = Parser::default();
        let chunks = text.as_bytes().chunks(size);
        let said: Vec<_> = chunks.flat_map(|chunk| parser.push(chunk, 100).unwrap()).collect();
        assert_eq!(said, wanted, "{size}");
    }
    assert!(Parser::default().push(&[b'x'; 101], 100).is_none());
}
