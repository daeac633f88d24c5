use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::base::{ManualClock, SystemEntropy, Timestamp};
use crate::storage::memory::Memory;
use crate::storage::{Kind, Result, StoreError};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A store whose batches end when the test lets them.
struct Fake {
    leader: Mutex<Option<(String, Timestamp)>>,
    batches_left: AtomicUsize,
    gate: Semaphore,
    at_work: AtomicUsize,
    most_at_work: AtomicUsize,
    fails: bool,
}

impl Fake {
    fn new(batches: usize, open_gates: usize) -> Self {
        Self {
            leader: Mutex::default(),
            batches_left: AtomicUsize::new(batches),
            gate: Semaphore::new(open_gates),
            at_work: AtomicUsize::new(0),
            most_at_work: AtomicUsize::new(0),
            fails: false,
        }
    }

    async fn busy(&self) {
        while self.at_work.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Sweeper for Fake {
    async fn lead(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool> {
        let mut leader = self.leader.lock().unwrap();
        if leader.as_ref().is_some_and(|(other, ends)| other != holder && now < *ends) {
            return Ok(false);
        }
        *leader = Some((holder.to_owned(), until));
        Ok(true)
    }

    async fn sweep(&self, now: Timestamp, _limit: u32) -> Result<Cleaned> {
        if self.fails {
            return Err(StoreError::unavailable("gone"));
        }
        let at_work = self.at_work.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_work.fetch_max(at_work, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        let left = self.batches_left.fetch_sub(1, Ordering::SeqCst) - 1;
        Ok(Cleaned { counts: vec![(Kind::Sessions, 2)], more: left > 0, at: Some(now) })
    }
}

fn node(fake: &Arc<Fake>, holder: &str) -> Jobs {
    let clock = Arc::new(ManualClock::at(NOW));
    Jobs::with(Arc::clone(fake) as Arc<dyn Sweeper>, 2, clock, holder.to_owned())
}

async fn run(jobs: &Jobs) -> Run {
    let mut runs = jobs.runs();
    runs.mark_unchanged();
    jobs.wake();
    timeout(Duration::from_secs(5), runs.changed()).await.unwrap().unwrap();
    let (_, run) = runs.borrow().clone();
    run
}

#[tokio::test]
async fn a_run_goes_on_until_there_is_no_more() {
    let fake = Arc::new(Fake::new(3, 10));
    let jobs = node(&fake, "one");
    let Run::Cleaned(cleaned) = run(&jobs).await else { panic!("it leads") };
    assert_eq!(cleaned.counts, [(Kind::Sessions, 6)]);
    assert!(!cleaned.more);
    jobs.stop().await;
}

#[tokio::test]
async fn of_two_nodes_one_leads_until_it_stops() {
    let fake = Arc::new(Fake::new(10, 20));
    let (one, two) = (node(&fake, "one"), node(&fake, "two"));
    assert!(matches!(run(&one).await, Run::Cleaned(_)));
    assert_eq!(run(&two).await, Run::NotLeader);
    one.stop().await;
    fake.batches_left.store(1, Ordering::SeqCst);
    assert!(matches!(run(&two).await, Run::Cleaned(_)));
    two.stop().await;
}

#[tokio::test]
async fn ticks_during_a_run_come_to_one_run_after_it() {
    let fake = Arc::new(Fake::new(1, 0));
    let jobs = node(&fake, "one");
    assert!(jobs.wake());
    fake.busy().await;
    assert!(jobs.wake());
    assert!(!jobs.wake());
    assert!(!jobs.wake());
    fake.batches_left.store(1, Ordering::SeqCst);
    fake.gate.add_permits(1);
    let mut runs = jobs.runs();
    let first = runs.wait_for(|(count, _)| *count == 1);
    drop(timeout(Duration::from_secs(5), first).await.unwrap().unwrap());
    fake.batches_left.store(1, Ordering::SeqCst);
    fake.gate.add_permits(10);
    let second = runs.wait_for(|(count, _)| *count == 2);
    drop(timeout(Duration::from_secs(5), second).await.unwrap().unwrap());
    jobs.stop().await;
    assert_eq!(fake.most_at_work.load(Ordering::SeqCst), 1);
    assert_eq!(runs.borrow().0, 2);
}

#[tokio::test]
async fn stopping_waits_for_the_batch_under_way_and_begins_no_other() {
    let fake = Arc::new(Fake::new(5, 0));
    let jobs = node(&fake, "one");
    let runs = jobs.runs();
    jobs.wake();
    fake.busy().await;
    let mut stopping = tokio::spawn(jobs.stop());
    assert!(timeout(Duration::from_millis(50), &mut stopping).await.is_err());
    fake.gate.add_permits(10);
    timeout(Duration::from_secs(5), stopping).await.unwrap().unwrap();
    assert_eq!(fake.batches_left.load(Ordering::SeqCst), 4);
    let (count, last) = runs.borrow().clone();
    assert_eq!(count, 1);
    assert!(matches!(last, Run::Cleaned(cleaned) if cleaned.more));
}

#[tokio::test]
async fn a_store_that_cannot_answer_does_not_end_the_worker() {
    let fake = Arc::new(Fake { fails: true, ..Fake::new(1, 1) });
    let jobs = node(&fake, "one");
    assert_eq!(run(&jobs).await, Run::Failed);
    assert_eq!(run(&jobs).await, Run::Failed);
    jobs.stop().await;
}

#[tokio::test]
async fn the_clock_starts_and_stops() {
    let store: Arc<dyn Storage> = Arc::new(Memory::new("epoch", NOW));
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let every_minute = settings::Jobs { cleanup: Some("* * * * *".into()), cleanup_batch: 10 };
    let jobs = start(Arc::clone(&store), &every_minute, Arc::clone(&clock), &SystemEntropy).await;
    timeout(Duration::from_secs(5), jobs.unwrap().stop()).await.unwrap();

    let never = settings::Jobs { cleanup: Some("0 0 31 2 *".into()), cleanup_batch: 10 };
    let refused = start(Arc::clone(&store), &never, Arc::clone(&clock), &SystemEntropy).await;
    assert!(matches!(refused, Err(StartError::Schedule(_))));

    let off = settings::Jobs { cleanup: None, cleanup_batch: 10 };
    let jobs = start(store, &off, clock, &SystemEntropy).await.unwrap();
    assert!(jobs.clock.is_none());
    jobs.stop().await;
}
