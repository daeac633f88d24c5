//! The public feed of the revocation log: `GET {issuer}/revocations`, and poll delivery of security
//! event tokens.

mod ask;
mod poll;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tokio::sync::watch;
use tokio::time::Instant;

pub(in crate::http) use poll::post;

use self::ask::{Ask, Form};
use crate::app::App;
use crate::http::extract::{Authorization, Request};
use crate::http::reply;
use crate::oauth::bearer::{self, BearerError};
use crate::oauth::revocations::{self, Subscriber};
use crate::oauth::{Call, Params};
use crate::revocation::{Answer, Cursor, Page};
use crate::storage::StoreError;

/// A page that was not asked to be of another size.
const PAGE: usize = 1_000;

/// `GET {issuer}/revocations`: a snapshot, or what came after a cursor, at once or when it comes; as
/// JSON, signed, or as a stream of events.
pub(in crate::http) async fn get(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
    headers: HeaderMap,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let params = Params::parse(query.0.as_deref().unwrap_or_default().as_bytes());
        let params = params
            .map_err(|wrong| reply::problem_details(StatusCode::BAD_REQUEST, &wrong.to_string()))?;
        let (token, subscriber) = reader(&call, &authorization, &params).await?;
        let ask = Ask::read(&params, &headers).map_err(|wrong| refuse(&wrong))?;
        is_ready(&app).await?;
        if ask.form == Form::Stream {
            return stream::open(&app, &request, token, subscriber, ask.after).await;
        }
        let turn = Turn { app: &app, call, token: &token, subscriber, ask };
        turn.answer().await
    };
    answered.await.unwrap_or_else(|refusal: Response| refusal)
}

/// The token and who it lets read.
async fn reader(
    call: &Call<'_>,
    authorization: &Authorization,
    params: &Params,
) -> Result<(String, Subscriber), Response> {
    let refuse = |error: BearerError| reply::bearer_error(&error, call.tenant.slug.as_str());
    let headers = authorization.all();
    let token = bearer::presented(&headers, params, None).map_err(refuse)?;
    let subscriber = revocations::subscriber(call, token).await.map_err(refuse)?;
    Ok((token.to_owned(), subscriber))
}

/// Whether this node may speak for the log now, with all that it revoked itself.
async fn is_ready(app: &App) -> Result<(), Response> {
    let view = &app.services.revocations;
    if !view.is_fresh(app.clock.now()) {
        return Err(reply::unavailable(&StoreError::unavailable("the revocation view is stale")));
    }
    view.catch_up().await.map_err(|error| reply::unavailable(&error))
}

/// Waits for news until `deadline`; whether there are any. A shutdown ends the wait.
async fn wait(app: &App, news: &mut watch::Receiver<u64>, deadline: Instant) -> bool {
    tokio::select! {
        () = app.stopping().cancelled() => false,
        () = tokio::time::sleep_until(deadline) => false,
        changed = news.changed() => changed.is_ok(),
    }
}

/// A request for a page on its way to the answer.
struct Turn<'a> {
    app: &'a App,
    call: Call<'a>,
    token: &'a str,
    subscriber: Subscriber,
    ask: Ask,
}

impl Turn<'_> {
    async fn answer(mut self) -> Result<Response, Response> {
        let view = &self.app.services.revocations;
        let Some(began) = self.ask.after.clone().or_else(|| self.ask.seen.clone()) else {
            return self.snapshot().await;
        };
        let (mut at, mut news) = (began.clone(), view.news(&self.call.tenant.uid));
        let deadline = Instant::now() + self.ask.wait;
        loop {
            news.borrow_and_update();
            let limit = self.ask.limit.unwrap_or(PAGE);
            let since = view.since(&self.subscriber.reader, &at, limit, self.call.now).await;
            match since.map_err(|error| reply::unavailable(&error))? {
                Answer::Gone if self.ask.after.is_none() => return self.snapshot().await,
                Answer::Gone => return Err(gone()),
                Answer::Page(page) if is_news(&page, &at) => {
                    return match self.ask.after {
                        Some(_) => self.show(&page).await,
                        None => self.snapshot().await,
                    };
                }
                Answer::Page(page) => at = page.cursor,
            }
            if self.ask.wait == Duration::ZERO || !wait(self.app, &mut news, deadline).await {
                break;
            }
            self.again().await?;
        }
        self.again().await?;
        match &self.ask.seen {
            Some(seen) if *seen == began || *seen == at => Ok(self.unchanged(seen)),
            _ => self.show(&Page { entries: Vec::new(), cursor: at, more: false }).await,
        }
    }

    /// After a wait it is later, and the token may be dead.
    async fn again(&mut self) -> Result<(), Response> {
        if self.ask.wait > Duration::ZERO {
            self.call.now = self.app.clock.now();
            let again = revocations::subscriber(&self.call, self.token).await;
            let realm = self.call.tenant.slug.as_str();
            self.subscriber = again.map_err(|error| reply::bearer_error(&error, realm))?;
            is_ready(self.app).await?;
        }
        Ok(())
    }

    async fn snapshot(&self) -> Result<Response, Response> {
        let view = &self.app.services.revocations;
        let page = view.snapshot(&self.subscriber.reader, self.ask.limit, self.call.now);
        self.show(&page).await
    }

    async fn show(&self, page: &Page) -> Result<Response, Response> {
        let (content_type, body) = match self.ask.form {
            Form::Signed => {
                let signed = revocations::sign(&self.call, page, &self.subscriber.client).await;
                let signed = signed.map_err(|error| reply::unavailable(&error))?;
                ("application/revocations+jwt", signed.reveal().clone().into_bytes())
            }
            Form::Json | Form::Stream => {
                let written = revocations::write(&self.call, page);
                let failed = |_| reply::problem(StatusCode::INTERNAL_SERVER_ERROR);
                ("application/json", serde_json::to_vec(&written).map_err(failed)?)
            }
        };
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.mark(&mut response, &page.cursor);
        Ok(response)
    }

    fn unchanged(&self, seen: &Cursor) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        self.mark(&mut response, seen);
        response
    }

    fn mark(&self, response: &mut Response, cursor: &Cursor) {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept, authorization"));
        if let Ok(tag) = HeaderValue::try_from(format!("\"{cursor}\"")) {
            headers.insert(ETAG, tag);
        }
        let applied = HeaderValue::try_from(format!("wait={}", self.ask.wait.as_secs()));
        if let Ok(applied) = applied
            && self.ask.preferred
        {
            headers.insert("preference-applied", applied);
        }
    }
}

/// Whether a page is to be answered at once: something came, or a snapshot in pages is complete.
fn is_news(page: &Page, at: &Cursor) -> bool {
    !page.entries.is_empty() || page.more || matches!(at, Cursor::Listing { .. })
}

fn refuse(what: &str) -> Response {
    reply::problem_details(StatusCode::BAD_REQUEST, what)
}

fn gone() -> Response {
    let detail = "this cursor is of another time of the log: take a snapshot, without `after`, and \
                  keep what you have until it expires";
    reply::problem_details(StatusCode::GONE, detail)
}
