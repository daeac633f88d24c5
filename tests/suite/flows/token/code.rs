use std::time::Duration;

use pmp_auth::base::Clock as _;
use pmp_auth::oauth::Cause;
use serde_json::json;

use super::house::{API, Asked, CALLBACK, FILES, House, NOBODY, VERIFIER, Who, basic, claims};
use crate::support::engines::Bed;

on_every_engine! {
    a_confidential_client_gets_an_access_token_an_id_token_and_no_refresh_token
    offline_access_or_a_client_that_always_refreshes_gets_a_refresh_token
    a_code_presented_by_another_client_is_denied_and_stays_live
    a_second_valid_use_revokes_what_the_first_one_got
    a_replay_that_is_not_valid_revokes_nothing
    a_code_lives_as_long_as_it_says_and_its_expiry_revokes_nothing
    the_redirect_uri_is_repeated_if_it_was_sent_and_only_then
    a_challenge_needs_its_verifier_and_a_verifier_its_challenge
    the_sixth_wrong_verifier_of_the_right_confidential_client_kills_the_code
    guesses_for_a_public_client_slow_the_guesser_down_and_leave_the_code_alone
    a_token_that_is_not_offline_ends_with_its_session
    a_code_that_was_changed_in_any_way_is_unknown
    a_resource_must_be_granted_and_a_refusal_does_not_spend_the_code
    a_scope_in_the_token_request_adds_nothing
    what_ended_between_authorize_and_token_stays_ended
    a_lost_answer_is_given_again_where_the_tenant_allows_it
    one_of_many_redeemers_wins_and_the_others_end_it
}

async fn a_confidential_client_gets_an_access_token_an_id_token_and_no_refresh_token(bed: Bed) {
    let house = House::new(&bed).await;
    let code = house.code(&Asked::by("web")).await;
    let got = house.token(basic("web"), &House::redeem_form(&code)).await.unwrap();
    assert_eq!(got["token_type"], "Bearer");
    assert_eq!(got["expires_in"], 600);
    assert_eq!(got["scope"], "openid read");
    assert!(got.get("refresh_token").is_none());

    let access = claims(&got["access_token"]);
    assert_eq!(access["sub"], house.ada.to_string());
    assert_eq!(access["client_id"], "web");
    assert_eq!(access["aud"], house.tenant.settings.default_audience);
    assert_eq!(access["sid"], house.session.to_string());
    let id = claims(&got["id_token"]);
    assert_eq!(id["aud"], "web");
    assert_eq!(id["nonce"], "n-0S6_WzA2Mj");
    assert_eq!(id["sub"], access["sub"]);
    assert_eq!(id["sid"], access["sid"]);
    assert_eq!(id["amr"], json!(["pwd"]));
    assert!(id["at_hash"].is_string() && id["auth_time"].is_i64());
}

async fn offline_access_or_a_client_that_always_refreshes_gets_a_refresh_token(bed: Bed) {
    let house = House::new(&bed).await;
    for asked in [Asked::offline("spa"), Asked::by("app")] {
        let code = house.code(&asked).await;
        let form = format!("{}&client_id={}", House::redeem_form(&code), asked.client);
        let got = house.token(NOBODY, &form).await.unwrap();
        assert!(got["refresh_token"].as_str().unwrap().starts_with("pmp_rt_"));
        assert_eq!(claims(&got["access_token"])["gen"], 1);
    }
}

async fn a_code_presented_by_another_client_is_denied_and_stays_live(bed: Bed) {
    let house = House::new(&bed).await;
    let code = house.code(&Asked::by("web")).await;
    let form = House::redeem_form(&code);
    let stranger = format!("{form}&client_id=spa");
    assert_eq!(house.token(NOBODY, &stranger).await.unwrap_err(), "400 invalid_grant");
    assert!(house.token(basic("web"), &form).await.is_ok());
}

async fn a_second_valid_use_revokes_what_the_first_one_got(bed: Bed) {
    let house = House::new(&bed).await;
    let code = house.code(&Asked::offline("web")).await;
    let form = House::redeem_form(&code);
    let got = house.token(basic("web"), &form).await.unwrap();
    assert!(house.is_active(basic("web"), &got["access_token"]).await);
    let error = house.answer(basic("web"), &form).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::CodeReplayed { .. }), "{error}");
    assert!(!house.is_active(basic("web"), &got["access_token"]).await);
    assert!(!house.is_active(basic("web"), &got["refresh_token"]).await);
    // So late that the code would have expired unused: it is still a replay.
    house.advance(Duration::from_hours(1)).await;
    let error = house.answer(basic("web"), &form).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::CodeReplayed { .. }), "{error}");
}

async fn a_replay_that_is_not_valid_revokes_nothing(bed: Bed) {
    let house = House::new(&bed).await;
    let code = house.code(&Asked::by("web")).await;
    let form = House::redeem_form(&code);
    let got = house.token(basic("web"), &form).await.unwrap();
    let wrong_verifier = form.replace("dBj", "dBk");
    assert_eq!(house.token(basic("web"), &wrong_verifier).await.unwrap_err(), "400 invalid_grant");
    let wrong_secret = Who { basic: Some(("web", "guess")), ..NOBODY };
    assert_eq!(house.token(wrong_secret, &form).await.unwrap_err(), "401 invalid_client");
    let elsewhere = form.replace("/callback", "/other");
    assert_eq!(house.token(basic("web"), &elsewhere).await.unwrap_err(), "400 invalid_grant");
    assert!(house.is_active(basic("web"), &got["access_token"]).await);
}

async fn a_code_lives_as_long_as_it_says_and_its_expiry_revokes_nothing(bed: Bed) {
    let house = House::new(&bed).await;
    let (early, late) = (house.code(&Asked::by("web")).await, house.code(&Asked::by("web")).await);
    house.advance(Duration::from_secs(59)).await;
    assert!(house.token(basic("web"), &House::redeem_form(&early)).await.is_ok());
    house.advance(Duration::from_secs(2)).await;
    let error = house.answer(basic("web"), &House::redeem_form(&late)).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::CodeExpired), "{error}");
}

async fn the_redirect_uri_is_repeated_if_it_was_sent_and_only_then(bed: Bed) {
    let house = House::new(&bed).await;
    let bare = format!("grant_type=authorization_code&code_verifier={VERIFIER}&code=");
    let sent = house.code(&Asked::by("web")).await;
    let other = format!("{bare}{sent}&redirect_uri=https://app.test/other");
    for form in [format!("{bare}{sent}"), other] {
        assert_eq!(house.token(basic("web"), &form).await.unwrap_err(), "400 invalid_grant");
    }
    let implied = house.code(&Asked { redirect_uri_sent: false, ..Asked::by("web") }).await;
    assert!(house.token(basic("web"), &format!("{bare}{implied}")).await.is_ok());
    let repeated = house.code(&Asked { redirect_uri_sent: false, ..Asked::by("web") }).await;
    let form = format!("{bare}{repeated}&redirect_uri={CALLBACK}");
    assert!(house.token(basic("web"), &form).await.is_ok());
}

async fn a_challenge_needs_its_verifier_and_a_verifier_its_challenge(bed: Bed) {
    let house = House::new(&bed).await;
    let challenged = house.code(&Asked::by("web")).await;
    let bare =
        |code: &str| format!("grant_type=authorization_code&redirect_uri={CALLBACK}&code={code}");
    for verifier in
        ["", "&code_verifier=", "&code_verifier=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"]
    {
        let form = format!("{}{verifier}", bare(&challenged));
        assert_eq!(house.token(basic("web"), &form).await.unwrap_err(), "400 invalid_grant");
    }
    let plain = house.code(&Asked { challenge: false, ..Asked::by("web") }).await;
    let unasked = House::redeem_form(&plain);
    assert_eq!(house.token(basic("web"), &unasked).await.unwrap_err(), "400 invalid_grant");
    assert!(house.token(basic("web"), &bare(&plain)).await.is_ok());
}

async fn the_sixth_wrong_verifier_of_the_right_confidential_client_kills_the_code(bed: Bed) {
    let house = House::new(&bed).await;
    for (wrong, survives) in [(4, true), (6, false)] {
        let code = house.code(&Asked::by("web")).await;
        let form = House::redeem_form(&code);
        for _ in 0..wrong {
            let refused = house.token(basic("web"), &form.replace("dBj", "dBk")).await;
            assert_eq!(refused.unwrap_err(), "400 invalid_grant");
        }
        assert_eq!(house.token(basic("web"), &form).await.is_ok(), survives, "after {wrong}");
    }
}

async fn guesses_for_a_public_client_slow_the_guesser_down_and_leave_the_code_alone(bed: Bed) {
    let house = House::new(&bed).await;
    let code = house.code(&Asked::by("spa")).await;
    let form = format!("{}&client_id=spa", House::redeem_form(&code));
    let wrong = form.replace("dBj", "dBk");
    let mut refusals = Vec::new();
    for _ in 0..21 {
        refusals.push(house.token(NOBODY, &wrong).await.unwrap_err());
    }
    assert_eq!(refusals[19], "400 invalid_grant");
    assert_eq!(refusals[20], "429 temporarily_unavailable");
    let elsewhere = Who { ip: "192.0.2.2", ..NOBODY };
    assert!(house.token(elsewhere, &form).await.is_ok());
}

async fn a_token_that_is_not_offline_ends_with_its_session(bed: Bed) {
    let house = House::new(&bed).await;
    let session_ends = Some(house.clock.now().plus(Duration::from_secs(50)));
    for (asked, lifetime) in [(Asked::by("web"), 50), (Asked::offline("web"), 600)] {
        let code = house.code(&Asked { session_ends, ..asked }).await;
        let got = house.token(basic("web"), &House::redeem_form(&code)).await.unwrap();
        assert!(got["expires_in"].as_u64().unwrap().abs_diff(lifetime) <= 1, "{got}");
    }
    let code = house.code(&Asked { session_ends, ..Asked::by("web") }).await;
    house.advance(Duration::from_secs(50)).await;
    let error = house.answer(basic("web"), &House::redeem_form(&code)).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::CodeExpired), "{error}");
}

async fn a_code_that_was_changed_in_any_way_is_unknown(bed: Bed) {
    let house = House::new(&bed).await;
    let code = house.code(&Asked::by("web")).await;
    let form = House::redeem_form(&code);
    let other = if code.ends_with('x') { 'y' } else { 'x' };
    let flipped = format!("{}{other}", &code[..code.len() - 1]);
    let upper = code.to_uppercase();
    for other in
        [&flipped, &code[..code.len() - 1], &format!("{code}A"), &format!("{code}%20"), &upper]
    {
        let form = form.replace(&code, other);
        assert_eq!(house.token(basic("web"), &form).await.unwrap_err(), "400 invalid_grant");
    }
    assert!(house.token(basic("web"), &form).await.is_ok());
}

async fn a_resource_must_be_granted_and_a_refusal_does_not_spend_the_code(bed: Bed) {
    let house = House::new(&bed).await;
    let both = Asked { scope: "openid read files", resources: &[API, FILES], ..Asked::by("web") };
    let code = house.code(&both).await;
    let form = House::redeem_form(&code);
    let foreign = format!("{form}&resource=https://not-granted.test");
    assert_eq!(house.token(basic("web"), &foreign).await.unwrap_err(), "400 invalid_target");
    assert_eq!(house.token(basic("web"), &form).await.unwrap_err(), "400 invalid_target", "two");
    let got = house.token(basic("web"), &format!("{form}&resource={FILES}")).await.unwrap();
    assert_eq!(got["scope"], "openid files");
    assert_eq!(claims(&got["access_token"])["aud"], FILES);
}

async fn a_scope_in_the_token_request_adds_nothing(bed: Bed) {
    let house = House::new(&bed).await;
    let code = house.code(&Asked::by("web")).await;
    let form = format!("{}&scope=openid+write+admin", House::redeem_form(&code));
    assert_eq!(house.token(basic("web"), &form).await.unwrap()["scope"], "openid read");
}

async fn what_ended_between_authorize_and_token_stays_ended(bed: Bed) {
    use pmp_auth::model::ClientId;
    use pmp_auth::storage::{EndReason, EndSession, SetClientState};
    let house = House::new(&bed).await;
    let code = house.code(&Asked::by("web")).await;
    let ended = house
        .change(async |tenant, change| {
            tenant.store.end_session(house.session, EndReason::Logout, change).await
        })
        .await;
    assert_eq!(ended.unwrap(), EndSession::Ended);
    let form = House::redeem_form(&code);
    assert_eq!(house.token(basic("web"), &form).await.unwrap_err(), "400 invalid_grant");

    let disabled = house
        .change(async |tenant, change| {
            tenant.store.set_client_disabled(&ClientId::new("web"), true, change).await
        })
        .await;
    assert_eq!(disabled.unwrap(), SetClientState::Changed);
    assert_eq!(house.token(basic("web"), &form).await.unwrap_err(), "401 invalid_client");
}

async fn a_lost_answer_is_given_again_where_the_tenant_allows_it(bed: Bed) {
    let house = House::with(&bed, "code_retry: 2s").await;
    let code = house.code(&Asked::offline("web")).await;
    let form = House::redeem_form(&code);
    let first = house.token(basic("web"), &form).await.unwrap();
    house.advance(Duration::from_secs(1)).await;
    let again = house.token(basic("web"), &form).await.unwrap();
    assert_eq!(again["refresh_token"], first["refresh_token"]);
    assert_ne!(again["access_token"], first["access_token"]);
    house.advance(Duration::from_secs(2)).await;
    assert_eq!(house.token(basic("web"), &form).await.unwrap_err(), "400 invalid_grant");
    assert!(!house.is_active(basic("web"), &first["access_token"]).await);
}

async fn one_of_many_redeemers_wins_and_the_others_end_it(bed: Bed) {
    let house = std::sync::Arc::new(House::new(&bed).await);
    let form = House::redeem_form(&house.code(&Asked::offline("web")).await);
    let tries = (0..50).map(|_| {
        let (house, form) = (std::sync::Arc::clone(&house), form.clone());
        tokio::spawn(async move { house.token(basic("web"), &form).await })
    });
    let mut won = Vec::new();
    for answer in tries.collect::<Vec<_>>() {
        match answer.await.unwrap() {
            Ok(tokens) => won.push(tokens),
            Err(error) => assert_eq!(error, "400 invalid_grant"),
        }
    }
    assert_eq!(won.len(), 1);
    assert!(!house.is_active(basic("web"), &won[0]["access_token"]).await);
}
