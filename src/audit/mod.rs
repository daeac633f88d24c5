//! Audit records of what changed nothing else: failures and refusals, written in batches.
//!
//! What changes something writes its record itself, in the transaction of the change
//! (`storage/`). Here is the queue for the rest: it must never slow a request down, and a flood of
//! failures must not fill the memory, so it is bounded and what does not fit is counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::model::TenantUid;
use crate::model::audit::AuditRecord;
use crate::storage::Storage;

const QUEUE: usize = 8192;
const BATCH: usize = 512;
const PAUSE: Duration = Duration::from_millis(200);
const TRIES: u32 = 5;

enum Order {
    Write(TenantUid, Box<AuditRecord>),
    Flush(oneshot::Sender<()>),
}

/// Takes records and writes them in the background.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Order>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the task that writes to `store`; it ends when the last recorder is gone.
    pub fn start(store: Arc<dyn Storage>) -> Self {
        let (queue, orders) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(write_all(store, orders, Arc::clone(&dropped)));
        Self { queue, dropped }
    }

    /// Takes a record for `tenant`. Never waits: when the queue is full the record is dropped and
    /// counted.
    pub fn record(&self, tenant: &TenantUid, record: AuditRecord) {
        if self.queue.try_send(Order::Write(tenant.clone(), Box::new(record))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many records were lost: the queue was full, or the store did not take them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything recorded so far is written (or given up).
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Order::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

async fn write_all(
    store: Arc<dyn Storage>,
    mut orders: mpsc::Receiver<Order>,
    dropped: Arc<AtomicU64>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while orders.recv_many(&mut batch, BATCH).await > 0 {
        let (mut by_tenant, mut flushes) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        for order in batch.drain(..) {
            match order {
                Order::Write(tenant, record) => by_tenant.entry(tenant).or_default().push(*record),
                Order::Flush(done) => flushes.push(done),
            }
        }
        for (tenant, records) in by_tenant {
            let lost = write(&*store, &tenant, &records).await;
            dropped.fetch_add(lost, Ordering::Relaxed);
        }
        if flushes.is_empty() {
            // Let failures gather, so that a flood of them costs few statements.
            tokio::time::sleep(PAUSE).await;
        }
        for done in flushes {
            let _ = done.send(());
        }
    }
}

/// Writes a batch, trying again while the store is away; how many records were given up.
async fn write(store: &dyn Storage, tenant: &TenantUid, records: &[AuditRecord]) -> u64 {
    let handle = store.tenant(tenant);
    for attempt in 1..=TRIES {
        match handle.record_audit(records).await {
            Ok(()) => return 0,
            Err(error) if attempt == TRIES => {
                warn!(tenant = %tenant, error = %error, "lost {} audit records", records.len());
            }
            Err(_) => tokio::time::sleep(PAUSE * attempt).await,
        }
    }
    records.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::model::Audit;
    use crate::model::audit::Action;
    use crate::storage::memory::Memory;

    fn failed(second: i64) -> AuditRecord {
        AuditRecord {
            at: Timestamp::from_seconds(second),
            action: Action::LoginFailed,
            user: None,
            client: None,
            session: None,
            resource: None,
            success: false,
            detail: None,
            context: Audit::default(),
        }
    }

    #[tokio::test]
    async fn what_was_recorded_is_written_for_its_tenant_when_flushed() {
        let store = Memory::new("e1", Timestamp::EPOCH);
        let recorder = Recorder::start(Arc::new(store.clone()));
        let (acme, globex) = (TenantUid::stored("acme"), TenantUid::stored("globex"));
        recorder.record(&acme, failed(1));
        recorder.record(&globex, failed(2));
        recorder.record(&acme, failed(3));
        recorder.flush().await;
        let log = store.tenant(&acme).list_audit(10).await.unwrap();
        assert_eq!(log, [failed(3), failed(1)]);
        assert_eq!(store.tenant(&globex).list_audit(10).await.unwrap(), [failed(2)]);
        assert_eq!(recorder.dropped(), 0);
    }

    #[tokio::test]
    async fn a_flood_is_counted_where_it_does_not_fit() {
        let recorder = Recorder::start(Arc::new(Memory::new("e1", Timestamp::EPOCH)));
        // Nothing is written before the first await.
        for second in 0..9_000 {
            recorder.record(&TenantUid::stored("acme"), failed(second));
        }
        assert_eq!(recorder.dropped(), 9_000 - QUEUE as u64);
        recorder.flush().await;
        recorder.record(&TenantUid::stored("acme"), failed(0));
        assert_eq!(recorder.dropped(), 9_000 - QUEUE as u64);
    }
}
