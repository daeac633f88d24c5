use super::house::{Asked, House, NOBODY, Who, basic};
use crate::support::engines::Bed;

on_every_engine! {
    a_refresh_token_takes_its_access_tokens_along_and_may_be_revoked_twice
    an_access_token_goes_alone_whatever_its_form_and_the_hint
    a_stranger_revokes_nothing_and_learns_nothing
    what_is_unknown_is_as_good_as_revoked
    a_public_client_revokes_its_own_by_its_name
}

async fn tokens(house: &House, client: &str) -> serde_json::Value {
    let code = house.code(&Asked::offline(client)).await;
    house.token(basic(client), &House::redeem_form(&code)).await.unwrap()
}

fn form(token: &serde_json::Value) -> String {
    format!("token={}", token.as_str().unwrap())
}

async fn a_refresh_token_takes_its_access_tokens_along_and_may_be_revoked_twice(bed: Bed) {
    for client in ["web", "opaque"] {
        let house = House::new(&bed).await;
        let tokens = tokens(&house, client).await;
        for _ in 0..2 {
            house.revoke(basic(client), &form(&tokens["refresh_token"])).await.unwrap();
        }
        assert!(!house.is_active(basic(client), &tokens["access_token"]).await);
        assert!(!house.is_active(basic(client), &tokens["refresh_token"]).await);
        assert_eq!(house.userinfo(&tokens["access_token"]).await.unwrap_err(), "401 invalid_token");
    }
}

async fn an_access_token_goes_alone_whatever_its_form_and_the_hint(bed: Bed) {
    for client in ["web", "opaque"] {
        let house = House::new(&bed).await;
        let tokens = tokens(&house, client).await;
        let hinted = format!("{}&token_type_hint=refresh_token", form(&tokens["access_token"]));
        for form in [&hinted, &form(&tokens["access_token"])] {
            house.revoke(basic(client), form).await.unwrap();
        }
        assert!(!house.is_active(basic(client), &tokens["access_token"]).await);
        assert!(house.is_active(basic(client), &tokens["refresh_token"]).await);
    }
}

async fn a_stranger_revokes_nothing_and_learns_nothing(bed: Bed) {
    let house = House::new(&bed).await;
    let tokens = tokens(&house, "web").await;
    for token in [&tokens["access_token"], &tokens["refresh_token"]] {
        assert_eq!(house.revoke(basic("opaque"), &form(token)).await, Ok(()));
        let spa = format!("{}&client_id=spa", form(token));
        assert_eq!(house.revoke(NOBODY, &spa).await, Ok(()));
        let wrong = Who { basic: Some(("web", "guess")), ..NOBODY };
        assert_eq!(house.revoke(wrong, &form(token)).await, Err("401 invalid_client".into()));
        let unproved = format!("{}&client_id=web", form(token));
        assert_eq!(house.revoke(NOBODY, &unproved).await, Err("401 invalid_client".into()));
        assert!(house.is_active(basic("web"), token).await);
    }
}

async fn what_is_unknown_is_as_good_as_revoked(bed: Bed) {
    let house = House::new(&bed).await;
    for token in ["x", "a.b.c", "pmp_at_x", "pmp_rt_x", "pmp_rt_"] {
        let form = format!("token={token}&token_type_hint=saml");
        assert_eq!(house.revoke(basic("web"), &form).await, Ok(()), "{token}");
    }
    assert_eq!(house.revoke(basic("web"), "token=").await, Err("400 invalid_request".into()));
}

async fn a_public_client_revokes_its_own_by_its_name(bed: Bed) {
    let house = House::new(&bed).await;
    let code = house.code(&Asked::offline("spa")).await;
    let redeem = format!("{}&client_id=spa", House::redeem_form(&code));
    let tokens = house.token(NOBODY, &redeem).await.unwrap();
    let revoke = format!("{}&client_id=spa", form(&tokens["refresh_token"]));
    assert_eq!(house.revoke(NOBODY, &revoke).await, Ok(()));
    assert_eq!(house.userinfo(&tokens["access_token"]).await.unwrap_err(), "401 invalid_token");
}
