use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use super::{App, DisciplinedClock};

/// A store that needs longer to say that it is well, is not.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether requests should be sent here, check by check.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// The checks by name, and whether each is good.
    pub checks: Vec<(&'static str, bool)>,
}

impl Readiness {
    /// Whether all are good.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|(_, good)| *good)
    }
}

impl App {
    /// Checks now. What is wrong is logged; the answer only says what, so that nothing of the
    /// inside shows.
    pub async fn readiness(&self) -> Readiness {
        let now = self.clock.now();
        Readiness {
            checks: vec![
                ("accepting", !self.is_stopping()),
                ("store and schema", self.store_is_ready().await),
                ("signing keys", self.keys_are_ready().await),
                ("revocation view", self.services.revocations.is_fresh(now)),
                ("clock", self.discipline.as_deref().is_none_or(DisciplinedClock::is_near)),
            ],
        }
    }

    async fn store_is_ready(&self) -> bool {
        match timeout(PATIENCE, self.store.ready()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                warn!(%error, "not ready");
                false
            }
            Err(_) => {
                warn!("not ready: the store does not answer");
                false
            }
        }
    }

    /// The keys of one tenant stand for all: they are sealed under one ring, in one store.
    async fn keys_are_ready(&self) -> bool {
        let Some(tenant) = self.registry.all().into_iter().next() else { return true };
        match timeout(PATIENCE, tenant.keys.jwks(self.clock.now())).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                warn!(tenant = %tenant.slug, %error, "not ready: signing keys cannot be read");
                false
            }
            Err(_) => false,
        }
    }
}
