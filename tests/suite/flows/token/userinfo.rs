use pmp_auth::storage::ChangeUser;
use serde_json::{Value, json};

use super::house::{Asked, House, basic, claims};
use crate::support::engines::Bed;

on_every_engine! {
    it_shows_what_the_scope_gives_and_always_the_subject
    it_needs_a_live_token_with_openid
    a_disabled_user_is_not_shown
    claims_asked_for_one_by_one_come_where_they_were_asked_for
}

async fn access(house: &House, scope: &str) -> Value {
    let code = house.code(&Asked { scope, ..Asked::by("web") }).await;
    house.token(basic("web"), &House::redeem_form(&code)).await.unwrap()["access_token"].clone()
}

async fn it_shows_what_the_scope_gives_and_always_the_subject(bed: Bed) {
    let house = House::new(&bed).await;
    let bare = house.userinfo(&access(&house, "openid").await).await.unwrap();
    assert_eq!(bare, json!({"sub": house.ada.to_string()}));
    let more = house.userinfo(&access(&house, "openid email").await).await.unwrap();
    assert_eq!(more["email"], format!("{}@acme.test", house.ada));
    assert_eq!(more["email_verified"], true);
    assert!(more.get("name").is_none());
    let all = house.userinfo(&access(&house, "openid profile email").await).await.unwrap();
    assert_eq!(all["name"], "Ada");
}

async fn it_needs_a_live_token_with_openid(bed: Bed) {
    let house = House::new(&bed).await;
    let without = access(&house, "email read").await;
    assert_eq!(house.userinfo(&without).await.unwrap_err(), "403 insufficient_scope");
    for bad in ["x", "a.b.c", "pmp_at_x"] {
        assert_eq!(house.userinfo(&json!(bad)).await.unwrap_err(), "401 invalid_token");
    }
    let worker = house.token(basic("worker"), "grant_type=client_credentials").await.unwrap();
    let refused = house.userinfo(&worker["access_token"]).await.unwrap_err();
    assert_eq!(refused, "403 insufficient_scope");
}

async fn a_disabled_user_is_not_shown(bed: Bed) {
    let house = House::new(&bed).await;
    let token = access(&house, "openid").await;
    let ada = house.ada;
    let changed = house
        .change(async |tenant, change| tenant.store.set_user_disabled(ada, true, change).await)
        .await;
    assert_eq!(changed.unwrap(), ChangeUser::Changed);
    assert!(!house.is_active(basic("web"), &token).await);
    assert_eq!(house.userinfo(&token).await.unwrap_err(), "401 invalid_token");
}

async fn claims_asked_for_one_by_one_come_where_they_were_asked_for(bed: Bed) {
    let house = House::new(&bed).await;
    let wish = json!({"userinfo": {"email": null}, "id_token": {"name": {"essential": true}}});
    let asked = Asked { scope: "openid offline_access", claims: Some(wish), ..Asked::by("web") };
    let code = house.code(&asked).await;
    let got = house.token(basic("web"), &House::redeem_form(&code)).await.unwrap();
    let id = claims(&got["id_token"]);
    assert_eq!((&id["name"], id.get("email")), (&json!("Ada"), None));
    let shown = house.userinfo(&got["access_token"]).await.unwrap();
    assert_eq!(shown["email"], format!("{}@acme.test", house.ada));
    assert!(shown.get("name").is_none());
    let refresh = got["refresh_token"].as_str().unwrap();
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    let again = house.token(basic("web"), &form).await.unwrap();
    assert_eq!(claims(&again["id_token"])["name"], "Ada");
}
