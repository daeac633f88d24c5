//! A whole server in this process, on a free port of loopback: what HTTP tests talk to.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pmp_auth::app::{App, Surroundings};
use pmp_auth::base::{ManualClock, SystemEntropy};
use pmp_auth::config::{self, Environment, Settings};
use pmp_auth::http::Listening;
use pmp_auth::http::pages::template::Templates;
use pmp_auth::identity::PasswordCost;
use pmp_auth::storage::Engine;
use pmp_auth::tenant::Tenant;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::engines::{OPENED_AT, Place};

/// The secret of every confidential client of tenant `acme` in [`TENANTS`].
pub const SECRET: &str = "b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq";
/// … and of tenant `other`.
pub const OTHER_SECRET: &str = "u3Xk8Zt5Wb1Rn6Mv9Cq2Lj7Hd4Fs0Pa";
/// The pepper of API keys, id 1.
pub const PEPPER: &str = "p9Vd2Xr6Wm4Zt8Qk1Bn5Hs3Jc7Lg0Fy-a_Ue";
/// The password of every user in [`TENANTS`].
pub const PASSWORD: &str = "plum tractor nine lagoon";
/// The API of tenant `acme`.
pub const API: &str = "https://api.acme.example";

/// Two tenants with the same clients and users, and different secrets. `{public_url}` is filled in.
pub const TENANTS: &str = r#"
tenants:
  acme: &tenant
    name: Acme
    scopes:
      - openid
      - profile
      - email
      - offline_access
      - {name: "orders:read", description: See your orders}
      - {name: "orders:write", description: Change your orders}
    resources: ["https://api.acme.example", "https://files.acme.example"]
    default_resource: https://api.acme.example
    clients:
      - &web
        client_id: web
        name: Acme Web
        type: confidential
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        redirect_uris: ["http://localhost:3000/callback", "http://localhost:3000/other"]
        post_logout_redirect_uris: ["http://localhost:3000/bye"]
        grants: [authorization_code, refresh_token, client_credentials]
        scopes: [openid, profile, email, offline_access, "orders:read", "orders:write"]
        resources: ["https://api.acme.example", "https://files.acme.example"]
      - &post
        client_id: post
        type: confidential
        auth_method: client_secret_post
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        redirect_uris: ["http://localhost:3000/callback"]
        grants: [authorization_code, refresh_token, client_credentials]
        scopes: [openid, profile, email, offline_access, "orders:read"]
      - &opaque
        client_id: opaque
        type: confidential
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        redirect_uris: ["http://localhost:3000/callback"]
        grants: [authorization_code, refresh_token, client_credentials]
        scopes: [openid, profile, email, offline_access, "orders:read"]
        access_token_format: opaque
      - &spa
        client_id: spa
        name: Acme in the browser
        type: public
        application_type: browser
        redirect_uris: ["http://localhost:5173/callback"]
        cors_origins: ["http://localhost:5173"]
        grants: [authorization_code, refresh_token]
        scopes: [openid, profile, email, offline_access, "orders:read"]
      - &native
        client_id: native
        type: public
        application_type: native
        redirect_uris: ["http://127.0.0.1/callback", "com.example.acme:/callback"]
        grants: [authorization_code, refresh_token]
        scopes: [openid, profile, email, offline_access, "orders:read"]
      - &tv
        client_id: tv
        name: Acme TV
        type: public
        grants: [device_code, refresh_token]
        scopes: [openid, profile, email, offline_access, "orders:read"]
      - &settop
        client_id: settop
        name: Acme Set-top
        type: confidential
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        grants: [device_code, refresh_token]
        scopes: [openid, profile, email, offline_access, "orders:read"]
      - &api
        client_id: api
        type: confidential
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        grants: []
        audiences: ["https://api.acme.example"]
    users:
      - {username: alice, email: alice@example.com, name: Alice Adams, password: plum tractor nine lagoon}
      - {username: bob, email: bob@example.com, name: Bob Brown, password: plum tractor nine lagoon}
  other:
    <<: *tenant
    name: Other
    clients:
      - {<<: *web, client_secret: u3Xk8Zt5Wb1Rn6Mv9Cq2Lj7Hd4Fs0Pa}
      - {<<: *post, client_secret: u3Xk8Zt5Wb1Rn6Mv9Cq2Lj7Hd4Fs0Pa}
      - {<<: *opaque, client_secret: u3Xk8Zt5Wb1Rn6Mv9Cq2Lj7Hd4Fs0Pa}
      - *spa
      - *native
      - *tv
      - {<<: *settop, client_secret: u3Xk8Zt5Wb1Rn6Mv9Cq2Lj7Hd4Fs0Pa}
      - {<<: *api, client_secret: u3Xk8Zt5Wb1Rn6Mv9Cq2Lj7Hd4Fs0Pa}
"#;

/// A running server.
pub struct TestServer {
    /// Where its store lives.
    pub place: Arc<Place>,
    /// The application.
    pub app: Arc<App>,
    /// Its clock; it stands at [`OPENED_AT`] until it is moved.
    pub clock: ManualClock,
    /// `http://127.0.0.1:port`.
    pub base: String,
    /// A client that follows no redirects and keeps no cookies.
    pub http: reqwest::Client,
    settings: Settings,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// Takes all of a response.
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().await.expect("a whole body") }
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The member `error` of a JSON body.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }

    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header in ASCII"))
    }
}

impl TestServer {
    /// A server of the tenants of [`TENANTS`].
    pub async fn start(engine: Engine) -> Self {
        Self::with(engine, TENANTS).await
    }

    /// A server of the tenants that `yaml` has.
    pub async fn with(engine: Engine, yaml: &str) -> Self {
        Self::configured(engine, yaml, |_| {}).await
    }

    /// A server of the tenants that `yaml` has, and with the settings that `change` makes of it.
    pub async fn configured(
        engine: Engine,
        yaml: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let listening = bind("127.0.0.1:0".parse().expect("an address")).await;
        let base = format!("http://{}", listening.address().expect("a bound address"));
        let place = Arc::new(Place::new(engine));
        if engine == Engine::Sqlite {
            place.open().await.close().await; // puts the migrated file there
        }
        let mut settings = settings(&base, yaml);
        settings.storage.engine = place.settings();
        if let Some(file) = place.file() {
            file.parent().expect("its directory").clone_into(&mut settings.server.data_dir);
        }
        // Its clock stands: whoever is limited by the second would be so for ever.
        for tenant in settings.tenants.values_mut() {
            (tenant.token_rate, tenant.introspection_rate) = (0, 0);
        }
        change(&mut settings);
        let clock = ManualClock::at(OPENED_AT);
        let (app, stop, serving) = serve(listening, settings.clone(), &clock).await;
        Self { place, app, clock, base, http: client(), settings, stop, serving }
    }

    /// Another node on the same database, of the same configuration and time.
    pub async fn beside(&self) -> Self {
        self.beside_with(|_| {}).await
    }

    /// The same with other settings.
    pub async fn beside_with(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let (place, mut settings, clock) =
            (Arc::clone(&self.place), self.settings.clone(), self.clock.clone());
        change(&mut settings);
        assert!(matches!(*place, Place::Postgres(_)), "only nodes on Postgres share their store");
        let listening = bind("127.0.0.1:0".parse().expect("an address")).await;
        let base = format!("http://{}", listening.address().expect("a bound address"));
        let (app, stop, serving) = serve(listening, settings.clone(), &clock).await;
        Self { place, app, clock, base, http: client(), settings, stop, serving }
    }

    /// Stops it as SIGTERM would, and starts it again over what it left behind, at the same address.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same, with settings changed in between.
    pub async fn restart_with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let Self { place, app, clock, base, http, mut settings, stop, serving } = self;
        change(&mut settings);
        let address = *app.listening.get().expect("a bound address");
        app.begin_stop();
        stop.cancel();
        serving.await.expect("no panic in the accept loop");
        app.stop().await;
        let listening = bind(address).await;
        let (app, stop, serving) = serve(listening, settings.clone(), &clock).await;
        Self { place, app, clock, base, http, settings, stop, serving }
    }

    /// Stops it as SIGTERM would, and waits until it has.
    pub async fn stop(self) {
        self.app.begin_stop();
        self.stop.cancel();
        self.serving.await.expect("no panic in the accept loop");
        self.app.stop().await;
    }

    /// Begins to stop it, and goes on at once.
    pub fn begin_stop(&self) {
        self.app.begin_stop();
        self.stop.cancel();
    }

    /// Moves its clock on and brings what is in memory up to that time.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.settle().await;
    }

    /// Waits until this node knows what others wrote: revocations, tenants, clients.
    pub async fn settle(&self) {
        self.app.services.revocations.sync().await.expect("a sync");
        self.app.registry.refresh(pmp_auth::base::Clock::now(&self.clock)).await.expect("a look");
    }

    /// The issuer of a tenant.
    pub fn issuer(&self, tenant: &str) -> String {
        format!("{}/t/{tenant}", self.base)
    }

    /// An address below a tenant's issuer.
    pub fn url(&self, tenant: &str, path: &str) -> String {
        format!("{}/t/{tenant}{path}", self.base)
    }

    /// The tenant as the server has it.
    pub fn tenant(&self, slug: &str) -> Arc<Tenant> {
        self.app.registry.named(slug).expect("a tenant of the configuration")
    }

    /// GET, redirects not followed.
    pub async fn get(&self, url: &str) -> Answer {
        Answer::of(self.http.get(url).send().await.expect("an answer")).await
    }

    /// POST of a form, with HTTP Basic if credentials are given.
    pub async fn post(
        &self,
        url: &str,
        basic: Option<(&str, &str)>,
        form: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.http.post(url).form(form);
        if let Some((id, secret)) = basic {
            request = request.basic_auth(id, Some(secret));
        }
        Answer::of(request.send().await.expect("an answer")).await
    }

    /// POST to the token endpoint of `acme` as `client`, by HTTP Basic with its secret.
    pub async fn token(&self, client: &str, form: &[(&str, &str)]) -> Answer {
        self.post(&self.url("acme", "/token"), Some((client, SECRET)), form).await
    }

    /// An access token of `acme` for `client` itself (client_credentials).
    pub async fn client_token(&self, client: &str) -> String {
        let answer = self.token(client, &[("grant_type", "client_credentials")]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["access_token"].as_str().expect("a token").to_owned()
    }
}

fn client() -> reqwest::Client {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    http.no_proxy().build().expect("a client")
}

async fn bind(address: SocketAddr) -> Listening {
    // A socket that was closed a moment ago may linger.
    for _ in 0..50 {
        match Listening::bind(address, None).await {
            Ok(listening) => return listening,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("cannot listen on {address}");
}

fn settings(base: &str, tenants: &str) -> Settings {
    let server = format!(
        "server:\n  listen: {}\n  public_url: {base}\n  secret_keys: [{{id: 1, secret: {SECRET}}}]\n  \
         api_key_peppers: [{{id: 1, secret: {PEPPER}}}]\n\
         jobs:\n  cleanup: off\n",
        base.trim_start_matches("http://"),
    );
    let text = format!("{server}{}", tenants.replace("{public_url}", base));
    match config::parse("test.yaml", Path::new("."), &text, &Environment::empty()) {
        Ok(settings) => settings,
        Err(faults) => panic!("{faults}\n{text}"),
    }
}

async fn serve(
    listening: Listening,
    settings: Settings,
    clock: &ManualClock,
) -> (Arc<App>, CancellationToken, JoinHandle<()>) {
    let surroundings = Surroundings {
        clock: Arc::new(clock.clone()),
        follow_database_time: false,
        entropy: Arc::new(SystemEntropy),
        password_cost: PasswordCost::CHEAP,
    };
    let address = listening.address().expect("a bound address");
    let app = App::start(settings, surroundings).await.expect("the application starts");
    let _ = app.listening.set(address);
    let templates = Arc::new(Templates::new().expect("the templates"));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(listening.run(Arc::clone(&app), templates, stop.clone()));
    (app, stop, serving)
}
