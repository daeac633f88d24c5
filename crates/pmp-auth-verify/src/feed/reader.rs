use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Response;
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use url::Url;

use super::Feed;
use crate::options::{Event, Transport};
use crate::revoked::Wire;
use crate::sse::{Parser, Said};
use crate::sync::write;
use crate::web::{Terms, WebError, ask, broken, failed};

/// Two heartbeats and a bit: try again before the feed is lost.
const SILENT: Duration = Duration::from_secs(35);
/// A stream without its first word by then is being held back by something between.
const HELD_BACK: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_secs(25);
/// How long polls are used before a stream is tried again.
const STREAM_AGAIN: Duration = Duration::from_mins(5);
const MOST_BYTES: usize = 256 << 20;
/// Answers that say nothing about streams.
const OTHER: [u16; 6] = [400, 401, 403, 410, 429, 503];

/// A page of the feed.
#[derive(Debug, Deserialize)]
struct Page {
    iss: String,
    cursor: Option<String>,
    #[serde(default)]
    more: bool,
    /// When the newest entry was revoked, in Unix milliseconds.
    revoked_at: Option<u64>,
    entries: Vec<Wire>,
}

enum Failure {
    Web(WebError),
    /// Streams do not pass here.
    NoStream(&'static str),
}

impl From<WebError> for Failure {
    fn from(error: WebError) -> Self {
        Self::Web(error)
    }
}

pub(super) struct Reader {
    feed: Arc<Feed>,
    cursor: Option<String>,
    /// No snapshot is under way.
    whole: bool,
    retry: Duration,
    poll_until: Option<Instant>,
    failures: u32,
}

impl Reader {
    pub(super) fn new(feed: Arc<Feed>) -> Self {
        let retry = Duration::from_secs(1);
        Self { feed, cursor: None, whole: false, retry, poll_until: None, failures: 0 }
    }

    pub(super) async fn run(mut self) {
        loop {
            let again = self.poll_until.is_some_and(|until| Instant::now() < until);
            let polls = self.feed.context.transport == Transport::Poll || again;
            let done = if polls { self.poll().await } else { self.stream().await };
            let pause = match done {
                Ok(pause) => pause,
                Err(failure) => self.failed(failure).await,
            };
            if !pause.is_zero() {
                sleep(jittered(pause)).await;
            }
        }
    }

    /// What to do about a failure: gives how long to wait until the next try.
    async fn failed(&mut self, failure: Failure) -> Duration {
        self.failures += 1;
        let stream = match &failure {
            Failure::NoStream(_) => true,
            Failure::Web(_) => false,
        };
        if stream && self.feed.context.transport != Transport::Sse {
            self.poll_until = Some(Instant::now() + STREAM_AGAIN);
        }
        let backoff = Duration::from_millis(250 << self.failures.min(5));
        let (status, retry_after) = match failure {
            Failure::NoStream(why) => {
                self.feed.report_failed(why.to_owned());
                return backoff;
            }
            Failure::Web(error) => {
                self.feed.report_failed(error.to_string());
                match error {
                    WebError::Status { status, retry_after } => (status, retry_after),
                    WebError::Broken(_) => return backoff,
                }
            }
        };
        if matches!(status, 400 | 410) {
            let resumed = self.cursor.is_some();
            self.restart();
            if resumed && self.failures < 3 {
                return Duration::from_millis(1);
            }
        }
        if status == 401 {
            self.feed.source.drop_token().await;
            if self.failures < 3 {
                return Duration::from_millis(50);
            }
        }
        let bounds = (Duration::from_millis(250), Duration::from_secs(5));
        retry_after.map_or(backoff, |after| after.clamp(bounds.0, bounds.1))
    }

    /// The next request takes a snapshot. What is held stays: revocations only ever grow.
    fn restart(&mut self) {
        self.cursor = None;
        self.whole = false;
    }

    fn hear(&mut self) {
        // Between a stale cursor and the end of the new snapshot a word proves nothing.
        if self.whole {
            self.failures = 0;
            self.feed.hear();
        }
    }

    fn take(&mut self, page: Page, snapshot: bool, cursor: Option<String>) -> Result<(), WebError> {
        let feed = &self.feed;
        if page.iss != feed.issuer.url() {
            return Err(broken("the feed is another issuer's"));
        }
        let entries = page.entries.len();
        let unknown = {
            let mut revoked = write(&feed.revoked);
            let unknown = revoked.add(page.entries);
            feed.version.store(revoked.version(), Ordering::Release);
            unknown.map_err(|_| broken("a malformed entry in the feed"))?
        };
        let issuer = || feed.issuer.url().to_owned();
        if unknown > 0 {
            feed.context.report(&Event::UnknownEntries { issuer: issuer(), entries: unknown });
        }
        if !snapshot && entries > 0 {
            let at = page.revoked_at.map(Duration::from_millis);
            feed.context.report(&Event::Revoked { issuer: issuer(), entries, at });
        }
        if cursor.is_some() {
            self.cursor = cursor;
        }
        if snapshot && !page.more {
            self.whole = true;
        }
        // With more to come it does not know everything yet.
        if !page.more {
            self.hear();
        }
        Ok(())
    }

    async fn address(&self) -> Result<Url, WebError> {
        let metadata = self.feed.issuer.metadata().await?;
        let own = format!("{}/revocations", self.feed.issuer.url().trim_end_matches('/'));
        let address = metadata.revocation_feed_endpoint.as_deref().unwrap_or(&own);
        Url::parse(address).map_err(|error| WebError::Broken(error.to_string()))
    }

    async fn poll(&mut self) -> Result<Duration, Failure> {
        let mut url = self.address().await?;
        let token = self.feed.source.get().await?.token;
        let snapshot = !self.whole;
        if let Some(cursor) = &self.cursor {
            url.query_pairs_mut().append_pair("after", cursor);
        }
        if !snapshot {
            url.query_pairs_mut().append_pair("wait", &POLL.as_secs().to_string());
        }
        let timeout =
            if snapshot { Duration::from_mins(1) } else { POLL + Duration::from_secs(10) };
        let request = self.feed.context.client.get(url).bearer_auth(token);
        let request = request.header("accept", "application/json");
        let asked = Instant::now();
        let answer = ask(request, Terms { timeout, most: MOST_BYTES, good: &[200, 304] }).await?;
        if answer.status == 304 {
            self.hear();
            return Ok(Duration::ZERO);
        }
        let page: Page = answer.json()?;
        let cursor = page.cursor.clone().ok_or_else(|| broken("a page without a cursor"))?;
        // A server that does not wait is not asked without end.
        let quick = page.entries.is_empty()
            && !page.more
            && !snapshot
            && asked.elapsed() < Duration::from_millis(200);
        self.take(page, snapshot, Some(cursor))?;
        Ok(if quick { Duration::from_secs(1) } else { Duration::ZERO })
    }

    async fn stream(&mut self) -> Result<Duration, Failure> {
        let url = self.address().await?;
        let given = self.feed.source.get().await?;
        let never = Duration::from_hours(24 * 365);
        let renew_at = Instant::now() + given.renew_in.unwrap_or(never).min(never);
        let mut request = self.feed.context.client.get(url).bearer_auth(given.token);
        request = request.header("accept", "text/event-stream");
        if !self.whole {
            self.cursor = None; // a snapshot that was cut off begins anew
        }
        if let Some(cursor) = &self.cursor {
            request = request.header("last-event-id", cursor);
        }
        let response = timeout(HELD_BACK, request.send()).await;
        let response = response.map_err(|_| broken("the feed does not answer"))?;
        let response = response.map_err(WebError::from)?;
        let status = response.status().as_u16();
        if status != 200 {
            if !OTHER.contains(&status) {
                return Err(Failure::NoStream("the feed does not stream here"));
            }
            return Err(failed(&response).into());
        }
        let content_type = response.headers().get("content-type");
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !content_type.to_ascii_lowercase().starts_with("text/event-stream") {
            return Err(Failure::NoStream("the feed does not stream here"));
        }
        self.follow(response, renew_at).await
    }

    async fn follow(
        &mut self,
        mut response: Response,
        renew: Instant,
    ) -> Result<Duration, Failure> {
        let mut parser = Parser::default();
        let mut spoke = false;
        loop {
            let patience = if spoke { SILENT } else { HELD_BACK };
            let chunk = tokio::select! {
                chunk = timeout(patience, response.chunk()) => chunk,
                () = sleep_until(renew) => return Ok(Duration::ZERO),
            };
            let chunk = match chunk {
                Ok(chunk) => chunk.map_err(WebError::from)?,
                Err(_) if spoke => return Err(broken("the feed is silent").into()),
                Err(_) => return Err(Failure::NoStream("something holds the stream back")),
            };
            let Some(chunk) = chunk else { return Ok(self.retry) }; // ended by the server
            let said = parser.push(&chunk, MOST_BYTES);
            for said in said.ok_or_else(|| broken("an event is too long"))? {
                spoke = true;
                if !self.heed(said)? {
                    return Ok(Duration::from_millis(100));
                }
            }
        }
    }

    /// Takes what the stream said; whether to go on with it.
    fn heed(&mut self, said: Said) -> Result<bool, WebError> {
        match said {
            Said::Comment => self.hear(),
            Said::Retry(millis) => self.retry = Duration::from_millis(millis.clamp(100, 5000)),
            Said::Event { name, data, id } => match name.as_str() {
                "reset" => {
                    self.restart();
                    return Ok(false);
                }
                "snapshot" | "revoked" => {
                    let snapshot = name == "snapshot";
                    let page: Page = serde_json::from_str(&data)
                        .map_err(|error| WebError::Broken(error.to_string()))?;
                    let own = page.cursor.clone().filter(|_| snapshot && !page.more);
                    self.take(page, snapshot, id.or(own))?;
                }
                _ => {}
            },
        }
        Ok(true)
    }
}

/// From three quarters to five quarters of `pause`: readers that were cut off together do not come
/// back together.
fn jittered(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0) % 512;
    pause.mul_f64(0.75)
        + pause.mul_f64(0.5).mul_f64(f64::from(u16::try_from(chance).unwrap_or(0)) / 512.0)
}
