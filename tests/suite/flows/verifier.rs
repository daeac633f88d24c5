//! `pmp-auth-verify` in an API, against the real server: what is revoked there is refused here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use pmp_auth::base::{Clock as _, ManualClock};
use pmp_auth::storage::Engine;
use pmp_auth_verify::{
    Clock, Code, Credentials, Mode, OnLoss, SystemClock, Token, Transport, Verifier,
};
use tower::ServiceExt as _;

use crate::support::server::{API, SECRET, TENANTS, TestServer};

/// The server's day, and a clock that can jump.
struct Times {
    server: ManualClock,
    system: SystemClock,
    later: AtomicU64,
}

impl Times {
    fn of(server: &TestServer) -> Arc<Self> {
        let (server, system) = (server.clock.clone(), SystemClock::default());
        Arc::new(Self { server, system, later: AtomicU64::new(0) })
    }

    fn jump(&self, seconds: u64) {
        self.later.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for Times {
    fn wall(&self) -> Duration {
        Duration::from_millis(self.server.now().millis().try_into().unwrap())
    }

    fn mono(&self) -> Duration {
        self.system.mono() + Duration::from_secs(self.later.load(Ordering::Relaxed))
    }
}

/// The tenants, and at `acme` the API as a client that may read the feed.
fn tenants() -> String {
    let api = format!(
        "      - {{client_id: feed-api, type: confidential, client_secret: {SECRET}, \
         grants: [client_credentials], scopes: [\"revocations:read\"], audiences: [\"{API}\"]}}\n"
    );
    let yaml = TENANTS.replacen("      - &api\n", &format!("{api}      - &api\n"), 1);
    assert_ne!(yaml, TENANTS);
    yaml
}

/// An API of a server.
struct Api {
    router: Router,
    verifier: Verifier,
    times: Arc<Times>,
}

impl Api {
    async fn new(server: &TestServer, transport: Transport, on_loss: OnLoss) -> Self {
        let times = Times::of(server);
        let verifier = Verifier::builder()
            .issuer(server.issuer("acme"))
            .audience(API)
            .mode(Mode::Feed)
            .transport(transport)
            .on_loss(on_loss)
            .credentials(Credentials::new("feed-api", SECRET))
            .clock(times.clone())
            .build()
            .unwrap();
        verifier.ready_within(Duration::from_secs(20)).await.unwrap();
        let whose = |token: Token| async move { token.client_id().to_owned() };
        let router = Router::new()
            .route("/hello", get(whose))
            .route("/write", get(whose).layer(verifier.require_scope("orders:write")))
            .with_state(verifier.clone());
        Self { router, verifier, times }
    }

    async fn get(&self, path: &str, token: &str) -> u16 {
        let request =
            axum::http::Request::get(path).header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    /// How long it takes until `token` is answered `status`.
    async fn until(&self, token: &str, status: u16) -> Duration {
        let begun = Instant::now();
        while self.get("/hello", token).await != status {
            assert!(begun.elapsed() < Duration::from_secs(20), "still not {status}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun.elapsed()
    }
}

/// A token that may write orders.
async fn writing(server: &TestServer) -> String {
    let form = [("grant_type", "client_credentials"), ("scope", "orders:write")];
    let answer = server.token("web", &form).await;
    answer.json()["access_token"].as_str().expect("a token").to_owned()
}

async fn revoke(server: &TestServer, client: &str, token: &str) {
    let url = server.url("acme", "/revoke");
    assert_eq!(server.post(&url, Some((client, SECRET)), &[("token", token)]).await.status, 200);
}

/// A revoked token is refused within a second, and still after the server was started again.
async fn revoked_is_refused(engine: Engine) {
    for transport in [Transport::Sse, Transport::Poll] {
        let server = TestServer::with(engine, &tenants()).await;
        let api = Api::new(&server, transport, OnLoss::FailClosed).await;
        let (dead, live) = (writing(&server).await, writing(&server).await);
        assert_eq!(api.get("/hello", &dead).await, 200);
        assert_eq!(api.get("/write", &live).await, 200);
        revoke(&server, "web", &dead).await;
        let took = api.until(&dead, 401).await;
        assert!(took < Duration::from_secs(1), "{transport:?}: {took:?}");
        assert_eq!(api.get("/hello", &live).await, 200);
        let narrow = server.client_token("web").await;
        assert_eq!(api.get("/write", &narrow).await, 403);

        let server = server.restart().await;
        assert_eq!(api.get("/hello", &dead).await, 401);
        // A revocation after the restart proves that the feed goes on …
        revoke(&server, "web", &live).await;
        api.until(&live, 401).await;
        assert_eq!(api.get("/hello", &dead).await, 401);
        assert_eq!(api.get("/hello", &narrow).await, 200);
        // … and an API that starts now hears of both.
        let fresh = Api::new(&server, transport, OnLoss::FailClosed).await;
        assert_eq!(fresh.get("/hello", &dead).await, 401);
        assert_eq!(fresh.get("/hello", &live).await, 401);
        assert_eq!(fresh.get("/hello", &narrow).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_within_a_second_and_after_a_restart_on_sqlite() {
    revoked_is_refused(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_within_a_second_and_after_a_restart_on_postgres() {
    revoked_is_refused(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_lost_closes_the_api_and_comes_back() {
    let server = TestServer::with(Engine::Sqlite, &tenants()).await;
    let api = Api::new(&server, Transport::Auto, OnLoss::FailClosed).await;
    let grace = OnLoss::Grace(Duration::from_mins(1));
    let patient = Api::new(&server, Transport::Auto, grace).await;
    let (token, dead) = (server.client_token("web").await, server.client_token("web").await);
    revoke(&server, "web", &dead).await;
    for one in [&api, &patient] {
        one.until(&dead, 401).await;
        one.times.jump(46);
    }
    // Silent for 46 s by its clock: what it knows to be revoked stays so, the rest it cannot know.
    assert_eq!(api.get("/hello", &token).await, 503);
    let told = api.verifier.verify(&token, &[]).await.unwrap_err();
    assert_eq!((told.code(), told.reason()), (Code::Unavailable, "the revocation feed is lost"));
    assert_eq!(api.get("/hello", &dead).await, 401);
    assert_eq!(patient.get("/hello", &token).await, 200, "within its grace");
    patient.times.jump(60);
    assert_eq!(patient.get("/hello", &token).await, 503);
    // It speaks again.
    let other = server.client_token("web").await;
    revoke(&server, "web", &other).await;
    api.until(&token, 200).await;
    patient.until(&token, 200).await;
    assert_eq!(api.get("/hello", &other).await, 401);
}
