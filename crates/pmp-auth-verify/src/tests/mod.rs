//! The verifier against an issuer in this process.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod feed;
mod introspect;
mod issuer;
mod requests;
mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use issuer::{API, TestIssuer};

use crate::{Builder, Clock, Code, Credentials, Mode, SystemClock, Verifier};

/// The machine's time and some more.
#[derive(Default)]
struct Later {
    system: SystemClock,
    seconds: AtomicU64,
}

impl Later {
    fn advance(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    fn more(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }
}

impl Clock for Later {
    fn wall(&self) -> Duration {
        self.system.wall() + self.more()
    }

    fn mono(&self) -> Duration {
        self.system.mono() + self.more()
    }
}

fn credentials() -> Credentials {
    Credentials::new("api", "s:cret")
}

fn options(issuer: &TestIssuer, mode: Mode) -> Builder {
    let builder = Verifier::builder().issuer(issuer.url.as_str()).audience(API).mode(mode);
    builder.credentials(credentials())
}

async fn ready(builder: Builder) -> Verifier {
    let verifier = builder.build().unwrap();
    verifier.ready_within(Duration::from_secs(10)).await.unwrap();
    verifier
}

/// `Ok`, or why not.
async fn told(verifier: &Verifier, token: &str) -> Result<(), (Code, &'static str)> {
    let told = verifier.verify(token, &[]).await;
    told.map(|_| ()).map_err(|error| (error.code(), error.reason()))
}

/// Waits until `token` is told so, at most five seconds.
async fn until(verifier: &Verifier, token: &str, wanted: Result<(), (Code, &'static str)>) {
    for _ in 0..500 {
        if told(verifier, token).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(told(verifier, token).await, wanted);
}

fn later() -> Arc<Later> {
    Arc::default()
}

const REVOKED: Result<(), (Code, &str)> = Err((Code::InvalidToken, "revoked"));
