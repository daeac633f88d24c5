use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use std::{io, thread};

use argon2::{PasswordHasher as _, PasswordVerifier as _};
use thiserror::Error;
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroize as _;

use super::PasswordCost;
use crate::base::{Entropy, Secret};
use crate::model::user::PasswordHash;
use crate::telemetry::Metrics;

/// A password as typed, in the one form in which it is hashed: NFC, nothing trimmed, at most
/// [`Password::LIMIT`] bytes.
#[derive(Debug, Clone)]
pub struct Password(Secret<String>);

/// The password is longer than [`Password::LIMIT`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a password has at most {} bytes", Password::LIMIT)]
pub struct PasswordTooLong;

impl Password {
    /// The longest password that is hashed, in bytes of UTF-8.
    pub const LIMIT: usize = 1024;

    /// Takes a password as typed.
    pub fn typed(text: &str) -> Result<Self, PasswordTooLong> {
        if text.len() > Self::LIMIT {
            return Err(PasswordTooLong);
        }
        // NFC can lengthen a text, up to threefold: give the copy its room at once, so that no
        // half-grown copy is left behind in memory.
        let mut normal = String::with_capacity(text.len() * 3);
        normal.extend(text.nfc());
        Ok(Self(Secret::new(normal)))
    }

    /// The text in its normal form.
    pub(super) fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

/// Every permit is taken and the queue is full: try again in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many passwords are being hashed")]
pub struct Busy;

enum Job {
    Hash { password: Password, salt: [u8; 16], reply: oneshot::Sender<Option<PasswordHash>> },
    Verify { password: Password, against: Against, reply: oneshot::Sender<bool> },
}

enum Against {
    Stored(PasswordHash),
    /// No stored hash, or none that we would evaluate: the same work, and always wrong.
    Decoy([u8; 16]),
}

/// The Argon2id pool. Each of its threads is one permit: it takes a job, evaluates it to its end,
/// whether or not anyone still waits, and only then takes the next. So memory and processors are
/// bounded whatever callers do, and the runtime's own threads never hash.
pub struct Passwords {
    jobs: SyncSender<Job>,
    cost: PasswordCost,
    permits: usize,
    entropy: Arc<dyn Entropy>,
    evaluated: Arc<AtomicU64>,
    metrics: Arc<OnceLock<Arc<Metrics>>>,
}

/// How many jobs may wait for each permit: together less than a second of work.
const WAITING_PER_PERMIT: usize = 8;

impl Passwords {
    /// Starts the pool: as many threads as there are processors, and no more than fit into
    /// `memory_budget` bytes; at least one.
    pub fn new(
        cost: PasswordCost,
        memory_budget: u64,
        entropy: Arc<dyn Entropy>,
    ) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let fitting = usize::try_from(memory_budget / cost.memory().max(1)).unwrap_or(usize::MAX);
        Self::with_permits(cost, cores.min(fitting).max(1), entropy)
    }

    /// Starts the pool with this many threads.
    pub fn with_permits(
        cost: PasswordCost,
        permits: usize,
        entropy: Arc<dyn Entropy>,
    ) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(permits * WAITING_PER_PERMIT);
        let queue = Arc::new(Mutex::new(queue));
        let evaluated = Arc::new(AtomicU64::new(0));
        let metrics = Arc::<OnceLock<_>>::default();
        for number in 0..permits {
            let (evaluated, metrics) = (Arc::clone(&evaluated), Arc::clone(&metrics));
            let worker = Worker { queue: Arc::clone(&queue), cost, evaluated, metrics };
            thread::Builder::new()
                .name(format!("passwords-{number}"))
                .spawn(move || worker.run())?;
        }
        Ok(Self { jobs, cost, permits, entropy, evaluated, metrics })
    }

    /// Tells `metrics` how long each evaluation takes; the first one told stays.
    pub fn report_to(&self, metrics: Arc<Metrics>) {
        let _ = self.metrics.set(metrics);
    }

    /// How many evaluations may run at once.
    pub fn permits(&self) -> usize {
        self.permits
    }

    /// How many evaluations were begun since the start.
    pub fn evaluated(&self) -> u64 {
        self.evaluated.load(Ordering::Relaxed)
    }

    /// Hashes a new password under a fresh salt.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Busy> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Hash { password, salt: self.entropy.bytes(), reply })?;
        // Without memory for an evaluation there is no hash either.
        answer.await.ok().flatten().ok_or(Busy)
    }

    /// Whether `password` is the one of `stored`. Without a stored hash, or with one that must not
    /// be evaluated, the same work is done for nothing.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<&PasswordHash>,
    ) -> Result<bool, Busy> {
        let against = match stored.filter(|hash| PasswordCost::of(hash.reveal()).is_some()) {
            Some(hash) => Against::Stored(hash.clone()),
            None => Against::Decoy(self.entropy.bytes()),
        };
        let (reply, answer) = oneshot::channel();
        self.send(Job::Verify { password, against, reply })?;
        answer.await.map_err(|_| Busy)
    }

    /// Whether a hash that was just found right should be replaced by one of today's cost.
    pub fn needs_rehash(&self, stored: &PasswordHash) -> bool {
        PasswordCost::of(stored.reveal()).is_some_and(|cost| cost.is_weaker_than(self.cost))
    }

    fn send(&self, job: Job) -> Result<(), Busy> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Busy,
        })
    }
}

struct Worker {
    queue: Arc<Mutex<Receiver<Job>>>,
    cost: PasswordCost,
    evaluated: Arc<AtomicU64>,
    metrics: Arc<OnceLock<Arc<Metrics>>>,
}

impl Worker {
    fn run(&self) {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = next else { return };
            self.evaluate(job);
        }
    }

    fn evaluate(&self, job: Job) {
        // A caller that left before its turn costs nothing; one that leaves later costs the rest.
        match job {
            Job::Hash { reply, .. } if reply.is_closed() => {}
            Job::Verify { reply, .. } if reply.is_closed() => {}
            Job::Hash { password, salt, reply } => {
                let made = self.measured(|| hash(self.cost, &password, &salt));
                let _ = reply.send(made);
            }
            Job::Verify { password, against, reply } => {
                let right = self.measured(|| self.verify(&password, &against));
                let _ = reply.send(right);
            }
        }
    }

    fn measured<T>(&self, evaluate: impl FnOnce() -> T) -> T {
        self.evaluated.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let result = evaluate();
        if let Some(metrics) = self.metrics.get() {
            metrics.hashed(began.elapsed());
        }
        result
    }

    fn verify(&self, password: &Password, against: &Against) -> bool {
        match against {
            Against::Stored(stored) => {
                let parsed = argon2::PasswordHash::new(stored.reveal());
                let hasher = argon2::Argon2::default();
                parsed.is_ok_and(|phc| {
                    hasher.verify_password(password.reveal().as_bytes(), &phc).is_ok()
                })
            }
            Against::Decoy(salt) => {
                if let Some(hash) = hash(self.cost, password, salt) {
                    hash.reveal().clone().zeroize();
                }
                false
            }
        }
    }
}

fn hash(cost: PasswordCost, password: &Password, salt: &[u8; 16]) -> Option<PasswordHash> {
    let hash = cost.hasher()?.hash_password_with_salt(password.reveal().as_bytes(), salt).ok()?;
    Some(Secret::new(hash.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemEntropy;

    fn pool() -> Passwords {
        Passwords::with_permits(PasswordCost::CHEAP, 2, Arc::new(SystemEntropy)).unwrap()
    }

    fn typed(text: &str) -> Password {
        Password::typed(text).unwrap()
    }

    #[tokio::test]
    async fn only_the_same_password_verifies() {
        let pool = pool();
        let hash = pool.hash(typed("correct horse")).await.unwrap();
        assert!(pool.verify(typed("correct horse"), Some(&hash)).await.unwrap());
        for other in ["correct hors", "correct horse ", " correct horse", "correct\0horse", ""] {
            assert!(!pool.verify(typed(other), Some(&hash)).await.unwrap(), "{other:?}");
        }
        assert!(!pool.needs_rehash(&hash));
    }

    #[tokio::test]
    async fn composed_and_decomposed_typing_is_one_password_and_nul_does_not_end_it() {
        let pool = pool();
        let hash = pool.hash(typed("caf\u{e9} \u{1f511}")).await.unwrap();
        assert!(pool.verify(typed("cafe\u{301} \u{1f511}"), Some(&hash)).await.unwrap());
        let hash = pool.hash(typed("a")).await.unwrap();
        assert!(!pool.verify(typed("a\0b"), Some(&hash)).await.unwrap());
    }

    #[tokio::test]
    async fn a_missing_or_absurd_hash_costs_one_evaluation_and_is_wrong() {
        let pool = pool();
        let absurd = Secret::new(
            "$argon2id$v=19$m=4294967295,t=1000,p=1$c29tZXNhbHRzb21lc2E$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".to_owned(),
        );
        let garbage = Secret::new("plain text".to_owned());
        for stored in [None, Some(&absurd), Some(&garbage)] {
            let before = pool.evaluated();
            assert!(!pool.verify(typed("plain text"), stored).await.unwrap());
            assert_eq!(pool.evaluated(), before + 1);
        }
    }

    #[test]
    fn a_password_of_more_than_1024_bytes_is_never_taken() {
        assert!(Password::typed(&"x".repeat(1024)).is_ok());
        assert!(Password::typed(&"x".repeat(1025)).is_err());
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_at_once() {
        let cost = PasswordCost { memory_kib: 47_104, passes: 1, lanes: 1 };
        let pool = Passwords::with_permits(cost, 1, Arc::new(SystemEntropy)).unwrap();
        let hashes = (0..30).map(|_| pool.hash(typed("x")));
        let all = futures_join(hashes).await;
        let busy = all.iter().filter(|answer| answer.is_err()).count();
        assert!(busy >= 30 - 1 - WAITING_PER_PERMIT - 1, "{busy}");
        assert!(all.iter().any(Result::is_ok));
    }

    async fn futures_join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
        // Poll each once so that all are queued, then wait for each in turn.
        let mut pinned: Vec<_> = all.map(Box::pin).collect();
        let mut done: Vec<Option<F::Output>> = pinned.iter().map(|_| None).collect();
        std::future::poll_fn(|cx| {
            for (future, slot) in pinned.iter_mut().zip(&mut done) {
                if slot.is_none()
                    && let std::task::Poll::Ready(answer) = future.as_mut().poll(cx)
                {
                    *slot = Some(answer);
                }
            }
            if done.iter().all(Option::is_some) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        done.into_iter().flatten().collect()
    }

    #[tokio::test]
    async fn a_weaker_hash_wants_to_be_replaced() {
        let weak = pool().hash(typed("x")).await.unwrap();
        let strong = PasswordCost { memory_kib: 128, passes: 1, lanes: 1 };
        let pool = Passwords::with_permits(strong, 1, Arc::new(SystemEntropy)).unwrap();
        assert!(pool.needs_rehash(&weak));
        assert!(pool.verify(typed("x"), Some(&weak)).await.unwrap());
    }
}
