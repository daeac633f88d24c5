//! What the server logs during a test.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// The log lines of this thread while it lives: for tests on a runtime of one thread. It has all
/// that `RUST_LOG=warn,pmp_auth=trace` would show.
pub struct Logs {
    lines: Lines,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Begins to listen.
    pub fn listen() -> Self {
        // Beside a subscriber for everything that never goes away, none of the other threads, which
        // have none of their own, can have a line of ours counted as one that nobody wants.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        let lines = Lines::default();
        let filter = tracing_subscriber::EnvFilter::new("warn,pmp_auth=trace");
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
        let subscriber = subscriber.with_writer(lines.clone()).finish();
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lines.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
