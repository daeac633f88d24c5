use std::time::{Duration, Instant, SystemTime};

/// What time it is. Yours only in tests.
pub trait Clock: Send + Sync + 'static {
    /// The time since 1970 (Unix time).
    fn wall(&self) -> Duration;
    /// The time since some moment: never jumps.
    fn mono(&self) -> Duration;
}

/// The time of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    began: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { began: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Duration {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that all others ask")]
        let now = SystemTime::now();
        now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn mono(&self) -> Duration {
        self.began.elapsed()
    }
}
