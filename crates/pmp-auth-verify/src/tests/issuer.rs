//! An issuer in this process: it signs, serves its keys, revokes and speaks of it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::sync::watch;

pub const API: &str = "https://api.example";

/// A signing key and its public half.
#[derive(Clone)]
pub struct TestKey {
    pub kid: String,
    signing: EncodingKey,
    pub jwk: Value,
}

impl TestKey {
    pub fn new(kid: &str) -> Self {
        let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(alg, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y, "use": "sig"});
        let signing = EncodingKey::from_ec_der(pkcs8.as_ref());
        Self { kid: kid.to_owned(), signing, jwk }
    }

    pub fn sign(&self, typ: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.kid.clone());
        encode(&header, claims, &self.signing).unwrap()
    }
}

/// What the issuer is like now.
pub struct Inner {
    pub keys: Vec<TestKey>,
    pub entries: Vec<Value>,
    pub epoch: u32,
    /// Whether the feed streams; else it only polls.
    pub streams: bool,
    /// Everything is answered 503.
    pub down: bool,
    /// What introspection knows, and its Cache-Control.
    pub active: HashMap<String, Value>,
    pub cache_control: &'static str,
    pub lists: HashMap<String, String>,
    /// Requests by path.
    pub asked: HashMap<String, usize>,
}

#[derive(Clone)]
pub struct TestIssuer {
    pub url: String,
    inner: Arc<Mutex<Inner>>,
    news: watch::Sender<u64>,
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

pub fn half(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, key.as_bytes()).as_ref()[..16])
}

impl TestIssuer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/t/acme", listener.local_addr().unwrap());
        let inner = Inner {
            keys: vec![TestKey::new("k1")],
            entries: Vec::new(),
            epoch: 1,
            streams: true,
            down: false,
            active: HashMap::new(),
            cache_control: "no-store",
            lists: HashMap::new(),
            asked: HashMap::new(),
        };
        let own = Self { url, inner: Arc::new(Mutex::new(inner)), news: watch::Sender::new(0) };
        let paths = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .route("/introspect", post(introspect))
            .route("/revocations", get(feed))
            .route("/lists/{id}", get(list));
        let router = Router::new().nest("/t/acme", paths).with_state(own.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        own
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Changes what it is like; streams look again.
    pub fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.news.send_modify(|n| *n += 1);
    }

    pub fn asked(&self, path: &str) -> usize {
        self.lock().asked.get(path).copied().unwrap_or(0)
    }

    /// The claims of a good token of this `jti`.
    pub fn claims(&self, jti: &str) -> Value {
        json!({
            "iss": self.url, "sub": "alice", "client_id": "web", "aud": API, "jti": jti,
            "scope": "orders:read profile", "iat": now(), "exp": now() + 300,
            "gid": "g1", "gen": 2, "sid": "s1",
        })
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.lock().keys[0].clone().sign("at+jwt", claims)
    }

    pub fn token(&self, jti: &str) -> String {
        self.sign(&self.claims(jti))
    }

    pub fn revoke(&self, entry: Value) {
        self.change(|inner| inner.entries.push(entry));
    }

    pub fn revoke_jti(&self, jti: &str) {
        self.revoke(json!({"k": "jti", "h": half(jti), "exp": now() + 360}));
    }

    fn page(&self, from: usize) -> (Value, String) {
        let inner = self.lock();
        let cursor = format!("{}.{}", inner.epoch, inner.entries.len());
        let entries = &inner.entries[from.min(inner.entries.len())..];
        let page = json!({"iss": self.url, "cursor": cursor, "more": false, "as_of": now() * 1000,
            "revoked_at": now() * 1000, "entries": entries});
        (page, cursor)
    }

    fn position(&self, cursor: &str) -> Option<usize> {
        let (epoch, n) = cursor.split_once('.')?;
        (epoch == self.lock().epoch.to_string()).then(|| n.parse().ok()).flatten()
    }

    fn count(&self, path: &str) -> Option<Response> {
        let mut inner = self.lock();
        *inner.asked.entry(path.to_owned()).or_default() += 1;
        inner.down.then(|| StatusCode::SERVICE_UNAVAILABLE.into_response())
    }
}

async fn metadata(State(own): State<TestIssuer>) -> Response {
    let at = |path: &str| format!("{}{path}", own.url);
    own.count("metadata").unwrap_or_else(|| {
        Json(json!({"issuer": own.url, "jwks_uri": at("/jwks"), "token_endpoint": at("/token"),
            "introspection_endpoint": at("/introspect")}))
        .into_response()
    })
}

async fn jwks(State(own): State<TestIssuer>) -> Response {
    own.count("jwks").unwrap_or_else(|| {
        let keys: Vec<_> = own.lock().keys.iter().map(|key| key.jwk.clone()).collect();
        Json(json!({"keys": keys})).into_response()
    })
}

fn is_api(headers: &HeaderMap) -> bool {
    // `api:s%3Acret`, both halves form-encoded.
    headers.get("authorization").is_some_and(|value| value == "Basic YXBpOnMlM0FjcmV0")
}

async fn token(
    State(own): State<TestIssuer>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    if let Some(down) = own.count("token") {
        return down;
    }
    if !is_api(&headers) || form["scope"] != "revocations:read" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(json!({"access_token": "feed-token", "token_type": "Bearer", "expires_in": 300}))
        .into_response()
}

async fn introspect(
    State(own): State<TestIssuer>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    if let Some(down) = own.count("introspect") {
        return down;
    }
    if !is_api(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let inner = own.lock();
    let known = inner.active.get(&form["token"]).cloned();
    let answer = known.unwrap_or_else(|| json!({"active": false}));
    ([("cache-control", inner.cache_control)], Json(answer)).into_response()
}

async fn list(State(own): State<TestIssuer>, Path(id): Path<String>) -> Response {
    own.count("list").unwrap_or_else(|| match own.lock().lists.get(&id) {
        Some(list) => list.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn feed(
    State(own): State<TestIssuer>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let stream = headers["accept"] == "text/event-stream";
    if let Some(down) = own.count(if stream { "stream" } else { "poll" }) {
        return down;
    }
    if headers.get("authorization").is_none_or(|value| value != "Bearer feed-token") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if stream && !own.lock().streams {
        return StatusCode::NOT_ACCEPTABLE.into_response();
    }
    let last = headers.get("last-event-id").map(|value| value.to_str().unwrap().to_owned());
    let from = match last.or_else(|| query.get("after").cloned()) {
        Some(cursor) => match own.position(&cursor) {
            Some(position) => Some(position),
            None => return StatusCode::GONE.into_response(),
        },
        None => None,
    };
    if stream { follow(own, from) } else { poll(own, from, query.contains_key("wait")).await }
}

async fn poll(own: TestIssuer, from: Option<usize>, waits: bool) -> Response {
    let mut news = own.news.subscribe();
    if waits && from == Some(own.lock().entries.len()) {
        let _ = tokio::time::timeout(Duration::from_secs(2), news.changed()).await;
    }
    Json(own.page(from.unwrap_or(0)).0).into_response()
}

fn follow(own: TestIssuer, from: Option<usize>) -> Response {
    let (news, epoch) = (own.news.subscribe(), own.lock().epoch);
    let state = (own, news, from, true);
    let events =
        futures_util::stream::unfold(state, move |(own, mut news, from, first)| async move {
            loop {
                news.borrow_and_update();
                let (down, reset, length) = {
                    let inner = own.lock();
                    (inner.down, inner.epoch != epoch, inner.entries.len())
                };
                if down {
                    return None;
                }
                if reset {
                    let said = Bytes::from("event: reset\ndata: {}\n\n");
                    own.lock().asked.entry("reset".to_owned()).or_insert(0);
                    return (!first).then(|| (Ok::<_, Infallible>(said), (own, news, from, true)));
                }
                if first || from.is_some_and(|from| from < length) {
                    let name = if from.is_none() { "snapshot" } else { "revoked" };
                    let (page, cursor) = own.page(from.unwrap_or(0));
                    let said =
                        format!(": {}\n\nevent: {name}\nid: {cursor}\ndata: {page}\n\n", now());
                    return Some((Ok(said.into()), (own, news, Some(length), false)));
                }
                news.changed().await.ok()?;
            }
        });
    ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
}
