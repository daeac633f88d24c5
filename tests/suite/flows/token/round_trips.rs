//! What each operation asks of the database, once the caches are warm.

use super::house::{API, Asked, House, basic};
use crate::support::engines::Bed;

on_engine! { postgres, Postgres, no_operation_asks_more_than_its_budget }

async fn no_operation_asks_more_than_its_budget(bed: Bed) {
    let house = House::new(&bed).await;
    let redeem = House::redeem_form(&house.code(&Asked::offline("web")).await);
    let warm = house.token(basic("web"), &redeem).await.unwrap();
    assert!(house.is_active(basic("web"), &warm["access_token"]).await);

    let count =
        async |what: &str,
               budget: u64,
               operation: std::pin::Pin<Box<dyn Future<Output = ()> + '_>>| {
            let before = bed.store.round_trips();
            operation.await;
            let asked = bed.store.round_trips() - before;
            assert!(asked <= budget, "{what}: {asked} round trips, at most {budget}");
        };
    let redeem = House::redeem_form(&house.code(&Asked::offline("web")).await);
    count(
        "redeem a code",
        2,
        Box::pin(async {
            house.token(basic("web"), &redeem).await.unwrap();
        }),
    )
    .await;
    let refresh = format!(
        "grant_type=refresh_token&refresh_token={}",
        warm["refresh_token"].as_str().unwrap()
    );
    count(
        "refresh",
        2,
        Box::pin(async {
            house.token(basic("web"), &refresh).await.unwrap();
        }),
    )
    .await;
    let form = format!("grant_type=client_credentials&scope=read&resource={API}");
    count(
        "client_credentials",
        0,
        Box::pin(async {
            house.token(basic("worker"), &form).await.unwrap();
        }),
    )
    .await;
    count(
        "introspect a JWT",
        0,
        Box::pin(async {
            assert!(house.is_active(basic("web"), &warm["access_token"]).await);
        }),
    )
    .await;
    count(
        "client_credentials, opaque",
        1,
        Box::pin(async {
            house.token(basic("opaque"), "grant_type=client_credentials").await.unwrap();
        }),
    )
    .await;
    let opaque = house.token(basic("opaque"), "grant_type=client_credentials").await.unwrap();
    count(
        "introspect an opaque token",
        1,
        Box::pin(async {
            assert!(house.is_active(basic("opaque"), &opaque["access_token"]).await);
        }),
    )
    .await;
}
