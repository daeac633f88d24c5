//! The demo's television: a device without keyboard that signs its user in by the device flow, over
//! HTTP, while its screen shows code, address and QR code. A browser stands in for each set.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::builtin;
use super::device::{Codes, Decision, DeviceClient, DeviceError};
use super::provider::{DiscoveryError, Provider, discover, name};
use crate::base::{Digest, Entropy, Secret, Timestamp, base64url};
use crate::fetch::Fetch;

/// What the user is told of where the request came from.
const AGENT: &str = "Demo TV (pmp-auth)";
const SCOPE: &str = "openid profile email";
const KEPT: Duration = Duration::from_hours(1);
/// Each set that shows a code holds one poll at the server.
const MOST: usize = 200;

/// All sets.
#[derive(Default)]
pub struct Televisions(Mutex<HashMap<[u8; 32], Television>>);

/// One set.
#[derive(Debug, Clone)]
pub struct Television {
    /// The slug of the tenant whose programme it shows.
    pub tenant: String,
    /// What is on.
    pub screen: Screen,
    since: Timestamp,
}

/// What is on.
#[derive(Debug, Clone)]
pub enum Screen {
    /// Code, address and QR code.
    Code {
        /// What the user types.
        user_code: String,
        /// Where.
        address: String,
        /// What the QR code says.
        link: String,
        /// When the code was shown.
        from: Timestamp,
        /// When it ends.
        until: Timestamp,
    },
    /// Signed in.
    Welcome {
        /// As whom.
        name: String,
    },
    /// The user said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The server cannot be used.
    Failed(String),
}

/// A set that has to be told of the decision: hand it to [`Televisions::follow`].
pub struct Waiting {
    key: [u8; 32],
    provider: Provider,
    codes: Codes,
}

/// Why a set shows no code.
#[derive(Debug, Error)]
pub enum TvError {
    /// The server describes itself badly.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// It gives no codes.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There are 200 sets.
    #[error("all televisions are taken; come back in an hour")]
    Full,
}

impl Televisions {
    /// Switches a set on: the cookie that knows it, and what is to follow.
    pub async fn begin(
        &self,
        fetch: &dyn Fetch,
        (tenant, issuer): (&str, &str),
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> (Secret<String>, Result<Waiting, TvError>) {
        let cookie = base64url::encode(entropy.bytes::<32>());
        let key = key(&cookie);
        let outcome = self.ask(fetch, issuer, entropy).await;
        let screen = match &outcome {
            Ok((_, codes)) => Screen::Code {
                user_code: codes.user_code.clone(),
                address: codes.verification_uri.clone(),
                link: codes.link().to_owned(),
                from: now,
                until: now.plus(codes.expires_in),
            },
            Err(error) => Screen::Failed(error.to_string()),
        };
        self.lock().insert(key, Television { tenant: tenant.to_owned(), screen, since: now });
        let waiting = outcome.map(|(provider, codes)| Waiting { key, provider, codes });
        (Secret::new(cookie), waiting)
    }

    async fn ask(
        &self,
        fetch: &dyn Fetch,
        issuer: &str,
        entropy: &dyn Entropy,
    ) -> Result<(Provider, Codes), TvError> {
        if self.lock().len() >= MOST {
            return Err(TvError::Full);
        }
        let provider = discover(fetch, issuer).await?;
        let codes = client(fetch, &provider).begin(Some(SCOPE), entropy).await?;
        Ok((provider, codes))
    }

    /// Waits for the user's decision and shows it. Ends when the set was switched off meanwhile.
    pub async fn follow(&self, fetch: &dyn Fetch, waiting: Waiting) {
        let client = client(fetch, &waiting.provider);
        let screen = match client.decision(&waiting.codes).await {
            Ok(Decision::Granted(tokens)) => {
                let name = name(fetch, &waiting.provider, &tokens.access).await;
                Screen::Welcome { name: name.unwrap_or_else(|| "you".to_owned()) }
            }
            Ok(Decision::Denied) => Screen::Denied,
            Ok(Decision::Expired) => Screen::Expired,
            Err(error) => Screen::Failed(error.to_string()),
        };
        if let Some(set) = self.lock().get_mut(&waiting.key) {
            set.screen = screen;
        }
    }

    /// The set behind a cookie.
    pub fn find(&self, cookie: &str, now: Timestamp) -> Option<Television> {
        let mut sets = self.lock();
        sets.retain(|_, set| now.since(set.since) < KEPT);
        sets.get(&key(cookie)).cloned()
    }

    /// Switches a set off.
    pub fn forget(&self, cookie: &str) {
        self.lock().remove(&key(cookie));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Television>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(cookie: &str) -> [u8; 32] {
    *Digest::<()>::of(cookie.as_bytes()).as_bytes()
}

fn client<'a>(fetch: &'a dyn Fetch, provider: &'a Provider) -> DeviceClient<'a> {
    let client_id = builtin::TV;
    DeviceClient { fetch, provider, client_id, secret: None, agent: Some(AGENT) }
}
