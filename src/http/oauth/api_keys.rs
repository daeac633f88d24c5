//! `{issuer}/api-keys`: API keys in the hands of their owners.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{self, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::extract::{Authorization, Request};
use crate::http::reply;
use crate::model::api_key::ApiKeyId;
use crate::oauth::api_keys::{self, ApiKeyError, Made, Manager, Rotation, Wanted};
use crate::oauth::bearer::{self, BearerError};
use crate::oauth::{Call, Params};

const MOST_IN_A_PAGE: u32 = 200;
const IN_A_PAGE: u32 = 50;

/// What follows the issuer in the path: a key's id, beside the tenant's slug where there is one.
#[derive(Deserialize)]
pub(in crate::http) struct Which {
    id: String,
}

/// `POST {issuer}/api-keys`: makes one.
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
    body: http::Request<Body>,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let manager = manager(&call, &query, &authorization).await?;
        let wanted: Wanted = read(body).await?;
        Ok(made(&call, &manager.create(&call, &wanted).await?))
    };
    answered.await.unwrap_or_else(|refusal: Refusal| refusal.answer(&request))
}

/// `GET {issuer}/api-keys`: lists the caller's.
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    request: Request,
    query: RawQuery,
    authorization: Authorization,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let manager = manager(&call, &query, &authorization).await?;
        let params = params(&query)?;
        let limit = match params.get("limit") {
            None => IN_A_PAGE,
            Some(text) => match text.parse() {
                Ok(limit @ 1..=MOST_IN_A_PAGE) => limit,
                _ => return Err(invalid("limit", "limit is 1 to 200")),
            },
        };
        let after = params.get("after").map(str::parse::<ApiKeyId>).transpose();
        let after = after.map_err(|_| invalid("after", "after is `next` of the page before"))?;
        let mut keys = manager.list(&call, after, limit + 1).await?;
        let more = keys.len() > limit as usize;
        keys.truncate(limit as usize);
        let next = keys.last().filter(|_| more).map(|key| key.id);
        let items: Vec<Value> = keys.iter().map(|key| api_keys::shown(key, call.now)).collect();
        Ok(reply::json(StatusCode::OK, &json!({"items": items, "next": next})))
    };
    answered.await.unwrap_or_else(|refusal: Refusal| refusal.answer(&request))
}

/// `GET {issuer}/api-keys/{id}`.
pub(in crate::http) async fn get(
    State(app): State<Arc<App>>,
    request: Request,
    Path(which): Path<Which>,
    query: RawQuery,
    authorization: Authorization,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let manager = manager(&call, &query, &authorization).await?;
        let key = manager.get(&call, which.id()?).await?;
        Ok(reply::json(StatusCode::OK, &api_keys::shown(&key, call.now)))
    };
    answered.await.unwrap_or_else(|refusal: Refusal| refusal.answer(&request))
}

/// `DELETE {issuer}/api-keys/{id}`: revokes it.
pub(in crate::http) async fn revoke(
    State(app): State<Arc<App>>,
    request: Request,
    Path(which): Path<Which>,
    query: RawQuery,
    authorization: Authorization,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let manager = manager(&call, &query, &authorization).await?;
        manager.revoke(&call, which.id()?).await?;
        let mut response = reply::no_store(StatusCode::NO_CONTENT, JSON, Body::empty());
        response.headers_mut().remove(CONTENT_TYPE);
        Ok(response)
    };
    answered.await.unwrap_or_else(|refusal: Refusal| refusal.answer(&request))
}

/// `POST {issuer}/api-keys/{id}/rotate`: makes its successor.
pub(in crate::http) async fn rotate(
    State(app): State<Arc<App>>,
    request: Request,
    Path(which): Path<Which>,
    query: RawQuery,
    authorization: Authorization,
    body: http::Request<Body>,
) -> Response {
    let call = request.call(&app.services);
    let answered = async {
        let manager = manager(&call, &query, &authorization).await?;
        let how: Rotation = read(body).await?;
        Ok(made(&call, &manager.rotate(&call, which.id()?, &how).await?))
    };
    answered.await.unwrap_or_else(|refusal: Refusal| refusal.answer(&request))
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

impl Which {
    fn id(&self) -> Result<ApiKeyId, ApiKeyError> {
        self.id.parse().map_err(|_| ApiKeyError::NotFound)
    }
}

/// The whole key, this once.
fn made(call: &Call<'_>, made: &Made) -> Response {
    let mut shown = api_keys::shown(&made.key, call.now);
    shown["key"] = made.text.reveal().as_str().into();
    reply::json(StatusCode::CREATED, &shown)
}

async fn manager(
    call: &Call<'_>,
    query: &RawQuery,
    authorization: &Authorization,
) -> Result<Manager, Refusal> {
    let headers = authorization.all();
    let token = bearer::presented(&headers, &params(query)?, None)?.to_owned();
    Ok(Manager::of(call, &token).await?)
}

fn params(query: &RawQuery) -> Result<Params, Refusal> {
    let parsed = Params::parse(query.0.as_deref().unwrap_or_default().as_bytes());
    parsed.map_err(|error| invalid("query", &error.to_string()))
}

fn invalid(name: &'static str, what: &str) -> Refusal {
    ApiKeyError::Invalid(name, what.to_owned()).into()
}

/// A JSON body; none is an empty object.
async fn read<T: DeserializeOwned>(body: http::Request<Body>) -> Result<T, Refusal> {
    let of_type = body.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let of_type = of_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let is_json = of_type.is_some_and(|text| text.eq_ignore_ascii_case("application/json"));
    let bytes = body.into_body().collect().await.map_err(|_| invalid("body", "cannot be read"))?;
    let bytes = bytes.to_bytes();
    if bytes.is_empty() {
        return serde_json::from_str("{}").map_err(|error| invalid("body", &error.to_string()));
    }
    if !is_json {
        return Err(Refusal::NotJson);
    }
    serde_json::from_slice(&bytes).map_err(|error| invalid("body", &error.to_string()))
}

/// Why a request is refused (RFC 9457).
enum Refusal {
    Bearer(BearerError),
    Key(ApiKeyError),
    NotJson,
}

impl From<BearerError> for Refusal {
    fn from(error: BearerError) -> Self {
        Self::Bearer(error)
    }
}

impl From<ApiKeyError> for Refusal {
    fn from(error: ApiKeyError) -> Self {
        match error {
            ApiKeyError::Bearer(error) => Self::Bearer(error),
            ApiKeyError::Store(error) => Self::Bearer(BearerError::Store(error)),
            other => Self::Key(other),
        }
    }
}

impl Refusal {
    fn answer(&self, request: &Request) -> Response {
        let realm = request.tenant.slug.as_str();
        let (status, code, detail) = self.words();
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "code": code,
            "detail": detail,
        });
        if let Self::Key(ApiKeyError::Invalid(name, what)) = self {
            body["errors"] = json!([{"pointer": format!("/{name}"), "detail": what}]);
        }
        let mut response = reply::no_store(status, PROBLEM, body.to_string());
        let challenge = match self {
            Self::Bearer(error) => error.challenge(realm),
            _ => None,
        };
        let headers = response.headers_mut();
        if let Some(value) = challenge.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(WWW_AUTHENTICATE, value);
        }
        match self {
            Self::Key(ApiKeyError::TooOften { retry_after }) => {
                let seconds = retry_after.as_millis().div_ceil(1_000).max(1);
                let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response.extensions_mut().insert(reply::Why(self.cause()));
        response
    }

    fn words(&self) -> (StatusCode, &'static str, String) {
        let own = |status, code, text: &str| (status, code, text.to_owned());
        match self {
            Self::Bearer(error) => {
                let status = StatusCode::from_u16(error.status());
                let code = error.code().map_or("no_token", |code| code.as_str());
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                own(status, code, &error.description())
            }
            Self::NotJson => own(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "send the body as application/json",
            ),
            Self::Key(error) => {
                let (status, code) = match error {
                    ApiKeyError::TooWide(_) => (StatusCode::FORBIDDEN, "beyond_the_token"),
                    ApiKeyError::NotFound => (StatusCode::NOT_FOUND, "not_found"),
                    ApiKeyError::Invalid(..) => (StatusCode::BAD_REQUEST, "invalid_request"),
                    ApiKeyError::TooMany => (StatusCode::CONFLICT, "too_many_keys"),
                    ApiKeyError::Ended => (StatusCode::CONFLICT, "not_live"),
                    ApiKeyError::AlreadyRotated => (StatusCode::CONFLICT, "rotated_before"),
                    ApiKeyError::TooOften { .. } => {
                        (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable")
                    }
                    ApiKeyError::NotConfigured | ApiKeyError::Store(_) | ApiKeyError::Bearer(_) => {
                        (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
                    }
                };
                let text = match error {
                    ApiKeyError::NotConfigured => "there are no API keys on this server".to_owned(),
                    ApiKeyError::TooMany => {
                        format!("{error}; revoke one that is not needed any more")
                    }
                    other => other.to_string(),
                };
                (status, code, text)
            }
        }
    }

    fn cause(&self) -> String {
        match self {
            Self::Bearer(error) => error.to_string(),
            Self::Key(error) => error.to_string(),
            Self::NotJson => "the body is not JSON".to_owned(),
        }
    }
}
