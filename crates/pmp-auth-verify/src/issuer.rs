//! One issuer: its metadata (RFC 8414, OpenID Connect Discovery) and its keys (RFC 7517).

use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::error::VerifyError;
use crate::keys::{JwkSet, Key, Keys, import};
use crate::options::{Context, Event, IssuerSettings};
use crate::sync::{read, write};
use crate::web::{Terms, WebError, ask, broken, is_safe};

const METADATA_LIVES: Duration = Duration::from_hours(1);
const KEYS_LIVE: Duration = Duration::from_mins(10);
/// Longer than any token of a client lives by default: older keys have nothing left to say.
const KEYS_STALE: Duration = Duration::from_hours(1);

/// What we need of the issuer's metadata.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    issuer: String,
    jwks_uri: Option<String>,
    pub(crate) token_endpoint: Option<String>,
    pub(crate) introspection_endpoint: Option<String>,
    pub(crate) revocation_feed_endpoint: Option<String>,
}

#[derive(Default)]
struct Loaded {
    keys: Option<Keys>,
    at: Duration,
    tried_at: Option<Duration>,
    failed: bool,
}

pub(crate) struct Issuer {
    pub(crate) settings: IssuerSettings,
    context: Arc<Context>,
    metadata: RwLock<Option<(Arc<Metadata>, Duration)>>,
    loaded: RwLock<Loaded>,
    fetching: Mutex<()>,
}

impl Issuer {
    pub(crate) fn new(settings: IssuerSettings, context: Arc<Context>) -> Self {
        let (metadata, loaded) = (RwLock::default(), RwLock::default());
        Self { settings, context, metadata, loaded, fetching: Mutex::new(()) }
    }

    pub(crate) fn url(&self) -> &str {
        &self.settings.url
    }

    pub(crate) fn audience(&self) -> &[String] {
        &self.settings.audience
    }

    fn age(&self, since: Duration) -> Duration {
        self.context.clock.mono().saturating_sub(since)
    }

    /// The metadata, at most an hour old, or older while no newer can be had.
    pub(crate) async fn metadata(&self) -> Result<Arc<Metadata>, WebError> {
        let held = read(&self.metadata).clone();
        if let Some((metadata, at)) = &held
            && self.age(*at) < METADATA_LIVES
        {
            return Ok(Arc::clone(metadata));
        }
        match (self.discover().await, held) {
            (Ok(metadata), _) => {
                let metadata = Arc::new(metadata);
                let at = self.context.clock.mono();
                *write(&self.metadata) = Some((Arc::clone(&metadata), at));
                Ok(metadata)
            }
            (Err(_), Some((metadata, _))) => Ok(metadata),
            (Err(error), None) => Err(error),
        }
    }

    async fn discover(&self) -> Result<Metadata, WebError> {
        let url = Url::parse(self.url()).map_err(|error| WebError::Broken(error.to_string()))?;
        let path = url.path().trim_end_matches('/');
        let origin = url.origin().ascii_serialization();
        let places = [
            format!("{}/.well-known/openid-configuration", self.url().trim_end_matches('/')),
            format!("{origin}/.well-known/oauth-authorization-server{path}"), // RFC 8414 §3.1
        ];
        let mut last = broken("no metadata");
        for place in places {
            let request = self.context.client.get(place).header("accept", "application/json");
            let found = ask(request, Terms::default()).await.and_then(|answer| answer.json());
            match found.and_then(|metadata| self.checked(metadata)) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn checked(&self, metadata: Metadata) -> Result<Metadata, WebError> {
        // RFC 8414 §3.3: else another issuer's document would do.
        if metadata.issuer != self.url() {
            return Err(broken("the metadata is another issuer's"));
        }
        let named = [
            &metadata.jwks_uri,
            &metadata.token_endpoint,
            &metadata.introspection_endpoint,
            &metadata.revocation_feed_endpoint,
        ];
        if named.into_iter().flatten().any(|url| !is_safe(url, self.context.allow_insecure)) {
            return Err(broken("an endpoint of the metadata is not https"));
        }
        Ok(metadata)
    }

    /// Loads the keys if there are none.
    pub(crate) async fn load(self: &Arc<Self>) -> Result<(), WebError> {
        if read(&self.loaded).keys.is_some() { Ok(()) } else { self.refresh(Duration::ZERO).await }
    }

    /// The key `kid`, or none when the issuer has none of that name. An unknown name makes it look
    /// again, but not more often than every `jwks_cooldown`: anyone can write a `kid`.
    pub(crate) async fn key(self: &Arc<Self>, kid: &str) -> Result<Option<Arc<Key>>, VerifyError> {
        if let Some(key) = self.known(kid) {
            return Ok(Some(key));
        }
        let cooldown = {
            let loaded = read(&self.loaded);
            let calm = loaded.keys.is_some() && !loaded.failed;
            if calm { self.context.jwks_cooldown } else { Duration::from_secs(1) }
        };
        let _ = self.refresh(cooldown).await;
        if read(&self.loaded).failed || !self.is_usable() {
            return Err(VerifyError::unavailable("the keys cannot be had"));
        }
        Ok(self.known(kid))
    }

    fn known(self: &Arc<Self>, kid: &str) -> Option<Arc<Key>> {
        self.is_usable().then(|| read(&self.loaded).keys.as_ref()?.get(kid).cloned()).flatten()
    }

    /// Whether a key that verified before is still one of the issuer's. Never waits.
    pub(crate) fn trusts(self: &Arc<Self>, key: &Arc<Key>) -> bool {
        self.is_usable()
            && read(&self.loaded)
                .keys
                .as_ref()
                .and_then(|keys| keys.get(key.kid()))
                .is_some_and(|own| Arc::ptr_eq(own, key))
    }

    fn is_usable(self: &Arc<Self>) -> bool {
        let (age, tried) = {
            let loaded = read(&self.loaded);
            if loaded.keys.is_none() {
                return false;
            }
            (self.age(loaded.at), loaded.tried_at)
        };
        if age < KEYS_LIVE {
            return true;
        }
        let pause = self.context.jwks_cooldown.min(Duration::from_secs(30));
        if tried.is_none_or(|tried| self.age(tried) >= pause) {
            let own = Arc::clone(self);
            write(&self.loaded).tried_at = Some(self.context.clock.mono());
            tokio::spawn(async move { own.refresh(Duration::ZERO).await });
        }
        age < KEYS_STALE
    }

    /// Fetches the keys, unless that was tried within `cooldown`. Of several that come at once one
    /// fetches, in a task of its own: whoever asked may go away.
    async fn refresh(self: &Arc<Self>, cooldown: Duration) -> Result<(), WebError> {
        let asked = self.context.clock.mono();
        let own = Arc::clone(self);
        let work = tokio::spawn(async move {
            let _one = own.fetching.lock().await;
            let tried = read(&own.loaded).tried_at;
            if tried.is_some_and(|tried| tried > asked || own.age(tried) < cooldown) {
                return Ok(());
            }
            own.fetch().await
        });
        work.await.unwrap_or_else(|error| Err(WebError::Broken(error.to_string())))
    }

    async fn fetch(&self) -> Result<(), WebError> {
        write(&self.loaded).tried_at = Some(self.context.clock.mono());
        let fetched = self.fetch_set().await;
        let mut loaded = write(&self.loaded);
        loaded.failed = fetched.is_err();
        match fetched {
            Ok(set) => {
                let allowed = self.settings.algorithms.as_deref();
                loaded.keys = Some(import(set, loaded.keys.as_ref(), allowed));
                loaded.at = self.context.clock.mono();
                Ok(())
            }
            Err(error) => {
                drop(loaded);
                let (issuer, why) = (self.url().to_owned(), error.to_string());
                self.context.report(&Event::KeysFailed { issuer, error: why });
                Err(error)
            }
        }
    }

    async fn fetch_set(&self) -> Result<JwkSet, WebError> {
        let metadata = self.metadata().await?;
        let uri = metadata.jwks_uri.as_deref();
        let uri = uri.ok_or_else(|| broken("the metadata has no jwks_uri"))?;
        let accept = "application/jwk-set+json, application/json";
        ask(self.context.client.get(uri).header("accept", accept), Terms::default()).await?.json()
    }
}
