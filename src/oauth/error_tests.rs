use std::time::Duration;

use super::*;
use crate::model::GrantId;

fn every_cause() -> Vec<Cause> {
    let grant = GrantId(uuid::Uuid::nil());
    let retry_after = Duration::from_millis(1_500);
    vec![
        Cause::Params(InvalidParams::Repeated("code".into())),
        Cause::Params(InvalidParams::Malformed),
        Cause::Params(InvalidParams::TooMany),
        Cause::InQuery,
        Cause::NotAForm,
        Cause::Missing("code"),
        Cause::UnsupportedGrantType,
        Cause::GrantNotAllowed("refresh_token"),
        Cause::PublicClientCredentials,
        Cause::NoClient,
        Cause::NoSecret,
        Cause::UnknownClient,
        Cause::WrongSecret,
        Cause::WrongMethod(AuthMethod::ClientSecretBasic),
        Cause::WrongMethod(AuthMethod::None),
        Cause::ClientDisabled,
        Cause::MalformedBasic,
        Cause::Assertion,
        Cause::TwoMethods,
        Cause::TwoClients,
        Cause::PublicClient,
        Cause::MalformedCode,
        Cause::UnknownCode,
        Cause::ForeignCode,
        Cause::RedirectUriMissing,
        Cause::RedirectUriDiffers,
        Cause::VerifierMissing,
        Cause::VerifierWrong,
        Cause::VerifierWithoutChallenge,
        Cause::CodeExpired,
        Cause::CodeReplayed { grant },
        Cause::CodeDead,
        Cause::CodeRevoked,
        Cause::ChallengeMethod,
        Cause::ChallengeMalformed,
        Cause::Unfit("nonce"),
        Cause::AuthorizationPending,
        Cause::SlowDown,
        Cause::DeviceDenied,
        Cause::DeviceExpired,
        Cause::MalformedDeviceCode,
        Cause::UnknownDeviceCode,
        Cause::DeviceRedeemed,
        Cause::DeviceRevoked,
        Cause::MalformedRefresh,
        Cause::UnknownRefresh,
        Cause::ForeignRefresh,
        Cause::BadMac,
        Cause::RefreshReused { grant },
        Cause::RefreshForged { grant },
        Cause::RefreshExpired,
        Cause::RefreshRevoked,
        Cause::TokenType("subject_token_type"),
        Cause::SubjectToken(KeyRefusal::Unknown),
        Cause::NotExchangeable,
        Cause::ScopeMalformed,
        Cause::ScopeTooWide,
        Cause::ScopeEmpty,
        Cause::TargetNotAllowed,
        Cause::TargetAmbiguous,
        Cause::TooMany { retry_after },
        Cause::MintingBlocked { retry_after },
        Cause::UnknownRingKey(7),
        Cause::Store(StoreError::unavailable("gone")),
        Cause::Store(StoreError::unknown("lost")),
        Cause::GrantRefused,
        Cause::Engine,
    ]
}

#[test]
fn the_code_and_status_of_every_cause_are_these() {
    let table: Vec<String> = every_cause()
        .into_iter()
        .map(|cause| {
            let name = format!("{cause:?}");
            let name = name.split(['(', ' ']).next().unwrap_or_default().to_owned();
            let error = TokenError::from(cause);
            format!("{} {} {name}", error.status(), error.code().as_str())
        })
        .collect();
    assert_eq!(table, ANSWERS);
}

/// The contract with clients: a change here is a change of the protocol.
const ANSWERS: &[&str] = &[
    "400 invalid_request Params",
    "400 invalid_request Params",
    "400 invalid_request Params",
    "400 invalid_request InQuery",
    "400 invalid_request NotAForm",
    "400 invalid_request Missing",
    "400 unsupported_grant_type UnsupportedGrantType",
    "400 unauthorized_client GrantNotAllowed",
    "400 unauthorized_client PublicClientCredentials",
    "401 invalid_client NoClient",
    "401 invalid_client NoSecret",
    "401 invalid_client UnknownClient",
    "401 invalid_client WrongSecret",
    "401 invalid_client WrongMethod",
    "401 invalid_client WrongMethod",
    "401 invalid_client ClientDisabled",
    "401 invalid_client MalformedBasic",
    "401 invalid_client Assertion",
    "400 invalid_request TwoMethods",
    "400 invalid_request TwoClients",
    "401 invalid_client PublicClient",
    "400 invalid_grant MalformedCode",
    "400 invalid_grant UnknownCode",
    "400 invalid_grant ForeignCode",
    "400 invalid_grant RedirectUriMissing",
    "400 invalid_grant RedirectUriDiffers",
    "400 invalid_grant VerifierMissing",
    "400 invalid_grant VerifierWrong",
    "400 invalid_grant VerifierWithoutChallenge",
    "400 invalid_grant CodeExpired",
    "400 invalid_grant CodeReplayed",
    "400 invalid_grant CodeDead",
    "400 invalid_grant CodeRevoked",
    "400 invalid_request ChallengeMethod",
    "400 invalid_request ChallengeMalformed",
    "400 invalid_request Unfit",
    "400 authorization_pending AuthorizationPending",
    "400 slow_down SlowDown",
    "400 access_denied DeviceDenied",
    "400 expired_token DeviceExpired",
    "400 invalid_grant MalformedDeviceCode",
    "400 invalid_grant UnknownDeviceCode",
    "400 invalid_grant DeviceRedeemed",
    "400 invalid_grant DeviceRevoked",
    "400 invalid_grant MalformedRefresh",
    "400 invalid_grant UnknownRefresh",
    "400 invalid_grant ForeignRefresh",
    "400 invalid_grant BadMac",
    "400 invalid_grant RefreshReused",
    "400 invalid_grant RefreshForged",
    "400 invalid_grant RefreshExpired",
    "400 invalid_grant RefreshRevoked",
    "400 invalid_request TokenType",
    "400 invalid_request SubjectToken",
    "400 invalid_request NotExchangeable",
    "400 invalid_scope ScopeMalformed",
    "400 invalid_scope ScopeTooWide",
    "400 invalid_scope ScopeEmpty",
    "400 invalid_target TargetNotAllowed",
    "400 invalid_target TargetAmbiguous",
    "429 temporarily_unavailable TooMany",
    "503 temporarily_unavailable MintingBlocked",
    "503 temporarily_unavailable UnknownRingKey",
    "503 temporarily_unavailable Store",
    "503 temporarily_unavailable Store",
    "400 invalid_grant GrantRefused",
    "500 server_error Engine",
];

#[test]
fn descriptions_stay_within_the_characters_of_the_rfc() {
    for cause in every_cause() {
        let error = TokenError::from(cause);
        let text = error.description();
        assert!(!text.is_empty(), "{error:?}");
        // RFC 6749 §5.2: %x20-21 / %x23-5B / %x5D-7E.
        assert!(
            text.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)),
            "{text}"
        );
    }
}

#[test]
fn an_unknown_client_and_a_wrong_secret_read_the_same() {
    let (unknown, wrong) =
        (TokenError::from(Cause::UnknownClient), TokenError::from(Cause::WrongSecret));
    assert_eq!(unknown.description(), wrong.description());
    assert_eq!((unknown.code(), unknown.status()), (wrong.code(), wrong.status()));
}

#[test]
fn what_may_be_tried_again_says_when() {
    let limited = TokenError::from(Cause::TooMany { retry_after: Duration::from_millis(1_500) });
    assert_eq!(limited.retry_after(), Some(2));
    assert_eq!(
        TokenError::from(Cause::Store(StoreError::unavailable("gone"))).retry_after(),
        Some(1)
    );
    assert_eq!(TokenError::from(Cause::UnknownCode).retry_after(), None);
}

#[test]
fn basic_is_challenged_only_when_it_was_tried_and_failed() {
    assert!(TokenError::from(Cause::WrongSecret).over_basic().challenges_basic());
    assert!(!TokenError::from(Cause::WrongSecret).challenges_basic());
    assert!(!TokenError::from(Cause::UnknownCode).over_basic().challenges_basic());
}
