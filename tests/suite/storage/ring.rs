use pmp_auth::storage::RingCheck;

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    a_check_value_is_recorded_once_and_compared_ever_after
    one_of_many_records
}

on_durable_engines! {
    check_values_survive_a_restart
}

async fn a_check_value_is_recorded_once_and_compared_ever_after(bed: Bed) {
    let check = async |id, value: u8| bed.check_ring_key(id, &[value; 32], NOW).await.unwrap();
    assert_eq!(check(2, 1).await, RingCheck::Recorded);
    assert_eq!(check(2, 1).await, RingCheck::Matches);
    assert_eq!(check(2, 9).await, RingCheck::Mismatch);
    assert_eq!(check(2, 1).await, RingCheck::Matches, "a mismatch records nothing");
    assert_eq!(check(255, 9).await, RingCheck::Recorded);
    let mut known = bed.known_ring_keys().await.unwrap();
    known.sort_unstable();
    assert_eq!(known, [2, 255]);
}

async fn one_of_many_records(bed: Bed) {
    bed.warm().await;
    let outcomes = race(RACERS, |number| {
        let store = bed.store.clone();
        let value = u8::try_from(number % 2).unwrap();
        async move { (value, store.check_ring_key(1, &[value; 32], NOW).await.unwrap()) }
    })
    .await;
    let winner = outcomes.iter().find(|(_, o)| *o == RingCheck::Recorded).unwrap().0;
    assert_eq!(count(&outcomes, |(_, o)| *o == RingCheck::Recorded), 1);
    assert!(outcomes.iter().all(|(value, o)| (*o == RingCheck::Mismatch) == (*value != winner)));
}

async fn check_values_survive_a_restart(mut bed: Bed) {
    let _ = bed.check_ring_key(1, &[1; 32], NOW).await.unwrap();
    bed.reopen().await;
    assert_eq!(bed.check_ring_key(1, &[2; 32], NOW).await.unwrap(), RingCheck::Mismatch);
}
