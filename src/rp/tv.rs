//! The demo's television: a device without keyboard that signs its user in by the device flow, over
//! HTTP, while its screen shows code, address and QR code. A browser stands in for each set.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
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

type Sets<'a> = MutexGuard<'a, HashMap<[u8; 32], Television>>;

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
    /// Switches a set on: the cookie that knows it, and what is to follow. Where there is no code to
    /// show nothing is kept.
    pub async fn begin(
        &self,
        fetch: &dyn Fetch,
        (tenant, issuer): (&str, &str),
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<(Secret<String>, Waiting), TvError> {
        if self.at(now).len() >= MOST {
            return Err(TvError::Full); // no code is drawn in vain
        }
        let provider = discover(fetch, issuer).await?;
        let codes = client(fetch, &provider).begin(Some(SCOPE), entropy).await?;
        let screen = Screen::Code {
            user_code: codes.user_code.clone(),
            address: codes.verification_uri.clone(),
            link: codes.link().to_owned(),
            from: now,
            until: now.plus(codes.expires_in),
        };
        let cookie = base64url::encode(entropy.bytes::<32>());
        let key = key(&cookie);
        let mut sets = self.at(now);
        if sets.len() >= MOST {
            return Err(TvError::Full); // others were faster
        }
        sets.insert(key, Television { tenant: tenant.to_owned(), screen, since: now });
        Ok((Secret::new(cookie), Waiting { key, provider, codes }))
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
        self.at(now).get(&key(cookie)).cloned()
    }

    /// Switches a set off.
    pub fn forget(&self, cookie: &str) {
        self.lock().remove(&key(cookie));
    }

    /// The sets that are still on at `now`.
    fn at(&self, now: Timestamp) -> Sets<'_> {
        let mut sets = self.lock();
        sets.retain(|_, set| now.since(set.since) < KEPT);
        sets
    }

    fn lock(&self) -> Sets<'_> {
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::base::SystemEntropy;
    use crate::fetch::{Answer, FetchError, Outgoing};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const ISSUER: &str = "http://127.0.0.1:1/t/acme";

    /// A server that gives a code to whoever asks, or to nobody.
    struct Server {
        gives: bool,
    }

    #[async_trait]
    impl Fetch for Server {
        async fn fetch(&self, outgoing: Outgoing<'_>) -> Result<Answer, FetchError> {
            let body = match outgoing.form {
                None => json!({
                    "issuer": ISSUER,
                    "token_endpoint": format!("{ISSUER}/token"),
                    "device_authorization_endpoint": format!("{ISSUER}/device_authorization"),
                }),
                Some(_) if !self.gives => json!({"error": "temporarily_unavailable"}),
                Some(_) => json!({
                    "device_code": "d",
                    "user_code": "BCDF-GHJK",
                    "verification_uri": format!("{ISSUER}/device"),
                    "expires_in": 600,
                }),
            };
            let status = if outgoing.form.is_none() || self.gives { 200 } else { 429 };
            Ok(Answer { status, retry_after: None, body: body.to_string().into_bytes() })
        }
    }

    async fn begin(sets: &Televisions, server: &Server, now: Timestamp) -> Result<(), TvError> {
        sets.begin(server, ("acme", ISSUER), &SystemEntropy, now).await.map(drop)
    }

    #[tokio::test]
    async fn there_are_two_hundred_sets_and_each_makes_room_after_an_hour() {
        let (sets, server) = (Televisions::default(), Server { gives: true });
        for _ in 0..MOST {
            begin(&sets, &server, NOW).await.unwrap();
        }
        for _ in 0..3 {
            assert!(matches!(begin(&sets, &server, NOW).await, Err(TvError::Full)));
        }
        assert_eq!(sets.lock().len(), MOST);
        begin(&sets, &server, NOW.plus(KEPT)).await.unwrap();
        assert_eq!(sets.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_set_without_a_code_is_not_kept() {
        let (sets, server) = (Televisions::default(), Server { gives: false });
        let refused = begin(&sets, &server, NOW).await;
        assert!(matches!(refused, Err(TvError::Device(_))), "{refused:?}");
        assert!(sets.lock().is_empty());
    }
}
