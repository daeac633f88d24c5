//! The cleanup job on a store that several nodes share.

use std::sync::Arc;
use std::time::Duration;

use pmp_auth::base::{ManualClock, SystemEntropy, Timestamp};
use pmp_auth::jobs::{Jobs, Run};
use pmp_auth::storage::{Kind, Storage};
use tokio::time::timeout;

use super::make::*;
use crate::support::engines::Bed;

on_every_engine! {
    a_run_deletes_in_batches_until_there_is_no_more
    the_command_counts_what_a_run_deletes
}

on_durable_engines! {
    of_two_nodes_at_one_store_one_cleans_up
}

const DAY: Duration = Duration::from_hours(24);

fn later() -> Timestamp {
    NOW.plus(DAY)
}

fn node(store: Arc<dyn Storage>, batch: u32) -> Jobs {
    Jobs::idle(store, batch, Arc::new(ManualClock::at(later())), &SystemEntropy)
}

async fn run(jobs: &Jobs) -> Run {
    let mut runs = jobs.runs();
    runs.mark_unchanged();
    assert!(jobs.wake());
    timeout(Duration::from_secs(30), runs.changed()).await.expect("a run").expect("a worker");
    let (_, run) = runs.borrow().clone();
    run
}

async fn remember(bed: &Bed, jtis: u8) {
    let tenant = bed.tenant("acme").await;
    for jti in 0..jtis {
        let _ = tenant.remember_jti("p", &[jti; 32], after(60), NOW).await.unwrap();
    }
}

async fn a_run_deletes_in_batches_until_there_is_no_more(bed: Bed) {
    remember(&bed, 7).await;
    let jobs = node(Arc::clone(&bed.store), 2);
    let Run::Cleaned(cleaned) = run(&jobs).await else { panic!("nobody else leads") };
    assert!(cleaned.counts.contains(&(Kind::Jtis, 7)), "{cleaned:?}");
    assert!(!cleaned.more);
    jobs.stop().await;
}

async fn the_command_counts_what_a_run_deletes(bed: Bed) {
    remember(&bed, 5).await;
    let counted = pmp_auth::jobs::cleanup::dry_run(&*bed.store, later()).await.unwrap();
    let clock = ManualClock::at(later());
    let deleted = pmp_auth::jobs::cleanup::run(&*bed.store, &clock, 2).await.unwrap();
    assert!(deleted.counts.contains(&(Kind::Jtis, 5)), "{deleted:?}");
    assert_eq!(counted.counts, deleted.counts);
}

async fn of_two_nodes_at_one_store_one_cleans_up(bed: Bed) {
    remember(&bed, 3).await;
    let other = bed.place.open().await;
    let (one, two) = (node(Arc::clone(&bed.store), 10), node(Arc::clone(&other), 10));
    let outcomes = tokio::join!(run(&one), run(&two));
    let (leader, follower, cleaned) = match outcomes {
        (Run::Cleaned(cleaned), Run::NotLeader) => (one, two, cleaned),
        (Run::NotLeader, Run::Cleaned(cleaned)) => (two, one, cleaned),
        both => panic!("one of them leads: {both:?}"),
    };
    assert!(cleaned.counts.contains(&(Kind::Jtis, 3)), "{cleaned:?}");
    assert!(matches!(run(&leader).await, Run::Cleaned(_)));
    // A leader that stops leaves the lead to the next that asks.
    leader.stop().await;
    assert!(matches!(run(&follower).await, Run::Cleaned(_)));
    follower.stop().await;
    other.close().await;
}
