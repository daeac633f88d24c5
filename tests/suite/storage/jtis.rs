use pmp_auth::storage::RememberJti;

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    an_identifier_is_fresh_once_per_purpose
    an_expired_identifier_is_fresh_again
    one_of_many_is_fresh
    one_of_many_is_fresh_after_it_expired
    identifiers_of_two_tenants_do_not_touch
}

async fn an_identifier_is_fresh_once_per_purpose(bed: Bed) {
    let t = bed.tenant("acme").await;
    let see = async |purpose: &str, jti: u8| {
        t.remember_jti(purpose, &[jti; 32], after(60), NOW).await.unwrap()
    };
    assert_eq!(see("assertion", 1).await, RememberJti::Fresh);
    assert_eq!(see("assertion", 1).await, RememberJti::Replayed);
    assert_eq!(see("assertion", 2).await, RememberJti::Fresh);
    assert_eq!(see("dpop", 1).await, RememberJti::Fresh);
}

async fn an_expired_identifier_is_fresh_again(bed: Bed) {
    let t = bed.tenant("acme").await;
    let see = async |seconds: u64| {
        t.remember_jti("p", &[1; 32], after(seconds + 60), after(seconds)).await.unwrap()
    };
    assert_eq!(see(0).await, RememberJti::Fresh);
    assert_eq!(see(59).await, RememberJti::Replayed);
    assert_eq!(see(60).await, RememberJti::Fresh);
    assert_eq!(see(119).await, RememberJti::Replayed, "the new time counts");
}

async fn one_of_many_is_fresh(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let outcomes = race(RACERS, |_| {
        let t = t.clone();
        async move { t.remember_jti("p", &[1; 32], after(60), NOW).await.unwrap() }
    })
    .await;
    assert_eq!(count(&outcomes, |o| *o == RememberJti::Fresh), 1);
}

async fn one_of_many_is_fresh_after_it_expired(bed: Bed) {
    bed.warm().await;
    let t = bed.tenant("acme").await;
    let _ = t.remember_jti("p", &[1; 32], after(60), NOW).await.unwrap();
    let outcomes = race(RACERS, |_| {
        let t = t.clone();
        async move { t.remember_jti("p", &[1; 32], after(200), after(100)).await.unwrap() }
    })
    .await;
    assert_eq!(count(&outcomes, |o| *o == RememberJti::Fresh), 1);
}

async fn identifiers_of_two_tenants_do_not_touch(bed: Bed) {
    let (a, b) = (bed.tenant("acme").await, bed.tenant("bolt").await);
    for t in [&a, &b] {
        let seen = t.remember_jti("p", &[1; 32], after(60), NOW).await.unwrap();
        assert_eq!(seen, RememberJti::Fresh);
    }
}
