use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::{PAGE, gone};
use crate::app::App;
use crate::base::{CredentialKind, Secret};
use crate::http::extract::Request;
use crate::http::reply;
use crate::model::Audit;
use crate::oauth::Call;
use crate::oauth::bearer::BearerError;
use crate::oauth::revocations::{self, Subscriber};
use crate::revocation::{Answer, Cursor, Page};
use crate::telemetry::Metrics;
use crate::tenant::Tenant;

/// A reader that hears nothing for three of these takes the feed for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A view that is not fresh gets so many seconds to become so.
const MISSES: u32 = 5;
/// Entries in one event of a snapshot: what one subscriber costs while it does not read on.
const CHUNK: usize = 250;

/// Opens a stream of events (HTML standard, §9.2): a snapshot first, unless the reader resumes.
pub(super) async fn open(
    app: &Arc<App>,
    request: &Request,
    token: String,
    subscriber: Subscriber,
    after: Option<Cursor>,
) -> Result<Response, Response> {
    let view = &app.services.revocations;
    let news = view.news(&request.tenant.uid);
    let first = match &after {
        None => None,
        Some(cursor) => {
            let since = view.since(&subscriber.reader, cursor, PAGE, request.now).await;
            match since.map_err(|error| reply::unavailable(&error))? {
                Answer::Page(page) => Some(page),
                Answer::Gone => return Err(gone()),
            }
        }
    };
    let feed = Feed {
        counted: Counted::new(&app.metrics),
        app: Arc::clone(app),
        tenant: Arc::clone(&request.tenant),
        audit: request.audit.clone(),
        token: Secret::new(token),
        subscriber,
        at: after,
        first,
        news,
        greeted: false,
        ended: false,
        beat: Instant::now() + HEARTBEAT,
        misses: 0,
    };
    // Nothing is made before the connection takes it: a subscriber is a place in the journal.
    let events = stream::unfold(Box::new(feed), |mut feed| async move {
        let text = feed.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), feed))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache, no-transform"));
    // nginx would collect what should flow.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// A subscriber.
struct Feed {
    app: Arc<App>,
    tenant: Arc<Tenant>,
    audit: Audit,
    token: Secret<String>,
    subscriber: Subscriber,
    /// Where it is; none before the snapshot.
    at: Option<Cursor>,
    /// What was read when it resumed.
    first: Option<Page>,
    news: watch::Receiver<u64>,
    greeted: bool,
    ended: bool,
    beat: Instant,
    misses: u32,
    #[expect(dead_code, reason = "counts by being there")]
    counted: Counted,
}

impl Feed {
    /// What is to be said next, once there is something; none ends the stream.
    async fn next(&mut self) -> Option<String> {
        if !self.greeted {
            self.greeted = true;
            let as_of = self.app.services.revocations.as_of().millis();
            return Some(format!("retry: 1000\n: {as_of}\n\n"));
        }
        loop {
            if self.ended || self.app.is_stopping() {
                return None;
            }
            // A reader that is slow, or never without news, does not get to the wait below.
            let due = Instant::now() >= self.beat;
            if due && !self.may_go_on().await {
                return None;
            }
            if let Some(text) = self.read().await {
                if due {
                    self.beat = Instant::now() + HEARTBEAT;
                }
                return Some(text);
            }
            if self.ended {
                continue;
            }
            tokio::select! {
                () = self.app.stopping().cancelled() => return None,
                news = self.news.changed() => {
                    news.ok()?;
                    // What came may be about the reader. An opaque token would cost a query each, an
                    // API key a use.
                    let is_jwt = [CredentialKind::AccessToken, CredentialKind::ApiKey]
                        .iter()
                        .all(|kind| !self.token.reveal().starts_with(kind.prefix()));
                    if is_jwt && !self.may_go_on().await {
                        return None;
                    }
                }
                () = sleep_until(self.beat) => {
                    if !self.may_go_on().await {
                        return None;
                    }
                    if let Some(text) = self.beat()? {
                        return Some(text);
                    }
                }
            }
        }
    }

    fn call(&self) -> Call<'_> {
        let now = self.app.clock.now();
        Call { services: &self.app.services, tenant: &self.tenant, now, audit: &self.audit }
    }

    /// The next event, if there is anything the reader has not.
    async fn read(&mut self) -> Option<String> {
        loop {
            let snapshot = !matches!(self.at, Some(Cursor::Log(_)));
            let page = match self.first.take() {
                Some(page) => page,
                None => match self.page().await {
                    Some(Answer::Page(page)) => page,
                    Some(Answer::Gone) => {
                        self.ended = true;
                        return Some("event: reset\ndata: {}\n\n".to_owned());
                    }
                    None => return None,
                },
            };
            let (empty, more) = (page.entries.is_empty(), page.more);
            let text = if snapshot {
                Some(self.event("snapshot", &page, !more))
            } else {
                (!empty).then(|| self.event("revoked", &page, true))
            };
            self.at = Some(page.cursor);
            if text.is_some() || !more {
                return text;
            }
        }
    }

    async fn page(&mut self) -> Option<Answer> {
        self.news.borrow_and_update();
        let (view, now) = (&self.app.services.revocations, self.app.clock.now());
        let Some(at) = &self.at else {
            let page = view.snapshot(&self.subscriber.reader, Some(CHUNK), now);
            return Some(Answer::Page(page));
        };
        let limit = if matches!(at, Cursor::Listing { .. }) { CHUNK } else { PAGE };
        let answer = view.since(&self.subscriber.reader, at, limit, now).await;
        if let Err(error) = &answer {
            info!(tenant = self.tenant.slug.as_str(), %error, "a feed lost its place");
            self.ended = true;
        }
        answer.ok()
    }

    fn event(&self, name: &str, page: &Page, last: bool) -> String {
        let call = self.call();
        let data = serde_json::to_string(&revocations::write(&call, page)).unwrap_or_default();
        let mut text = format!("event: {name}\n");
        if last {
            let _ = writeln!(text, "id: {}", page.cursor);
        }
        let _ = write!(text, "data: {data}\n\n");
        text
    }

    /// Whether the token still lets it read. Not to know is not to end it: a view that stays away
    /// does.
    async fn may_go_on(&mut self) -> bool {
        match revocations::subscriber(&self.call(), self.token.reveal()).await {
            Ok(subscriber) => {
                self.subscriber = subscriber;
                true
            }
            Err(BearerError::Store(_) | BearerError::TooOften { .. }) => true,
            Err(error) => {
                debug!(tenant = self.tenant.slug.as_str(), "a feed ends: {error}");
                false
            }
        }
    }

    /// A heartbeat, which only a view that is fresh gives; none ends the stream.
    #[expect(clippy::option_option, reason = "ends, says nothing, or says something")]
    fn beat(&mut self) -> Option<Option<String>> {
        let view = &self.app.services.revocations;
        if view.is_fresh(self.app.clock.now()) {
            self.misses = 0;
            self.beat = Instant::now() + HEARTBEAT;
            return Some(Some(format!(": {}\n\n", view.as_of().millis())));
        }
        self.misses += 1;
        self.beat = Instant::now() + Duration::from_secs(1);
        (self.misses <= MISSES).then_some(None)
    }
}

/// Counts an open stream.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.subscribed(true);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.subscribed(false);
    }
}
