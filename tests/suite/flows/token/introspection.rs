use std::time::Duration;

use pmp_auth::base::Clock as _;
use pmp_auth::model::{Audit, ClientId, Revocation, RevocationKey};
use serde_json::{Value, json};

use super::house::{API, Asked, FILES, House, NOBODY, Who, basic};
use crate::support::engines::Bed;

on_every_engine! {
    the_resource_it_is_for_and_its_own_client_learn_of_a_token_and_nobody_else
    the_caller_proves_itself_by_a_secret
    what_is_no_live_token_of_ours_is_inactive
    a_refresh_token_is_its_own_clients_business
    a_client_that_was_disabled_takes_its_tokens_along
    of_two_not_befores_the_later_one_counts
    a_view_that_is_too_old_does_not_guess
}

async fn for_api(house: &House, client: &str) -> Value {
    let form = format!("grant_type=client_credentials&scope=read&resource={API}");
    house.token(basic(client), &form).await.unwrap()["access_token"].clone()
}

async fn the_resource_it_is_for_and_its_own_client_learn_of_a_token_and_nobody_else(bed: Bed) {
    let house = House::new(&bed).await;
    let token = for_api(&house, "worker").await;
    let shown = house.introspect(basic("api"), token.as_str().unwrap()).await.unwrap();
    assert_eq!(shown["active"], true);
    assert_eq!((&shown["client_id"], &shown["sub"]), (&json!("worker"), &json!("worker")));
    assert_eq!((&shown["aud"], &shown["scope"]), (&json!(API), &json!("read")));
    assert_eq!(shown["iss"], house.tenant.settings.issuer);
    assert_eq!(shown["token_type"], "Bearer");
    assert!(house.is_active(basic("worker"), &token).await);
    assert!(!house.is_active(basic("web"), &token).await);

    let form = format!("grant_type=client_credentials&scope=read&resource={FILES}");
    let files = house.token(basic("worker"), &form).await.unwrap();
    assert!(!house.is_active(basic("api"), &files["access_token"]).await);
}

async fn the_caller_proves_itself_by_a_secret(bed: Bed) {
    let house = House::new(&bed).await;
    let token = for_api(&house, "worker").await;
    let token = token.as_str().unwrap();
    assert_eq!(house.introspect(NOBODY, token).await.unwrap_err(), "401 invalid_client");
    let wrong = Who { basic: Some(("api", "guess")), ..NOBODY };
    assert_eq!(house.introspect(wrong, token).await.unwrap_err(), "401 invalid_client");
}

async fn what_is_no_live_token_of_ours_is_inactive(bed: Bed) {
    let house = House::new(&bed).await;
    let token = for_api(&house, "worker").await;
    let other = token.as_str().unwrap();
    let (head, signature) = other.rsplit_once('.').unwrap();
    let swapped = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for bad in ["x", "a.b.c", "pmp_at_x", "pmp_rt_x", &swapped, &format!("{other}="), head] {
        let answer = house.introspect(basic("api"), bad).await.unwrap();
        assert_eq!(answer, json!({"active": false}), "{bad}");
    }
    house.advance(Duration::from_secs(601)).await;
    assert!(!house.is_active(basic("api"), &token).await);
}

async fn a_refresh_token_is_its_own_clients_business(bed: Bed) {
    let house = House::new(&bed).await;
    let code = house.code(&Asked::offline("web")).await;
    let tokens = house.token(basic("web"), &House::redeem_form(&code)).await.unwrap();
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let shown = house.introspect(basic("web"), refresh).await.unwrap();
    assert_eq!(shown["active"], true);
    assert_eq!(shown["scope"], "openid read offline_access");
    assert!(shown.get("token_type").is_none() && shown.get("aud").is_none());
    for other in ["api", "worker"] {
        assert!(!house.is_active(basic(other), &tokens["refresh_token"]).await);
    }
}

async fn a_client_that_was_disabled_takes_its_tokens_along(bed: Bed) {
    let house = House::new(&bed).await;
    let token = for_api(&house, "worker").await;
    assert!(house.is_active(basic("api"), &token).await);
    let _ = house
        .change(async |tenant, change| {
            tenant.store.set_client_disabled(&ClientId::new("worker"), true, change).await
        })
        .await
        .unwrap();
    assert!(!house.is_active(basic("api"), &token).await);
    house.advance(Duration::from_secs(30)).await;
    let _ = house
        .change(async |tenant, change| {
            tenant.store.set_client_disabled(&ClientId::new("worker"), false, change).await
        })
        .await
        .unwrap();
    assert!(!house.is_active(basic("api"), &token).await, "enabling brings nothing back");
    let new = for_api(&house, "worker").await;
    assert!(house.is_active(basic("api"), &new).await);
}

async fn of_two_not_befores_the_later_one_counts(bed: Bed) {
    let house = House::new(&bed).await;
    house.advance(Duration::from_secs(100)).await;
    let token = for_api(&house, "worker").await;
    let now = house.clock.now();
    let not_before = |key, at| Revocation {
        key,
        audience: None,
        not_before: Some(at),
        expires_at: now.plus(Duration::from_hours(1)),
        at: now,
    };
    let long_ago = not_before(RevocationKey::Tenant, now.minus(Duration::from_secs(50)));
    let just_now = not_before(RevocationKey::Client("worker".into()), now);
    let entries = [long_ago, just_now];
    let audit = Audit::default();
    house.tenant.store.append_revocations(&entries[..1], now, &audit).await.unwrap();
    assert!(house.is_active(basic("api"), &token).await);
    house.tenant.store.append_revocations(&entries[1..], now, &audit).await.unwrap();
    assert!(!house.is_active(basic("api"), &token).await);
}

async fn a_view_that_is_too_old_does_not_guess(bed: Bed) {
    let house = House::new(&bed).await;
    let token = for_api(&house, "worker").await;
    // The view is not synced here; the store is asked instead, and it answers.
    house.clock.advance(Duration::from_mins(1));
    assert!(house.is_active(basic("api"), &token).await);
}
