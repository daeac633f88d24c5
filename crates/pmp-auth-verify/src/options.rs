//! The options, checked whole before anything starts.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::credentials::{Credentials, FeedToken};
use crate::error::Presentation;
use crate::keys;
use crate::verifier::Verifier;
use crate::web::{self, is_safe};

/// How a verifier knows of revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It does not: signature, claims and time alone.
    #[default]
    Local,
    /// One stream for all tokens: no call per request, within a second.
    Feed,
    /// Asks for each unknown token (RFC 7662).
    Introspect,
    /// A signed list of bits, at most its `ttl` old (draft-ietf-oauth-status-list).
    StatusList,
}

/// What happens when the feed (or a status list) is lost. What is known to be revoked stays refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLoss {
    /// 503.
    #[default]
    FailClosed,
    /// Goes on for so long, then 503.
    Grace(Duration),
    /// Introspects.
    Introspect,
}

/// How the feed is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// Server-sent events, long polls where streams do not pass.
    #[default]
    Auto,
    /// Server-sent events.
    Sse,
    /// Long polls.
    Poll,
}

/// What happened behind the requests; for your log.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are called what they are")]
pub enum Event {
    /// The snapshot is loaded.
    FeedLoaded { issuer: String },
    /// The feed says nothing any more: the policy decides.
    FeedLost { issuer: String },
    /// It speaks again.
    FeedLive { issuer: String },
    /// A request to the feed failed; it is tried again.
    FeedFailed { issuer: String, error: String },
    /// Entries arrived after the snapshot. `at`: when the newest of them was revoked (Unix time, the
    /// server's clock), where the server says so.
    Revoked { issuer: String, entries: usize, at: Option<Duration> },
    /// Entries of kinds that this version does not know.
    UnknownEntries { issuer: String, entries: usize },
    /// The key set cannot be had.
    KeysFailed { issuer: String, error: String },
    /// An introspection failed.
    IntrospectionFailed { issuer: String, error: String },
    /// A status list cannot be had, or is a bad one.
    StatusListFailed { issuer: String, error: String },
}

/// Why options make no verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionsError(String);

impl std::fmt::Display for OptionsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OptionsError {}

fn refuse<T>(text: impl Into<String>) -> Result<T, OptionsError> {
    Err(OptionsError(text.into()))
}

/// An issuer, and what is different for it. An address alone will do.
#[derive(Clone, Default)]
pub struct IssuerOptions {
    url: String,
    audience: Vec<String>,
    credentials: Option<Credentials>,
    feed_token: Option<FeedToken>,
    algorithms: Option<Vec<String>>,
    opaque: Option<bool>,
}

impl From<&str> for IssuerOptions {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for IssuerOptions {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

impl IssuerOptions {
    /// The issuer of this address, exactly as tokens spell it in `iss`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// What this API is called in `aud`; a token needs one of them.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// Who this API is at the issuer.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Gives a token with scope `revocations:read`; called at every connection, so keep it yourself.
    #[must_use]
    pub fn feed_token<F, R>(mut self, give: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, String>> + Send + 'static,
    {
        self.feed_token = Some(FeedToken(Arc::new(move || Box::pin(give()))));
        self
    }

    /// The only algorithms that its tokens may have.
    #[must_use]
    pub fn algorithms(mut self, names: &[&str]) -> Self {
        self.algorithms = Some(names.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    /// Whether opaque tokens and API keys may be shown to it. Default: if it is the only one with
    /// credentials.
    #[must_use]
    pub fn opaque(mut self, opaque: bool) -> Self {
        self.opaque = Some(opaque);
        self
    }
}

/// An issuer, checked.
pub(crate) struct IssuerSettings {
    pub(crate) url: Arc<str>,
    pub(crate) audience: Vec<String>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) feed_token: Option<FeedToken>,
    pub(crate) algorithms: Option<Vec<String>>,
    pub(crate) opaque: bool,
}

/// What all parts of a verifier share.
pub(crate) struct Context {
    pub(crate) mode: Mode,
    pub(crate) on_loss: OnLoss,
    /// Seconds.
    pub(crate) leeway: f64,
    pub(crate) jwks_cooldown: Duration,
    pub(crate) introspection_max_age: Duration,
    pub(crate) cache_size: u64,
    pub(crate) transport: Transport,
    pub(crate) status_list_origins: Vec<String>,
    pub(crate) allow_insecure: bool,
    pub(crate) client: reqwest::Client,
    pub(crate) clock: Arc<dyn Clock>,
    on_event: Option<Listener>,
}

type Listener = Box<dyn Fn(&Event) + Send + Sync>;

impl Context {
    pub(crate) fn report(&self, event: &Event) {
        if let Some(listener) = &self.on_event {
            listener(event);
        }
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> f64 {
        self.clock.wall().as_secs_f64()
    }
}

/// Makes a [`Verifier`].
pub struct Builder {
    issuers: Vec<IssuerOptions>,
    shared: IssuerOptions,
    context: Context,
    presentation: Presentation,
    client: Option<OptionsError>,
}

impl Default for Builder {
    fn default() -> Self {
        let (client, fault) = match web::client() {
            Ok(client) => (client, None),
            Err(error) => (reqwest::Client::new(), Some(OptionsError(error.to_string()))),
        };
        let context = Context {
            mode: Mode::default(),
            on_loss: OnLoss::default(),
            leeway: 10.0,
            jwks_cooldown: Duration::from_secs(30),
            introspection_max_age: Duration::from_mins(1),
            cache_size: 10_000,
            transport: Transport::default(),
            status_list_origins: Vec::new(),
            allow_insecure: false,
            client,
            clock: Arc::new(SystemClock::default()),
            on_event: None,
        };
        let (issuers, shared) = (Vec::new(), IssuerOptions::default());
        Self { issuers, shared, context, presentation: Presentation::default(), client: fault }
    }
}

impl Builder {
    /// Adds an issuer: its address, or [`IssuerOptions`].
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<IssuerOptions>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// What this API is called in `aud`, for every issuer that says nothing of its own.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.shared = self.shared.audience(audience);
        self
    }

    /// Who this API is, for every issuer that says nothing of its own.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.shared = self.shared.credentials(credentials);
        self
    }

    /// The only algorithms that tokens may have.
    #[must_use]
    pub fn algorithms(mut self, names: &[&str]) -> Self {
        self.shared = self.shared.algorithms(names);
        self
    }

    /// How to know of revocations; default [`Mode::Local`].
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.context.mode = mode;
        self
    }

    /// What happens when the feed (or a status list) is lost; default [`OnLoss::FailClosed`].
    #[must_use]
    pub fn on_loss(mut self, policy: OnLoss) -> Self {
        self.context.on_loss = policy;
        self
    }

    /// By how much clocks may differ, at most 60 s; default 10 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.context.leeway = leeway.as_secs_f64();
        self
    }

    /// The `realm` of refusals.
    #[must_use]
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.presentation.realm = Some(realm.into());
        self
    }

    /// The address of this API's metadata (RFC 9728), told with every refusal.
    #[must_use]
    pub fn resource_metadata(mut self, address: impl Into<String>) -> Self {
        self.presentation.resource_metadata = Some(address.into());
        self
    }

    /// An unknown `kid` makes the keys be fetched again at most every so often; default 30 s.
    #[must_use]
    pub fn jwks_cooldown(mut self, cooldown: Duration) -> Self {
        self.context.jwks_cooldown = cooldown;
        self
    }

    /// How long an introspection answer is kept at most, within its Cache-Control; default 60 s.
    #[must_use]
    pub fn introspection_max_age(mut self, age: Duration) -> Self {
        self.context.introspection_max_age = age;
        self
    }

    /// Tokens that are remembered; default 10 000.
    #[must_use]
    pub fn cache_size(mut self, tokens: u64) -> Self {
        self.context.cache_size = tokens;
        self
    }

    /// How the feed is read.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.context.transport = transport;
        self
    }

    /// An origin beside the issuer's own that status lists may be fetched from.
    #[must_use]
    pub fn status_list_origin(mut self, origin: impl Into<String>) -> Self {
        self.context.status_list_origins.push(origin.into());
        self
    }

    /// Allows http beyond loopback. For test networks only.
    #[must_use]
    pub fn allow_insecure(mut self) -> Self {
        self.context.allow_insecure = true;
        self
    }

    /// Called with what happens behind the requests.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.context.on_event = Some(Box::new(listener));
        self
    }

    /// Another time than this machine's. For tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.context.clock = clock;
        self
    }

    /// Checks the options and starts: keys, metadata and the feed are loaded beside. Needs a Tokio
    /// runtime.
    pub fn build(self) -> Result<Verifier, OptionsError> {
        if let Some(fault) = self.client {
            return Err(fault);
        }
        let Self { issuers, shared, context, presentation, .. } = self;
        let issuers: Vec<_> = issuers
            .into_iter()
            .map(|one| settled(one, &shared, &context))
            .collect::<Result<_, _>>()?;
        let names: HashSet<&str> = issuers.iter().map(|one| one.url.as_str()).collect();
        if names.is_empty() {
            return refuse("an issuer is required");
        }
        if names.len() < issuers.len() {
            return refuse("an issuer is there twice");
        }
        if !(0.0..=60.0).contains(&context.leeway) {
            return refuse("leeway is at most 60 s");
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return refuse("a verifier is made within a Tokio runtime");
        }
        // An opaque token names no issuer. With several, it goes only to those meant to see it.
        let able = issuers.iter().filter(|one| one.credentials.is_some()).count();
        let settings = issuers.into_iter().map(|one| IssuerSettings {
            opaque: one.credentials.is_some() && one.opaque.unwrap_or(able == 1),
            url: one.url.into(),
            audience: one.audience,
            credentials: one.credentials,
            feed_token: one.feed_token,
            algorithms: one.algorithms,
        });
        Ok(Verifier::start(settings.collect(), context, presentation))
    }
}

/// An issuer's options with what is shared filled in, checked.
fn settled(
    mut one: IssuerOptions,
    shared: &IssuerOptions,
    context: &Context,
) -> Result<IssuerOptions, OptionsError> {
    if one.audience.is_empty() {
        one.audience.clone_from(&shared.audience);
    }
    one.credentials = one.credentials.or_else(|| shared.credentials.clone());
    one.algorithms = one.algorithms.or_else(|| shared.algorithms.clone());
    if !is_safe(&one.url, context.allow_insecure) {
        return refuse(format!("issuer {} is not an https address", one.url));
    }
    if one.url.contains(['?', '#']) {
        return refuse(format!("issuer {} has a query or a fragment", one.url));
    }
    if one.audience.is_empty() || one.audience.iter().any(String::is_empty) {
        return refuse("audience is required");
    }
    let introspects = context.mode == Mode::Introspect || context.on_loss == OnLoss::Introspect;
    if introspects && one.credentials.is_none() {
        return refuse("introspection needs credentials");
    }
    if context.mode == Mode::Feed && one.credentials.is_none() && one.feed_token.is_none() {
        return refuse("the feed needs credentials or a feed_token");
    }
    let known = |name: &String| keys::algorithm(name).is_some();
    if one.algorithms.as_ref().is_some_and(|names| !names.iter().all(known)) {
        return refuse("algorithms are asymmetric ones");
    }
    Ok(one)
}
