use super::house::{API, FILES, House, NOBODY, basic, claims};
use crate::support::engines::Bed;

on_every_engine! {
    a_client_asks_for_itself
    it_gets_its_default_scope_and_never_more_than_its_own
    one_token_is_for_one_resource_that_the_client_has
    it_is_for_clients_that_have_a_secret_and_the_grant
    an_opaque_token_is_known_once_it_is_handed_out
    a_grant_type_that_the_tenant_does_not_have_is_not_supported
}

async fn a_client_asks_for_itself(bed: Bed) {
    let house = House::new(&bed).await;
    let form = format!("grant_type=client_credentials&scope=read&resource={API}");
    let got = house.token(basic("worker"), &form).await.unwrap();
    assert_eq!(got["scope"], "read");
    assert!(got.get("refresh_token").is_none() && got.get("id_token").is_none());
    let access = claims(&got["access_token"]);
    assert_eq!((&access["sub"], &access["client_id"]), (&"worker".into(), &"worker".into()));
    assert_eq!(access["aud"], API);
    assert!(access.get("gid").is_none() && access.get("sid").is_none());
}

async fn it_gets_its_default_scope_and_never_more_than_its_own(bed: Bed) {
    let house = House::new(&bed).await;
    let ask = async |scope: &str| {
        let form = format!("grant_type=client_credentials{scope}");
        house.token(basic("worker"), &form).await
    };
    assert_eq!(ask("").await.unwrap()["scope"], "read");
    assert_eq!(ask("&scope=write+read").await.unwrap()["scope"], "write read");
    for scope in ["&scope=files", "&scope=read+admin", "&scope=openid", "&scope=%22"] {
        assert_eq!(ask(scope).await.unwrap_err(), "400 invalid_scope", "{scope}");
    }
}

async fn one_token_is_for_one_resource_that_the_client_has(bed: Bed) {
    let house = House::new(&bed).await;
    let ask = async |resources: &str| {
        let form = format!("grant_type=client_credentials&scope=read{resources}");
        house.token(basic("worker"), &form).await
    };
    let two = format!("&resource={API}&resource={FILES}");
    assert_eq!(ask(&two).await.unwrap_err(), "400 invalid_target");
    assert_eq!(ask("&resource=https://else.test").await.unwrap_err(), "400 invalid_target");
    let twice = format!("&resource={API}&resource={API}");
    assert!(ask(&twice).await.is_ok());
    // `read` makes no sense at the files: nothing of it is left there.
    let cut = ask(&format!("&resource={FILES}")).await.unwrap();
    assert_eq!(cut["scope"], "");
}

async fn it_is_for_clients_that_have_a_secret_and_the_grant(bed: Bed) {
    let house = House::new(&bed).await;
    let form = "grant_type=client_credentials";
    assert_eq!(house.token(basic("web"), form).await.unwrap_err(), "400 unauthorized_client");
    let public = format!("{form}&client_id=spa");
    assert_eq!(house.token(NOBODY, &public).await.unwrap_err(), "400 unauthorized_client");
}

async fn an_opaque_token_is_known_once_it_is_handed_out(bed: Bed) {
    let house = House::new(&bed).await;
    let got = house.token(basic("opaque"), "grant_type=client_credentials").await.unwrap();
    assert!(got["access_token"].as_str().unwrap().starts_with("pmp_at_"));
    assert_eq!(got["scope"], "read");
    assert!(house.is_active(basic("opaque"), &got["access_token"]).await);
}

async fn a_grant_type_that_the_tenant_does_not_have_is_not_supported(bed: Bed) {
    let house = House::new(&bed).await;
    for grant in ["password", "urn:ietf:params:oauth:grant-type:jwt-bearer", "implicit"] {
        let form = format!("grant_type={grant}&client_id=web");
        let refused = house.token(basic("web"), &form).await.unwrap_err();
        assert_eq!(refused, "400 unsupported_grant_type");
    }
    assert_eq!(house.token(basic("web"), "").await.unwrap_err(), "400 invalid_request");
}
