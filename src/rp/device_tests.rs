use super::*;
use serde_json::json;

const S: fn(u64) -> Duration = Duration::from_secs;

fn answer(status: u16, body: &Value) -> Answer {
    Answer { status, retry_after: None, body: body.to_string().into_bytes() }
}

#[test]
fn slow_down_adds_five_seconds_for_good() {
    let mut pace = Pace::new(S(5));
    assert_eq!(pace.pause(&Poll::Pending, S(0)), S(5));
    assert_eq!(pace.pause(&Poll::SlowDown, S(0)), S(10));
    assert_eq!(pace.pause(&Poll::Pending, S(0)), S(10));
    assert_eq!(pace.pause(&Poll::SlowDown, S(0)), S(15));
}

#[test]
fn a_poll_that_the_server_held_is_followed_by_the_next_at_once() {
    let mut pace = Pace::new(S(5));
    assert_eq!(pace.pause(&Poll::Pending, S(25)), S(0));
    assert_eq!(pace.pause(&Poll::Pending, S(4)), S(5), "an older poll that was sent away");
    assert_eq!(pace.pause(&Poll::SlowDown, S(25)), S(10));
}

#[test]
fn trouble_doubles_the_pause_until_there_is_an_answer() {
    let mut pace = Pace::new(S(5));
    let trouble = || Poll::Trouble { not_before: S(0) };
    let pauses: Vec<_> = (0..6).map(|_| pace.pause(&trouble(), S(0)).as_secs()).collect();
    assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
    assert_eq!(pace.pause(&Poll::Trouble { not_before: S(90) }, S(0)), S(90), "Retry-After");
    assert_eq!(pace.pause(&Poll::Pending, S(0)), S(5));
    assert_eq!(pace.pause(&trouble(), S(0)), S(5));
}

#[test]
fn an_interval_of_nothing_is_no_busy_loop() {
    assert_eq!(Pace::new(S(0)).pause(&Poll::Pending, S(0)), S(1));
}

#[test]
fn the_errors_of_rfc_8628_are_states_and_others_are_errors() {
    let of = |code: &str| outcome(&answer(400, &json!({ "error": code })));
    assert!(matches!(of("authorization_pending"), Ok(Poll::Pending)));
    assert!(matches!(of("slow_down"), Ok(Poll::SlowDown)));
    assert!(matches!(of("access_denied"), Ok(Poll::Decided(Decision::Denied))));
    assert!(matches!(of("expired_token"), Ok(Poll::Decided(Decision::Expired))));
    assert!(matches!(of("invalid_grant"), Err(DeviceError::Refused { .. })));
    assert!(matches!(outcome(&answer(404, &Value::Null)), Err(DeviceError::Unexpected(_))));
    for status in [429, 500, 503] {
        let said = outcome(&answer(status, &Value::Null));
        assert!(matches!(said, Ok(Poll::Trouble { .. })), "{status}");
    }
    // Google answers slow_down with 403 and authorization_pending with 428.
    assert!(matches!(
        outcome(&answer(428, &json!({"error": "authorization_pending"}))),
        Ok(Poll::Pending)
    ));
}

#[test]
fn a_token_of_a_type_that_we_do_not_understand_is_not_used() {
    assert!(tokens(&json!({"access_token": "a", "token_type": "DPoP"})).is_err());
    assert!(tokens(&json!({"access_token": "a"})).is_err());
    let tokens = tokens(&json!({"access_token": "a", "token_type": "bearer", "expires_in": "60"}));
    assert_eq!(tokens.unwrap().expires_in, Some(S(60)));
}

#[test]
fn an_early_drafts_name_of_the_address_is_understood() {
    let body = json!({"device_code": "d", "user_code": "U", "expires_in": 600,
        "verification_url": "https://google.example/device"});
    let codes = codes(&body, Secret::new(String::new())).unwrap();
    assert_eq!(codes.verification_uri, "https://google.example/device");
    assert_eq!(codes.link(), "https://google.example/device");
    assert_eq!(codes.interval, S(5));
}

#[test]
fn addresses_that_are_none_are_not_shown() {
    for uri in ["javascript:alert(1)", "https://a/\u{1b}[2J", "ftp://a/", ""] {
        let body = json!({"device_code": "d", "user_code": "U", "expires_in": 600,
            "verification_uri": uri});
        assert!(codes(&body, Secret::new(String::new())).is_err(), "{uri:?}");
    }
}

#[test]
fn both_halves_of_basic_are_encoded_first() {
    let header = basic("a:b", &Secret::new("c d".to_owned()));
    assert_eq!(header, format!("Basic {}", base64::encode("a%3Ab:c+d")));
}
