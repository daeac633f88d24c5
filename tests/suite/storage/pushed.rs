use pmp_auth::storage::TakePushed;

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    a_request_is_taken_once
    an_expired_request_is_unknown
    one_of_many_takes_it
    requests_of_two_tenants_do_not_touch
}

fn taken() -> TakePushed {
    TakePushed::Taken("client_id=app&state=ü".into())
}

async fn a_request_is_taken_once(bed: Bed) {
    let t = bed.tenant("acme").await;
    let id = digest("id");
    t.push_request(&id, "client_id=app&state=ü", after(60), NOW).await.unwrap();
    assert_eq!(t.take_request(&digest("other"), NOW).await.unwrap(), TakePushed::Unknown);
    assert_eq!(t.take_request(&id, after(59)).await.unwrap(), taken());
    assert_eq!(t.take_request(&id, after(59)).await.unwrap(), TakePushed::Unknown);
}

async fn an_expired_request_is_unknown(bed: Bed) {
    let t = bed.tenant("acme").await;
    t.push_request(&digest("id"), "x", after(60), NOW).await.unwrap();
    assert_eq!(t.take_request(&digest("id"), after(60)).await.unwrap(), TakePushed::Unknown);
}

async fn one_of_many_takes_it(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    t.push_request(&digest("id"), "client_id=app&state=ü", after(60), NOW).await.unwrap();
    let outcomes = race(RACERS, |_| {
        let t = t.clone();
        async move { t.take_request(&digest("id"), NOW).await.unwrap() }
    })
    .await;
    assert_eq!(count(&outcomes, |o| *o == taken()), 1);
    assert_eq!(count(&outcomes, |o| *o == TakePushed::Unknown), RACERS - 1);
}

async fn requests_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    a.push_request(&digest("id"), "client_id=app&state=ü", after(60), NOW).await.unwrap();
    assert_eq!(b.take_request(&digest("id"), NOW).await.unwrap(), TakePushed::Unknown);
    assert_eq!(a.take_request(&digest("id"), NOW).await.unwrap(), taken());
}
