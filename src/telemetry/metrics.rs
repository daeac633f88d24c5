use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// A series per route, method and status; routes are the patterns of the router, so a stranger
/// cannot make new series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: Arc<str>,
    method: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByGrant {
    grant: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenErrors {
    grant: &'static str,
    error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Introspections {
    active: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verifications {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Logins {
    result: &'static str,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// What this build is: the labels of `pmp_auth_build_info`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BuildLabels {
    /// The package's version.
    pub version: &'static str,
    /// The storage engine in use.
    pub engine: &'static str,
}

type Durations = Family<Answered, Histogram>;

/// Every metric of the process. No globals: tests have one each.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Durations,
    tokens: Family<ByGrant, Counter>,
    token_errors: Family<TokenErrors, Counter>,
    introspections: Family<Introspections, Counter>,
    verifications: Family<Verifications, Counter>,
    revocations: Family<ByKind, Counter>,
    logins: Family<Logins, Counter>,
    devices: Family<ByState, Counter>,
    hashing: Histogram,
    cleaned: Family<ByKind, Counter>,
    connections: Gauge,
    statements: Counter,
    audit_dropped: Counter,
    view_age: Gauge,
    feed_subscribers: Gauge,
    feed_lag: Gauge<f64, AtomicU64>,
    hinted: Gauge,
    hints_lost: Counter,
}

const REQUEST_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];
const HASH_BUCKETS: [f64; 8] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

impl Metrics {
    /// The metrics of a process that runs `build`.
    pub fn new(build: BuildLabels) -> Arc<Self> {
        let mut registry = Registry::with_prefix("pmp_auth");
        let requests = Durations::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS));
        let hashing = Histogram::new(HASH_BUCKETS);
        let (tokens, token_errors) = (Family::default(), Family::default());
        let (introspections, revocations) = (Family::default(), Family::default());
        let (logins, cleaned) = (Family::default(), Family::default());
        let (devices, verifications) = (Family::default(), Family::default());
        let (connections, view_age) = (Gauge::default(), Gauge::default());
        let (statements, audit_dropped) = (Counter::default(), Counter::default());
        registry.register_with_unit(
            "http_request_duration",
            "How long requests took",
            Unit::Seconds,
            requests.clone(),
        );
        registry.register_with_unit(
            "password_hash",
            "How long password evaluations took, waiting included",
            Unit::Seconds,
            hashing.clone(),
        );
        registry.register("tokens_issued", "Token responses by grant type", tokens.clone());
        registry.register("token_errors", "Token requests refused", token_errors.clone());
        registry.register("introspections", "Introspections answered", introspections.clone());
        registry.register(
            "verifications",
            "What proxies were told about requests",
            verifications.clone(),
        );
        registry.register("revocations", "Revocations by kind", revocations.clone());
        registry.register("logins", "Sign-ins by result", logins.clone());
        registry.register(
            "device_requests",
            "What became of requests of devices and of their users",
            devices.clone(),
        );
        registry.register("cleaned_rows", "Rows deleted by cleanup", cleaned.clone());
        registry.register("http_connections", "Open connections", connections.clone());
        registry.register("db_statements", "Statements sent to the database", statements.clone());
        registry.register(
            "audit_records_dropped",
            "Audit records of failures that were lost",
            audit_dropped.clone(),
        );
        registry.register(
            "revocation_view_fresh",
            "Whether this node answers from its view of the revocation log",
            view_age.clone(),
        );
        let (feed_subscribers, feed_lag) = (Gauge::default(), Gauge::<f64, AtomicU64>::default());
        registry.register(
            "revocation_feed_subscribers",
            "Open event streams of the revocation feed",
            feed_subscribers.clone(),
        );
        registry.register_with_unit(
            "revocation_feed_lag",
            "How old this node's view of the revocation log is, and what the feed says at most",
            Unit::Seconds,
            feed_lag.clone(),
        );
        let (hinted, hints_lost) = (Gauge::default(), Counter::default());
        registry.register(
            "notifications_arriving",
            "Whether notifications of other nodes arrive",
            hinted.clone(),
        );
        registry.register(
            "notifications_lost",
            "How often the connection for notifications was lost",
            hints_lost.clone(),
        );
        registry.register("build", "The build and its engine", Info::new(build));
        Arc::new(Self {
            registry,
            requests,
            tokens,
            token_errors,
            introspections,
            verifications,
            revocations,
            logins,
            devices,
            hashing,
            cleaned,
            connections,
            statements,
            audit_dropped,
            view_age,
            feed_subscribers,
            feed_lag,
            hinted,
            hints_lost,
        })
    }

    /// A request was answered.
    pub fn answered(&self, route: &Arc<str>, method: &'static str, code: u16, took: Duration) {
        let labels = Answered { route: Arc::clone(route), method, code };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A token response left.
    pub fn token_issued(&self, grant: &'static str) {
        self.tokens.get_or_create(&ByGrant { grant }).inc();
    }

    /// A token request was refused. `grant` is one of ours, or `other`.
    pub fn token_refused(&self, grant: &'static str, error: &'static str) {
        self.token_errors.get_or_create(&TokenErrors { grant, error }).inc();
    }

    /// A token was looked at.
    pub fn introspected(&self, active: bool) {
        let active = if active { "true" } else { "false" };
        self.introspections.get_or_create(&Introspections { active }).inc();
    }

    /// A proxy asked whether to let a request through.
    pub fn verified(&self, result: &'static str) {
        self.verifications.get_or_create(&Verifications { result }).inc();
    }

    /// Something was revoked.
    pub fn revoked(&self, kind: &'static str) {
        self.revocations.get_or_create(&ByKind { kind }).inc();
    }

    /// Someone tried to sign in.
    pub fn signed_in(&self, result: &'static str, method: &'static str) {
        self.logins.get_or_create(&Logins { result, method }).inc();
    }

    /// A device code came to `state`: requested, viewed, approved, denied, redeemed, expired, or polled
    /// in vain (pending, `slow_down`, `access_denied`, refused); or a
    /// wrong user code was `guessed`, or guesses reached a limit (`guessing`).
    pub fn device(&self, state: &'static str) {
        self.devices.get_or_create(&ByState { state }).inc();
    }

    /// A password was evaluated.
    pub fn hashed(&self, took: Duration) {
        self.hashing.observe(took.as_secs_f64());
    }

    /// Cleanup deleted rows.
    pub fn cleaned(&self, kind: &'static str, rows: u64) {
        self.cleaned.get_or_create(&ByKind { kind }).inc_by(rows);
    }

    /// A connection was opened (or closed).
    pub fn connection(&self, opened: bool) {
        if opened {
            self.connections.inc()
        } else {
            self.connections.dec()
        };
    }

    /// An event stream of the revocation feed was opened (or closed).
    pub fn subscribed(&self, opened: bool) {
        if opened {
            self.feed_subscribers.inc()
        } else {
            self.feed_subscribers.dec()
        };
    }

    /// How old the view of the revocation log is, read just before it is shown.
    pub fn feed_lags(&self, age: Duration) {
        self.feed_lag.set(age.as_secs_f64());
    }

    /// Values that others count, read just before they are shown.
    pub fn observe(&self, statements: u64, audit_dropped: u64, view_is_fresh: bool) {
        self.statements.inc_by(statements.saturating_sub(self.statements.get()));
        self.audit_dropped.inc_by(audit_dropped.saturating_sub(self.audit_dropped.get()));
        self.view_age.set(i64::from(view_is_fresh));
    }

    /// Whether notifications of other nodes arrive, and how often they were cut off.
    pub fn notified(&self, arriving: bool, lost: u64) {
        self.hinted.set(i64::from(arriving));
        self.hints_lost.inc_by(lost.saturating_sub(self.hints_lost.get()));
    }

    /// All of them, in the text format of OpenMetrics.
    pub fn render(&self) -> String {
        let mut page = String::new();
        let _ = text::encode(&mut page, &self.registry); // a String takes everything
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_prefix_unit_and_total() {
        let metrics = Metrics::new(BuildLabels { version: "1", engine: "memory" });
        metrics.answered(&"/t/{slug}/token".into(), "POST", 200, Duration::from_millis(3));
        metrics.token_issued("client_credentials");
        metrics.device("pending");
        metrics.token_refused("other", "unsupported_grant_type");
        metrics.observe(3, 0, true);
        metrics.observe(5, 0, true);
        metrics.subscribed(true);
        metrics.feed_lags(Duration::from_millis(250));
        metrics.revoked("jti");
        metrics.notified(true, 2);
        let page = metrics.render();
        for line in [
            "pmp_auth_http_request_duration_seconds_count{route=\"/t/{slug}/token\",method=\"POST\",code=\"200\"} 1",
            "pmp_auth_tokens_issued_total{grant=\"client_credentials\"} 1",
            "pmp_auth_token_errors_total{grant=\"other\",error=\"unsupported_grant_type\"} 1",
            "pmp_auth_db_statements_total 5",
            "pmp_auth_device_requests_total{state=\"pending\"} 1",
            "pmp_auth_revocation_view_fresh 1",
            "pmp_auth_revocation_feed_subscribers 1",
            "pmp_auth_revocation_feed_lag_seconds 0.25",
            "pmp_auth_revocations_total{kind=\"jti\"} 1",
            "pmp_auth_notifications_arriving 1",
            "pmp_auth_notifications_lost_total 2",
            "pmp_auth_build_info{version=\"1\",engine=\"memory\"} 1",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}
