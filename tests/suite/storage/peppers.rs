use pmp_auth::storage::{KnownPepper, PepperCheck};

use super::make::*;
use crate::support::engines::Bed;
use crate::support::race::{RACERS, count, race};

on_every_engine! {
    a_pepper_is_recorded_once_and_compared_ever_after
    a_retired_pepper_stays_retired
    one_of_many_records
}

on_durable_engines! {
    peppers_survive_a_restart
}

async fn check(bed: &Bed, id: u8, value: u8) -> PepperCheck {
    bed.check_pepper(id, &[value; 32], NOW).await.unwrap()
}

async fn a_pepper_is_recorded_once_and_compared_ever_after(bed: Bed) {
    assert_eq!(bed.known_peppers().await.unwrap(), []);
    assert_eq!(check(&bed, 255, 1).await, PepperCheck::Recorded);
    assert_eq!(check(&bed, 255, 1).await, PepperCheck::Matches);
    assert_eq!(check(&bed, 255, 9).await, PepperCheck::Mismatch);
    assert_eq!(check(&bed, 255, 1).await, PepperCheck::Matches, "a mismatch records nothing");
    assert_eq!(check(&bed, 1, 9).await, PepperCheck::Recorded);
    let live = |id| KnownPepper { id, retired_at: None };
    assert_eq!(bed.known_peppers().await.unwrap(), [live(1), live(255)]);
}

async fn a_retired_pepper_stays_retired(bed: Bed) {
    let mut hints = bed.watch().hints();
    assert!(!bed.retire_pepper(1, NOW).await.unwrap());
    let _ = check(&bed, 1, 1).await;
    let _ = check(&bed, 2, 2).await;
    while hints.try_recv().is_ok() {}
    assert!(bed.retire_pepper(1, after(5)).await.unwrap());
    hints.recv().await.unwrap();
    assert!(bed.retire_pepper(1, after(9)).await.unwrap());
    assert_eq!(check(&bed, 1, 1).await, PepperCheck::Retired);
    assert_eq!(check(&bed, 1, 9).await, PepperCheck::Mismatch);
    assert_eq!(check(&bed, 2, 2).await, PepperCheck::Matches);
    let retired = KnownPepper { id: 1, retired_at: Some(after(5)) };
    assert_eq!(
        bed.known_peppers().await.unwrap(),
        [retired, KnownPepper { id: 2, retired_at: None }]
    );
}

async fn one_of_many_records(bed: Bed) {
    bed.warm().await;
    let outcomes = race(RACERS, |number| {
        let store = bed.store.clone();
        let value = u8::try_from(number % 2).unwrap();
        async move { (value, store.check_pepper(1, &[value; 32], NOW).await.unwrap()) }
    })
    .await;
    let winner = outcomes.iter().find(|(_, o)| *o == PepperCheck::Recorded).unwrap().0;
    assert_eq!(count(&outcomes, |(_, o)| *o == PepperCheck::Recorded), 1);
    assert!(outcomes.iter().all(|(value, o)| (*o == PepperCheck::Mismatch) == (*value != winner)));
}

async fn peppers_survive_a_restart(mut bed: Bed) {
    let _ = check(&bed, 1, 1).await;
    assert!(bed.retire_pepper(1, NOW).await.unwrap());
    bed.reopen().await;
    assert_eq!(check(&bed, 1, 1).await, PepperCheck::Retired);
    assert_eq!(check(&bed, 1, 2).await, PepperCheck::Mismatch);
}
