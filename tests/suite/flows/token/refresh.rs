use std::sync::Arc;
use std::time::Duration;

use pmp_auth::model::ClientId;
use pmp_auth::oauth::Cause;
use pmp_auth::storage::{ChangeUser, SetClientState};
use serde_json::Value;

use super::house::{API, Asked, FILES, House, NOBODY, Who, basic, claims};
use crate::support::engines::Bed;

on_every_engine! {
    a_refresh_rotates_and_says_the_same_of_the_user
    a_lost_answer_is_repeated_within_the_short_window
    after_that_a_well_kept_token_is_replaced_and_a_browsers_is_reuse
    a_token_that_was_seen_in_use_did_arrive_and_is_not_replaced
    a_token_of_a_client_with_longer_windows_is_seen_as_long_as_they_last
    a_spent_token_ends_the_family_and_no_other
    a_stranger_changes_nothing
    forgeries_have_no_effect_and_are_limited
    a_key_that_storage_knows_and_this_node_lacks_is_our_fault
    a_narrower_scope_is_for_this_once
    what_does_not_fit_spends_nothing_but_a_spent_token_counts_regardless
    each_refresh_may_be_for_another_of_the_granted_resources
    a_token_unused_too_long_or_too_old_is_dead
    it_ends_with_the_user_the_client_or_the_right_to_refresh
    what_the_client_may_no_longer_have_is_gone_at_the_next_refresh
    the_thief_who_keeps_step_is_found_at_the_third
    all_of_many_tabs_get_the_same_successor
    without_windows_the_second_use_is_reuse
}

async fn first(house: &House, asked: &Asked<'_>, who: Who<'_>) -> Value {
    let code = house.code(asked).await;
    let form = format!("{}&client_id={}", House::redeem_form(&code), asked.client);
    house.token(who, &form).await.unwrap()
}

async fn web(house: &House) -> Value {
    first(house, &Asked::offline("web"), basic("web")).await
}

fn form(tokens: &Value) -> String {
    format!("grant_type=refresh_token&refresh_token={}", tokens["refresh_token"].as_str().unwrap())
}

async fn use_up(house: &House, who: Who<'_>, tokens: &Value) -> Result<Value, String> {
    house.token(who, &form(tokens)).await
}

const AN_HOUR: Duration = Duration::from_hours(1);

async fn a_refresh_rotates_and_says_the_same_of_the_user(bed: Bed) {
    let house = House::new(&bed).await;
    let one = web(&house).await;
    house.advance(Duration::from_secs(30)).await;
    let two = use_up(&house, basic("web"), &one).await.unwrap();
    assert_ne!(two["refresh_token"], one["refresh_token"]);
    assert_eq!(two["scope"], "openid read offline_access");
    assert_eq!(claims(&two["access_token"])["gen"], 2);
    let (before, after) = (claims(&one["id_token"]), claims(&two["id_token"]));
    assert_eq!((&after["sub"], &after["auth_time"]), (&before["sub"], &before["auth_time"]));
    assert!(after.get("nonce").is_none(), "OpenID Connect Core §12.2");
    assert!(house.is_active(basic("web"), &one["access_token"]).await, "the old one lives on");
    assert!(house.is_active(basic("web"), &two["refresh_token"]).await);
    assert!(!house.is_active(basic("web"), &one["refresh_token"]).await);
}

async fn a_lost_answer_is_repeated_within_the_short_window(bed: Bed) {
    let house = House::new(&bed).await;
    let one = web(&house).await;
    let two = use_up(&house, basic("web"), &one).await.unwrap();
    house.advance(Duration::from_secs(9)).await;
    let again = use_up(&house, basic("web"), &one).await.unwrap();
    assert_eq!(again["refresh_token"], two["refresh_token"]);
    assert_ne!(again["access_token"], two["access_token"]);
}

async fn after_that_a_well_kept_token_is_replaced_and_a_browsers_is_reuse(bed: Bed) {
    let house = House::new(&bed).await;
    let one = web(&house).await;
    let two = use_up(&house, basic("web"), &one).await.unwrap();
    house.advance(Duration::from_mins(1)).await;
    let three = use_up(&house, basic("web"), &one).await.unwrap();
    assert_ne!(three["refresh_token"], two["refresh_token"]);
    assert!(
        !house.is_active(basic("web"), &two["access_token"]).await,
        "its generation was skipped"
    );
    assert!(house.is_active(basic("web"), &three["access_token"]).await);

    let one = first(&house, &Asked::offline("spa"), NOBODY).await;
    let form = format!("{}&client_id=spa", form(&one));
    house.token(NOBODY, &form).await.unwrap();
    house.advance(Duration::from_mins(1)).await;
    let error = house.answer(NOBODY, &form).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::RefreshReused { .. }), "{error}");
}

async fn a_token_that_was_seen_in_use_did_arrive_and_is_not_replaced(bed: Bed) {
    let house = House::new(&bed).await;
    let one = web(&house).await;
    let two = use_up(&house, basic("web"), &one).await.unwrap();
    assert!(house.is_active(basic("web"), &two["access_token"]).await);
    tokio::time::sleep(Duration::from_millis(50)).await; // the hint is written in the background
    house.advance(Duration::from_mins(1)).await;
    assert_eq!(use_up(&house, basic("web"), &one).await.unwrap_err(), "400 invalid_grant");
}

async fn a_token_of_a_client_with_longer_windows_is_seen_as_long_as_they_last(bed: Bed) {
    let house = House::new(&bed).await;
    let one = first(&house, &Asked::offline("slow"), basic("slow")).await;
    let two = use_up(&house, basic("slow"), &one).await.unwrap();
    house.advance(Duration::from_mins(20)).await;
    assert!(house.is_active(basic("slow"), &two["access_token"]).await);
    tokio::time::sleep(Duration::from_millis(50)).await; // the hint is written in the background
    house.advance(Duration::from_mins(20)).await;
    assert_eq!(use_up(&house, basic("slow"), &one).await.unwrap_err(), "400 invalid_grant");
}

async fn a_spent_token_ends_the_family_and_no_other(bed: Bed) {
    let house = House::new(&bed).await;
    let (one, other) = (web(&house).await, web(&house).await);
    let two = use_up(&house, basic("web"), &one).await.unwrap();
    let three = use_up(&house, basic("web"), &two).await.unwrap();
    let error = house.answer(basic("web"), &form(&one)).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::RefreshReused { .. }), "{error}");
    for dead in [&one["access_token"], &three["access_token"], &three["refresh_token"]] {
        assert!(!house.is_active(basic("web"), dead).await);
    }
    assert!(use_up(&house, basic("web"), &other).await.is_ok());
}

async fn a_stranger_changes_nothing(bed: Bed) {
    let house = House::new(&bed).await;
    let one = web(&house).await;
    let two = use_up(&house, basic("web"), &one).await.unwrap();
    let three = use_up(&house, basic("web"), &two).await.unwrap();
    // `one` is spent: from its own client this would end the family.
    let spa = format!("{}&client_id=spa", form(&one));
    assert_eq!(house.token(NOBODY, &spa).await.unwrap_err(), "400 invalid_grant");
    let wrong = Who { basic: Some(("web", "guess")), ..NOBODY };
    assert_eq!(use_up(&house, wrong, &one).await.unwrap_err(), "401 invalid_client");
    let unproved = format!("{}&client_id=web", form(&one));
    assert_eq!(house.token(NOBODY, &unproved).await.unwrap_err(), "401 invalid_client");
    assert!(use_up(&house, basic("web"), &three).await.is_ok());
}

async fn forgeries_have_no_effect_and_are_limited(bed: Bed) {
    let house = House::new(&bed).await;
    let one = web(&house).await;
    let presented =
        pmp_auth::token::refresh::parse(one["refresh_token"].as_str().unwrap()).unwrap();
    let mut bytes = vec![1, presented.kid];
    bytes.extend(presented.grant.0.as_bytes());
    bytes.extend(presented.generation.to_be_bytes());
    bytes.extend(presented.nonce);
    bytes.extend([0; 32]);
    let forged = pmp_auth::base::CredentialKind::RefreshToken.spell(&bytes);
    let form = format!("grant_type=refresh_token&refresh_token={}", forged.reveal());
    let mut refusals = Vec::new();
    for _ in 0..21 {
        refusals.push(house.token(basic("web"), &form).await.unwrap_err());
    }
    assert_eq!(refusals[19], "400 invalid_grant");
    assert_eq!(refusals[20], "429 temporarily_unavailable");
    assert!(use_up(&house, basic("web"), &one).await.is_ok());
}

async fn a_key_that_storage_knows_and_this_node_lacks_is_our_fault(bed: Bed) {
    let house = House::new(&bed).await;
    let one = web(&house).await;
    let presented =
        pmp_auth::token::refresh::parse(one["refresh_token"].as_str().unwrap()).unwrap();
    let mut bytes = vec![1, 9];
    bytes.extend(presented.grant.0.as_bytes());
    bytes.extend([0; 4 + 8 + 32]);
    let other = pmp_auth::base::CredentialKind::RefreshToken.spell(&bytes);
    let form = format!("grant_type=refresh_token&refresh_token={}", other.reveal());
    assert_eq!(house.token(basic("web"), &form).await.unwrap_err(), "400 invalid_grant");
    let now = pmp_auth::base::Clock::now(&house.clock);
    let _ = house.store.check_ring_key(9, &[1; 32], now).await.unwrap();
    let unavailable = house.answer(basic("web"), &form).await.unwrap_err();
    assert_eq!((unavailable.status(), unavailable.retry_after()), (503, Some(1)));
}

async fn a_narrower_scope_is_for_this_once(bed: Bed) {
    let house = House::new(&bed).await;
    let one = web(&house).await;
    let narrow = house.token(basic("web"), &format!("{}&scope=read", form(&one))).await.unwrap();
    assert_eq!(narrow["scope"], "read");
    assert!(narrow.get("id_token").is_none());
    let full = use_up(&house, basic("web"), &narrow).await.unwrap();
    assert_eq!(full["scope"], "openid read offline_access");
}

async fn what_does_not_fit_spends_nothing_but_a_spent_token_counts_regardless(bed: Bed) {
    let house = House::new(&bed).await;
    let one = web(&house).await;
    let wide = format!("{}&scope=read+write", form(&one));
    let elsewhere = format!("{}&resource={API}", form(&one));
    assert_eq!(house.token(basic("web"), &wide).await.unwrap_err(), "400 invalid_scope");
    assert_eq!(house.token(basic("web"), &elsewhere).await.unwrap_err(), "400 invalid_target");
    let two = use_up(&house, basic("web"), &one).await.unwrap();
    let three = use_up(&house, basic("web"), &two).await.unwrap();
    let error = house.answer(basic("web"), &wide).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::RefreshReused { .. }), "{error}");
    assert_eq!(use_up(&house, basic("web"), &three).await.unwrap_err(), "400 invalid_grant");
}

async fn each_refresh_may_be_for_another_of_the_granted_resources(bed: Bed) {
    let house = House::new(&bed).await;
    let asked =
        Asked { scope: "read files offline_access", resources: &[API, FILES], ..Asked::by("web") };
    let code = house.code(&asked).await;
    let redeem = format!("{}&resource={API}", House::redeem_form(&code));
    let one = house.token(basic("web"), &redeem).await.unwrap();
    let refresh = format!("{}&resource={FILES}", form(&one));
    let two = house.token(basic("web"), &refresh).await.unwrap();
    assert_eq!(claims(&two["access_token"])["aud"], FILES);
    assert_eq!(two["scope"], "files offline_access");
}

async fn a_token_unused_too_long_or_too_old_is_dead(bed: Bed) {
    let house = House::new(&bed).await;
    let idle = web(&house).await;
    house.advance(AN_HOUR * 24 * 30 + Duration::from_secs(1)).await;
    assert_eq!(use_up(&house, basic("web"), &idle).await.unwrap_err(), "400 invalid_grant");

    let mut used = web(&house).await;
    for _ in 0..3 {
        house.advance(AN_HOUR * 24 * 29).await;
        used = use_up(&house, basic("web"), &used).await.unwrap();
    }
    house.advance(AN_HOUR * 24 * 4).await;
    assert_eq!(use_up(&house, basic("web"), &used).await.unwrap_err(), "400 invalid_grant");
}

async fn it_ends_with_the_user_the_client_or_the_right_to_refresh(bed: Bed) {
    let house = House::new(&bed).await;
    let tokens = web(&house).await;
    let disabled = house
        .change(async |tenant, change| {
            tenant.store.set_client_disabled(&ClientId::new("web"), true, change).await
        })
        .await;
    assert_eq!(disabled.unwrap(), SetClientState::Changed);
    assert_eq!(use_up(&house, basic("web"), &tokens).await.unwrap_err(), "401 invalid_client");

    let spa = first(&house, &Asked::offline("spa"), NOBODY).await;
    let ada = house.ada;
    let gone = house
        .change(async |tenant, change| tenant.store.set_user_disabled(ada, true, change).await)
        .await;
    assert_eq!(gone.unwrap(), ChangeUser::Changed);
    assert!(house.user().await.unwrap().disabled);
    let form = format!("{}&client_id=spa", form(&spa));
    // While the not-before lies ahead nothing is minted for the user at all.
    assert_eq!(house.token(NOBODY, &form).await.unwrap_err(), "503 temporarily_unavailable");
    house.advance(Duration::from_secs(11)).await;
    assert_eq!(house.token(NOBODY, &form).await.unwrap_err(), "400 invalid_grant");
}

async fn what_the_client_may_no_longer_have_is_gone_at_the_next_refresh(bed: Bed) {
    let house = House::new(&bed).await;
    let tokens = web(&house).await;
    let shrunk = House::on(Arc::clone(&house.store), house.clock.clone(), |text| {
        text.replacen(
            "email, offline_access, read, write, files],\n",
            "email, offline_access],\n",
            1,
        )
    })
    .await;
    let got = use_up(&shrunk, basic("web"), &tokens).await.unwrap();
    assert_eq!(got["scope"], "openid offline_access");
}

async fn the_thief_who_keeps_step_is_found_at_the_third(bed: Bed) {
    let house = House::new(&bed).await;
    let mut tokens = web(&house).await;
    let thief = Who { ip: "203.0.113.9", agent: "other", ..basic("web") };
    let mut refused = None;
    for generation in 1..=4 {
        match use_up(&house, basic("web"), &tokens).await {
            Ok(next) => {
                let _ = use_up(&house, thief, &tokens).await;
                tokens = next;
            }
            Err(error) => {
                refused = Some((generation, error));
                break;
            }
        }
    }
    assert_eq!(refused, Some((4, "400 invalid_grant".to_owned())));
}

async fn all_of_many_tabs_get_the_same_successor(bed: Bed) {
    let house = Arc::new(House::new(&bed).await);
    let one = web(&house).await;
    let tries = (0..50).map(|_| {
        let (house, one) = (Arc::clone(&house), one.clone());
        tokio::spawn(async move { use_up(&house, basic("web"), &one).await })
    });
    let mut successors = std::collections::BTreeSet::new();
    for answer in tries.collect::<Vec<_>>() {
        successors.insert(answer.await.unwrap().unwrap()["refresh_token"].to_string());
    }
    assert_eq!(successors.len(), 1);
}

async fn without_windows_the_second_use_is_reuse(bed: Bed) {
    let house = House::with(&bed, "lifetimes: {refresh_short_window: 0s}").await;
    let one = web(&house).await;
    use_up(&house, basic("web"), &one).await.unwrap();
    assert_eq!(use_up(&house, basic("web"), &one).await.unwrap_err(), "400 invalid_grant");
}
