//! The verifier: which issuer, which way to know, and the answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use moka::sync::Cache;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::error::{Code, Presentation, Refusal, VerifyError};
use crate::feed::{Feed, Marks, State};
use crate::introspect::Introspector;
use crate::issuer::Issuer;
use crate::jwt::{check_claims, check_time, parse, signed_by};
use crate::keys::Key;
use crate::layer::VerifyLayer;
use crate::options::{Builder, Context, IssuerSettings, Mode, OnLoss};
use crate::status_list::{StatusLists, reference};
use crate::token::{Kind, Token};

const MOST_LETTERS: usize = 16_384;

/// What is known of an issuer, for a readiness probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The issuer.
    pub issuer: String,
    /// Whether its tokens can be checked.
    pub ready: bool,
    /// The feed, in feed mode.
    pub feed: Option<FeedState>,
    /// Revocations that are held.
    pub entries: usize,
}

/// How a feed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedState {
    /// The first snapshot is not loaded.
    Loading,
    /// It speaks.
    Live,
    /// It is silent: the policy decides.
    Lost,
}

/// All that there is for one issuer.
struct Served {
    issuer: Arc<Issuer>,
    introspector: Option<Introspector>,
    feed: Option<Arc<Feed>>,
    lists: Option<StatusLists>,
    loaded: watch::Sender<bool>,
}

/// A token with a good signature.
struct Known {
    one: Arc<Served>,
    key: Arc<Key>,
    token: Token,
    marks: Option<Marks>,
}

/// Checks access tokens. Clones are cheap and share everything; the last one to go ends the work
/// behind.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    presentation: Presentation,
    issuers: HashMap<Arc<str>, Arc<Served>>,
    verified: Cache<Arc<str>, Arc<Known>>,
    closed: AtomicBool,
    tasks: Vec<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("health", &self.health()).finish()
    }
}

impl Verifier {
    /// Options to be filled in.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(
        issuers: Vec<IssuerSettings>,
        context: Context,
        presentation: Presentation,
    ) -> Self {
        let context = Arc::new(context);
        let mut tasks = Vec::new();
        let mut served = HashMap::new();
        for settings in issuers {
            let one = Arc::new(Served::new(settings, &context));
            if let Some(feed) = &one.feed {
                tasks.push(tokio::spawn(Arc::clone(feed).run()).abort_handle());
            }
            let (loading, mode) = (Arc::clone(&one), context.mode);
            tasks.push(tokio::spawn(async move { loading.load(mode).await }).abort_handle());
            served.insert(Arc::clone(&one.issuer.settings.url), one);
        }
        let verified = Cache::new(context.cache_size);
        let closed = AtomicBool::new(false);
        Self(Arc::new(Inner { context, presentation, issuers: served, verified, closed, tasks }))
    }

    /// Waits until requests can be answered: keys are known, and in feed mode the snapshot is loaded.
    pub async fn ready(&self) {
        for one in self.0.issuers.values() {
            let _ = one.loaded.subscribe().wait_for(|loaded| *loaded).await;
            if let Some(feed) = &one.feed {
                feed.loaded().await;
            }
        }
    }

    /// The same, but not longer than `patience`.
    pub async fn ready_within(&self, patience: Duration) -> Result<(), VerifyError> {
        let late = |_| VerifyError::unavailable("not ready in time");
        tokio::time::timeout(patience, self.ready()).await.map_err(late)
    }

    /// What is known of each issuer, for a readiness probe.
    pub fn health(&self) -> Vec<Health> {
        let closed = self.0.closed.load(Ordering::Relaxed);
        let of = |one: &Arc<Served>| {
            let feed = one.feed.as_ref().map(|feed| match feed.state() {
                State::Loading => FeedState::Loading,
                State::Live => FeedState::Live,
                State::Lost(_) => FeedState::Lost,
            });
            let loaded = *one.loaded.borrow() && feed != Some(FeedState::Loading);
            let entries = one.feed.as_ref().map_or(0, |feed| feed.size());
            Health { issuer: one.issuer.url().to_owned(), ready: loaded && !closed, feed, entries }
        };
        self.0.issuers.values().map(of).collect()
    }

    /// Whether every issuer's tokens can be checked.
    pub fn is_ready(&self) -> bool {
        self.health().iter().all(|one| one.ready)
    }

    /// Ends streams and timers. After it every request is answered 503.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.tasks.iter().for_each(AbortHandle::abort);
        self.0.verified.invalidate_all();
    }

    /// A layer that lets good tokens pass.
    pub fn layer(&self) -> VerifyLayer {
        VerifyLayer::new(self.clone(), Vec::new())
    }

    /// A layer that lets tokens with this scope pass; inside [`Self::layer`] it checks the scope alone.
    pub fn require_scope(&self, scope: impl Into<String>) -> VerifyLayer {
        VerifyLayer::new(self.clone(), vec![scope.into()])
    }

    /// The answer that a refused request deserves (RFC 6750 §3).
    pub fn refusal(&self, error: &VerifyError) -> Refusal {
        Refusal::of(error, &self.0.presentation)
    }

    /// The token of a request's headers (RFC 6750 §2.1), if it has all of `scopes`.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        scopes: &[String],
    ) -> Result<Token, VerifyError> {
        let text = bearer(headers).map_err(|error| error.needing(scopes))?;
        self.verify(text, scopes).await
    }

    /// The token of an access token's text, if it has all of `scopes`.
    pub async fn verify(&self, text: &str, scopes: &[String]) -> Result<Token, VerifyError> {
        if self.0.closed.load(Ordering::Relaxed) {
            return Err(VerifyError::unavailable("closed"));
        }
        if text.len() > MOST_LETTERS || !is_token68(text) {
            return Err(VerifyError::invalid("malformed"));
        }
        let token = self.live(text).await?;
        check_scopes(&token, scopes)?;
        Ok(token)
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    async fn live(&self, text: &str) -> Result<Token, VerifyError> {
        if let Some(known) = self.0.verified.get(text) {
            if known.one.issuer.trusts(&known.key) {
                return self.standing(&known, text).await;
            }
            self.0.verified.invalidate(text); // its key is gone or new: look again
        }
        if text.starts_with("pmp_rt_") {
            return Err(VerifyError::invalid("a refresh token"));
        }
        let ours = text.starts_with("pmp_at_") || text.starts_with("pak_");
        if ours || text.split('.').count() != 3 {
            self.opaque(text).await
        } else {
            self.jwt(text).await
        }
    }

    async fn opaque(&self, text: &str) -> Result<Token, VerifyError> {
        for one in self.0.issuers.values().filter(|one| one.issuer.settings.opaque) {
            if let Some(introspector) = &one.introspector
                && let Some(token) = introspector.introspect(text).await?
            {
                return Ok(token);
            }
        }
        Err(VerifyError::invalid("not active"))
    }

    async fn jwt(&self, text: &str) -> Result<Token, VerifyError> {
        let parsed = parse(text)?;
        let iss = parsed.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let one = self.0.issuers.get(iss).ok_or_else(|| VerifyError::invalid("issuer"))?;
        if self.0.context.mode == Mode::Introspect {
            return one.introspected(text).await;
        }
        // Before the signature: what cannot count costs nothing.
        check_claims(&parsed.claims, &one.issuer)?;
        let url = Arc::clone(&one.issuer.settings.url);
        let token = Token::new(Kind::Jwt, url, parsed.claims.clone());
        check_time(token.times(), self.0.context.now(), self.0.context.leeway)?;
        let key = signed_by(&one.issuer, &parsed, "at+jwt").await?;
        let kid = parsed.header.kid.as_deref();
        let marks = one.feed.as_ref().map(|_| Marks::of(token.claims(), kid));
        let known = Arc::new(Known { one: Arc::clone(one), key, token, marks });
        self.0.verified.insert(text.into(), Arc::clone(&known));
        self.standing(&known, text).await
    }

    /// A token with a good signature: does it count now?
    async fn standing(&self, known: &Known, text: &str) -> Result<Token, VerifyError> {
        let Known { one, token, marks, .. } = known;
        let context = &self.0.context;
        if let Err(error) = check_time(token.times(), context.now(), context.leeway) {
            self.0.verified.invalidate(text);
            return Err(error);
        }
        if let (Some(feed), Some(marks)) = (&one.feed, marks) {
            let state = feed.state();
            if state == State::Loading {
                return Err(VerifyError::unavailable("the snapshot is not loaded yet"));
            }
            // What is known to be revoked stays so, whatever became of the feed.
            if feed.kills(marks, token) {
                return Err(VerifyError::invalid("revoked"));
            }
            return match (state, context.on_loss) {
                (State::Live, _) => Ok(token.clone()),
                (State::Lost(by), OnLoss::Grace(grace)) if by <= grace => Ok(token.clone()),
                (_, OnLoss::Introspect) => one.introspected(text).await,
                _ => Err(VerifyError::unavailable("the revocation feed is lost")),
            };
        }
        match &one.lists {
            Some(lists) => self.listed(one, lists, token, text).await,
            None => Ok(token.clone()),
        }
    }

    async fn listed(
        &self,
        one: &Served,
        lists: &StatusLists,
        token: &Token,
        text: &str,
    ) -> Result<Token, VerifyError> {
        let Some(reference) = reference(token.claims())? else {
            // Issued before the tenant kept lists, or by one without: only the issuer can know.
            return match &one.introspector {
                Some(_) => one.introspected(text).await,
                None => Err(VerifyError::invalid("no status")),
            };
        };
        match lists.is_valid(&reference).await {
            Ok(true) => Ok(token.clone()),
            Ok(false) => Err(VerifyError::invalid("revoked")),
            Err(error) => match (error.code(), self.0.context.on_loss) {
                (Code::Unavailable, OnLoss::Introspect) => one.introspected(text).await,
                _ => Err(error),
            },
        }
    }
}

impl Served {
    fn new(settings: IssuerSettings, context: &Arc<Context>) -> Self {
        let introspects = settings.credentials.is_some();
        let issuer = Arc::new(Issuer::new(settings, Arc::clone(context)));
        let parts = || (Arc::clone(&issuer), Arc::clone(context));
        let introspector = introspects.then(|| {
            let (issuer, context) = parts();
            Introspector::new(issuer, context)
        });
        let feed = (context.mode == Mode::Feed).then(|| {
            let (issuer, context) = parts();
            Arc::new(Feed::new(issuer, context))
        });
        let lists = (context.mode == Mode::StatusList).then(|| {
            let (issuer, context) = parts();
            StatusLists::new(issuer, context)
        });
        Self { issuer, introspector, feed, lists, loaded: watch::Sender::new(false) }
    }

    /// Tries until what is needed before the first request is there.
    async fn load(&self, mode: Mode) {
        let mut pause = Duration::from_millis(250);
        loop {
            let loaded = match mode {
                Mode::Introspect => self.issuer.metadata().await.map(|_| ()),
                _ => self.issuer.load().await,
            };
            if loaded.is_ok() {
                self.loaded.send_replace(true);
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    async fn introspected(&self, text: &str) -> Result<Token, VerifyError> {
        let introspector = self.introspector.as_ref();
        let introspector =
            introspector.ok_or_else(|| VerifyError::unavailable("there are no credentials"))?;
        introspector.introspect(text).await?.ok_or_else(|| VerifyError::invalid("not active"))
    }
}

pub(crate) fn check_scopes(token: &Token, scopes: &[String]) -> Result<(), VerifyError> {
    if scopes.iter().all(|scope| token.has_scope(scope)) {
        return Ok(());
    }
    Err(VerifyError::new(Code::InsufficientScope, "a scope is missing").needing(scopes))
}

/// The one bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, VerifyError> {
    let mut values = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let header = values.next().unwrap_or_default();
    if header.is_empty() {
        return Err(VerifyError::new(Code::MissingToken, "no Authorization header"));
    }
    let malformed = VerifyError::new(Code::InvalidRequest, "not one bearer token");
    if values.next().is_some() {
        return Err(malformed);
    }
    let Ok(header) = std::str::from_utf8(header) else { return Err(malformed) };
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(VerifyError::new(Code::MissingToken, "another scheme"));
    }
    let token = token.trim_start_matches(' ');
    if token.is_empty() || token.contains(' ') { Err(malformed) } else { Ok(token) }
}

/// RFC 9110 §11.2.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(good)
}
