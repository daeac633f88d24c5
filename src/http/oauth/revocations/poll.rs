use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tracing::warn;

use super::{is_ready, reader, refuse, wait};
use crate::app::App;
use crate::http::extract::{Authorization, Request};
use crate::http::reply;
use crate::oauth::{Params, revocations};

/// How many tokens an answer has at most, and when nobody says.
const MOST: usize = 1_000;
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A poll (RFC 8936 §2.2).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Poll {
    max_events: Option<usize>,
    return_immediately: bool,
    ack: Vec<String>,
    set_errs: Map<String, Value>,
}

/// `POST {issuer}/revocations/poll`: the same log as security event tokens, acknowledged one by one
/// (RFC 8936).
pub(in crate::http) async fn post(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answered = async {
        let params = Params::parse(query.0.as_deref().unwrap_or_default().as_bytes());
        let params = params.map_err(|wrong| refuse(&wrong.to_string()))?;
        let mut call = request.call(&app.services);
        let (token, mut subscriber) = reader(&call, &authorization, &params).await?;
        let poll = read(&headers, &body).map_err(|wrong| refuse(&wrong))?;
        is_ready(&app).await?;
        for (jti, error) in &poll.set_errs {
            warn!(client.id = subscriber.client.as_str(), jti, %error, "a reader refused an event");
        }
        let done: HashSet<&str> =
            poll.ack.iter().chain(poll.set_errs.keys()).map(String::as_str).collect();
        let most = poll.max_events.unwrap_or(MOST).min(MOST);
        let view = &app.services.revocations;
        let mut news = view.news(&request.tenant.uid);
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut over = poll.return_immediately || most == 0;
        loop {
            news.borrow_and_update();
            let (reader, client) = (&subscriber.reader, &subscriber.client);
            let due = view.deliver(reader, client, &done, most, call.now).await;
            let (entries, more) = due.map_err(|error| reply::unavailable(&error))?;
            if over || !entries.is_empty() {
                let sets = revocations::event_tokens(&call, &entries, client).await;
                let sets = sets.map_err(|error| reply::unavailable(&error))?;
                let answer = json!({"sets": sets, "moreAvailable": more});
                return Ok(reply::json(StatusCode::OK, &answer));
            }
            over = !wait(&app, &mut news, deadline).await;
            // An empty answer, too, says that the view is fresh and the reader still one.
            call.now = app.clock.now();
            let again = revocations::subscriber(&call, &token).await;
            let realm = request.tenant.slug.as_str();
            subscriber = again.map_err(|error| reply::bearer_error(&error, realm))?;
            is_ready(&app).await?;
        }
    };
    answered.await.unwrap_or_else(|refusal: Response| refusal)
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Poll, String> {
    let of_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = of_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err("send a JSON object as application/json".to_owned());
    }
    let wrong = |error| format!("no poll request: {error}");
    // An object and nothing else: serde would take the members from a list, too.
    let object: Map<String, Value> = serde_json::from_slice(body).map_err(wrong)?;
    Poll::deserialize(Value::Object(object)).map_err(wrong)
}
