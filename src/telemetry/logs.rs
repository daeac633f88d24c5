use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, in colour.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Pretty where someone is looking, JSON elsewhere.
    pub fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Pretty } else { Self::Json }
    }
}

/// Sends logs to standard error, which leaves standard output to data. `filter` is in the syntax of
/// `RUST_LOG`; what cannot be read there counts as `info`. The first call of a process wins.
pub fn start(filter: Option<&str>, format: LogFormat) {
    // Libraries speak only when something is wrong: sqlx at `info` would log statements.
    let filter = filter
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new("warn,pmp_auth=info"));
    let registry = tracing_subscriber::registry().with(filter);
    let line = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Pretty => registry.with(line.with_target(false)).try_init(),
        LogFormat::Json => registry
            // The span is that of the request, and has no more than its id.
            .with(line.json().flatten_event(true).with_current_span(true).with_span_list(false))
            .try_init(),
    };
    log_panics();
}

/// A panic is a fault of ours: its place is worth a line like any other, its words are not, since
/// nobody checked what is in them.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panicked; this is a fault in pmp-auth");
    }));
}
