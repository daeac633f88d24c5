//! The server under test and the floor, as processes of their own on one core.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::{COOKIE, LOCATION};

use crate::browser::Browser;
use crate::cpu;

const SECRET: &str = "bench-secret-0123456789abcdefghijklmnopqrstuvwxyz";
const PASSWORD: &str = "correct horse battery staple";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CALLBACK: &str = "http://127.0.0.1/cb";
const DEVICE_GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
const FORM: &str = "application/x-www-form-urlencoded";
/// What a television asks for.
pub const DEVICE_REQUEST: &str = "client_id=tv&scope=openid%20offline_access";

/// The server.
pub struct Server {
    process: Child,
    /// `memory`, `sqlite` or `postgres`.
    pub engine: String,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// The path of the issuer.
    pub path: String,
    /// From the start of the process to the first 200, keys already made.
    pub cold_start_ms: f64,
    /// Resident memory before any load.
    pub idle_mib: f64,
    pub http: reqwest::Client,
    pub runtime: tokio::runtime::Runtime,
    /// A session of each user.
    pub cookies: Vec<String>,
    core: usize,
    dir: PathBuf,
}

/// How many users act, each with a session: two for each connection, as rows that all connections
/// lock at once are no everyday load. Sign-ins from one address are limited to 50.
const USERS: usize = 32;

fn email(user: usize) -> String {
    format!("bench{user}@example.com")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

fn pinned(core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]);
    command
}

impl Server {
    /// Starts it twice: once to make its keys, once to be measured.
    pub fn start(engine: &str, dir: &Path, database: Option<&str>, core: usize) -> Self {
        let port = free_port();
        let config = dir.join("config.yaml");
        fs::write(&config, configuration(engine, dir, database, port)).expect("a configuration");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        let url = format!("http://127.0.0.1:{port}");
        let begin = || {
            let mut command = pinned(core);
            command.arg(env!("CARGO_BIN_EXE_pmp-auth")).arg("serve").arg("--config").arg(&config);
            command.current_dir(dir).env("PMP_AUTH_LOG", "warn");
            let log = fs::File::create(dir.join("server.log")).expect("a log");
            command.stdout(Stdio::null()).stderr(log).spawn().expect("the server starts")
        };
        let ready = |limit: Duration| {
            let from = Instant::now();
            loop {
                let answer = runtime.block_on(http.get(format!("{url}/readyz")).send());
                if answer.is_ok_and(|a| a.status().is_success()) {
                    return from.elapsed();
                }
                assert!(
                    from.elapsed() < limit,
                    "not ready: see {}",
                    dir.join("server.log").display()
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let mut process = begin();
        ready(Duration::from_secs(30));
        let warm = |client: &reqwest::Client| {
            runtime.block_on(async {
                let page = format!("{url}/t/bench/jwks.json");
                client.get(page).send().await.expect("an answer").error_for_status().expect("keys")
            });
        };
        warm(&http);
        stop(&mut process);
        let mut process = begin();
        let cold_start_ms = ready(Duration::from_secs(30)).as_secs_f64() * 1e3;
        std::thread::sleep(Duration::from_secs(1));
        let idle_mib = cpu::resident_mib(process.id());
        warm(&http);
        let mut server = Self {
            engine: engine.to_owned(),
            path: "/t/bench".to_owned(),
            cookies: Vec::new(),
            core,
            dir: dir.to_owned(),
            url,
            cold_start_ms,
            idle_mib,
            http,
            runtime,
            process: std::mem::replace(&mut process, Command::new("true").spawn().expect("true")),
        };
        server.cookies = (0..USERS).map(|user| server.sign_in(&email(user))).collect();
        server
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `Authorization` of a client.
    pub fn basic(&self, client: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{client}:{SECRET}")))
    }

    pub fn token(&self) -> String {
        format!("{}/token", self.path)
    }

    /// The token endpoint of another tenant.
    pub fn token_of(&self, tenant: &str) -> String {
        format!("/t/{tenant}/token")
    }

    pub fn introspect(&self) -> String {
        format!("{}/introspect", self.path)
    }

    pub fn revoke(&self) -> String {
        format!("{}/revoke", self.path)
    }

    pub fn device_authorization(&self) -> String {
        format!("{}/device_authorization", self.path)
    }

    /// The form that polls a device code.
    pub fn poll(device_code: &str) -> String {
        format!("grant_type={DEVICE_GRANT}&client_id=tv&device_code={device_code}")
    }

    /// `count` devices that asked: device code and user code of each.
    pub fn devices(&self, count: usize) -> Vec<(String, String)> {
        let ask = || {
            let url = format!("{}{}", self.url, self.device_authorization());
            let request = self.http.post(url).header("content-type", FORM).body(DEVICE_REQUEST);
            async { request.send().await.expect("an answer").text().await.expect("a body") }
        };
        let answers = self.all(count, ask);
        let codes =
            answers.iter().map(|body| (member(body, "device_code"), member(body, "user_code")));
        codes.collect()
    }

    /// Sends each of these polls twice, so that it is too early for some seconds.
    pub fn poll_too_early(&self, bodies: &[String]) {
        self.runtime.block_on(async {
            for body in bodies.iter().flat_map(|body| [body, body]) {
                let url = format!("{}{}", self.url, self.token());
                let request = self.http.post(url).header("content-type", FORM).body(body.clone());
                let told = request.send().await.expect("an answer").text().await.expect("a body");
                let expected = ["authorization_pending", "slow_down"];
                assert!(expected.iter().any(|error| told.contains(error)), "{told}");
            }
        });
    }

    /// Another node on the same database and core; where it listens.
    pub fn beside(&self) -> Node {
        let port = free_port();
        let mut command = pinned(self.core);
        command.arg(env!("CARGO_BIN_EXE_pmp-auth")).arg("serve").arg("--config");
        command.arg(self.dir.join("config.yaml")).current_dir(&self.dir);
        command.env("PMP_AUTH_LOG", "warn");
        command.env("PMP_AUTH__SERVER__LISTEN", format!("127.0.0.1:{port}"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let node = Node {
            process: command.spawn().expect("the node starts"),
            url: format!("http://127.0.0.1:{port}"),
        };
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let ask = self.http.get(format!("{}/readyz", node.url)).send();
            if self.runtime.block_on(ask).is_ok_and(|answer| answer.status().is_success()) {
                return node;
            }
            assert!(Instant::now() < until, "the second node is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Length of the discovery document, for the floor's page.
    pub fn page_bytes(&self) -> usize {
        let url = format!("{}{}/.well-known/openid-configuration", self.url, self.path);
        self.runtime.block_on(async {
            self.http.get(url).send().await.expect("discovery").bytes().await.expect("bytes").len()
        })
    }

    fn authorize_path(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, VERIFIER.as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(digest);
        format!(
            "{}/authorize?response_type=code&client_id=web&redirect_uri={}&scope=openid%20offline_access&state=s&nonce=n&code_challenge={challenge}&code_challenge_method=S256",
            self.path, "http%3A%2F%2F127.0.0.1%2Fcb"
        )
    }

    /// For `load.lua`: authorization path, the form up to the code, and a cookie of each user.
    pub fn code_arguments(&self) -> String {
        let cookies = self.cookies.join("|");
        format!("{}|{}|{cookies}", self.authorize_path(), self.redeem_prefix())
    }

    fn redeem_prefix(&self) -> String {
        format!(
            "grant_type=authorization_code&redirect_uri={}&code_verifier={VERIFIER}&code=",
            "http%3A%2F%2F127.0.0.1%2Fcb"
        )
    }

    /// Signs a user in by the login form; the cookies of the session.
    fn sign_in(&self, email: &str) -> String {
        self.runtime.block_on(async {
            let mut browser = Browser::new(&self.http, &self.url, "");
            let url = format!("{}{}", self.url, self.authorize_path());
            let login = browser.follow(&url, None).await;
            let (action, fields) = login.filled(&[("username", email), ("password", PASSWORD)]);
            let sent = browser.follow(&action, Some(&fields)).await;
            let onward = sent.onward.unwrap_or_default();
            assert!(onward.starts_with(CALLBACK), "the login form led to {}", sent.url);
            browser.cookies()
        })
    }

    /// `count` access tokens by client_credentials.
    pub fn client_credentials(&self, client: &str, count: usize) -> Vec<String> {
        let body = "grant_type=client_credentials&scope=read";
        self.many(count, || self.token_request(client, body.to_owned()), "access_token")
    }

    /// `count` access tokens of `client` by this request.
    pub fn tokens(&self, client: &str, body: &str, count: usize) -> Vec<String> {
        self.many(count, || self.token_request(client, body.to_owned()), "access_token")
    }

    /// The same by client_credentials, where the runtime runs already.
    pub async fn tokens_of(&self, client: &str, count: usize) -> Vec<String> {
        let mut tokens = Vec::with_capacity(count);
        for _ in 0..count {
            let body = "grant_type=client_credentials&scope=read".to_owned();
            tokens.push(member(&self.token_request(client, body).await, "access_token"));
        }
        tokens
    }

    /// `count` API keys of `svc` in a tenant, for as many uses as there will be.
    pub fn api_keys(&self, tenant: &str, count: usize) -> Vec<String> {
        let form = "grant_type=client_credentials&scope=read%20api_keys%3Amanage";
        let wanted = serde_json::json!({
            "name": "bench", "scopes": ["read"], "expires_at": in_a_week(),
            "rate": {"limit": 1_000_000, "window_seconds": 1},
        });
        self.runtime.block_on(async {
            let request = self.http.post(format!("{}{}", self.url, self.token_of(tenant)));
            let request = request.header("authorization", self.basic("svc"));
            let request = request.header("content-type", FORM).body(form);
            let answer = request.send().await.expect("an answer").text().await.expect("a body");
            let manager = member(&answer, "access_token");
            let mut keys = Vec::with_capacity(count);
            for _ in 0..count {
                let url = format!("{}/t/{tenant}/api-keys", self.url);
                let request = self.http.post(url).bearer_auth(&manager);
                let request = request.header("content-type", "application/json");
                let made = request.body(wanted.to_string()).send().await.expect("an answer");
                keys.push(member(&made.text().await.expect("a body"), "key"));
            }
            keys
        })
    }

    /// `count` refresh tokens, each of a grant of its own, of all users in turn.
    pub fn refresh_tokens(&self, count: usize) -> Vec<String> {
        self.runtime.block_on(async {
            let mut tokens = Vec::new();
            for cookie in self.cookies.iter().cycle().take(count) {
                let url = format!("{}{}", self.url, self.authorize_path());
                let answer =
                    self.http.get(url).header(COOKIE, cookie).send().await.expect("an answer");
                let place =
                    answer.headers().get(LOCATION).expect("a redirect").to_str().expect("text");
                let code =
                    place.split("code=").nth(1).expect("a code").split('&').next().expect("a code");
                let body = format!("{}{code}", self.redeem_prefix());
                tokens.push(member(&self.token_request("web", body).await, "refresh_token"));
            }
            tokens
        })
    }

    fn token_request(
        &self,
        client: &str,
        body: String,
    ) -> impl Future<Output = String> + Send + 'static {
        let request = self
            .http
            .post(format!("{}{}", self.url, self.token()))
            .header("authorization", self.basic(client))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        async { request.send().await.expect("an answer").text().await.expect("a body") }
    }

    fn many<F>(&self, count: usize, make: impl Fn() -> F, name: &str) -> Vec<String>
    where
        F: Future<Output = String> + Send + 'static,
    {
        self.all(count, make).iter().map(|body| member(body, name)).collect()
    }

    /// The answers to `count` requests, sixteen at a time.
    fn all<F>(&self, count: usize, make: impl Fn() -> F) -> Vec<String>
    where
        F: Future<Output = String> + Send + 'static,
    {
        self.runtime.block_on(async {
            let mut bodies = Vec::with_capacity(count);
            let mut asked = tokio::task::JoinSet::new();
            for n in 0..count {
                if n >= 16 {
                    bodies.extend(asked.join_next().await.map(|one| one.expect("a task")));
                }
                asked.spawn(make());
            }
            bodies.extend(asked.join_all().await);
            bodies
        })
    }
}

fn member(body: &str, name: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).to_owned()
}

fn stop(process: &mut Child) {
    let _ = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
    let _ = process.wait();
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

/// A second node.
pub struct Node {
    process: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

/// The floor.
pub struct Floor {
    process: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

impl Floor {
    /// Starts it and waits until it answers.
    pub fn start(database: Option<&str>, core: usize, page_bytes: usize) -> Self {
        let port = free_port();
        let mut command = pinned(core);
        command
            .arg(std::env::current_exe().expect("own path"))
            .arg("--floor")
            .arg(port.to_string());
        command.arg(page_bytes.to_string()).args(database);
        let process = command.spawn().expect("the floor starts");
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the floor did not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, url: format!("http://127.0.0.1:{port}") }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// RFC 3339.
fn in_a_week() -> String {
    (chrono::Utc::now() + chrono::TimeDelta::weeks(1)).to_rfc3339()
}

/// One hash for all users, at the server's own cost: none is made anew at a start or a sign-in.
fn password_hash() -> String {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
    let cost = Params::new(47_104, 1, 1, None).expect("parameters");
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost);
    hasher
        .hash_password_with_salt(PASSWORD.as_bytes(), b"salt of the bench")
        .expect("a hash")
        .to_string()
}

fn configuration(engine: &str, dir: &Path, database: Option<&str>, port: u16) -> String {
    let storage = match engine {
        "postgres" => format!(
            "storage:\n  type: postgres\n  connection_string: {}\n  migrate: auto\n",
            database.expect("a database")
        ),
        "sqlite" => format!(
            "storage:\n  type: sqlite\n  connection_string: {}\n",
            dir.join("pmp-auth.db").display()
        ),
        _ => String::new(),
    };
    let client = |id: &str, more: &str| {
        format!("      - client_id: {id}\n        client_secret: {SECRET}\n{more}")
    };
    let machine = "        grants: [client_credentials]\n        scopes: [read]\n";
    let manager =
        "        grants: [client_credentials]\n        scopes: [read, \"api_keys:manage\"]\n";
    let clients = client("svc", manager)
        + &client("opaque", &format!("{machine}        access_token_format: opaque\n"))
        + &client(
            "api",
            "        grants: [client_credentials]\n        audiences: [\"https://api.example\"]\n",
        )
        + &client(
            "reader",
            "        grants: [client_credentials]\n        scopes: [\"revocations:read\"]\n        audiences: [\"https://api.example\"]\n",
        )
        + &client(
            "web",
            "        grants: [authorization_code, refresh_token]\n        scopes: [openid, offline_access]\n        redirect_uris: [\"http://127.0.0.1/cb\"]\n        require_consent: false\n        id_token_alg: ES256\n",
        )
        + "      - client_id: tv\n        type: public\n        grants: [device_code, refresh_token]\n        scopes: [openid, offline_access]\n";
    let hash = password_hash();
    let users = (0..USERS).fold("    users:\n".to_owned(), |all, user| {
        all + &format!("      - email: {}\n        password_hash: {hash}\n", email(user))
    });
    let tenant = |slug: &str, signing: &str, users: &str| {
        format!(
            "  {slug}:\n    scopes: [openid, offline_access, read]\n    resources: [\"https://api.example\"]\n    default_resource: https://api.example\n    token_rate: 0\n    introspection_rate: 0\n    device: {{request_rate: 0, interval: 1s}}\n{signing}{users}    clients:\n{clients}"
        )
    };
    format!(
        "server:\n  listen: 127.0.0.1:{port}\n  public_url: http://127.0.0.1:{port}\n  secret_keys:\n    - id: 1\n      secret: {}\n  api_key_peppers:\n    - id: 1\n      secret: {SECRET}\n{storage}tenants:\n{}{}{}",
        URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            dir.to_string_lossy().as_bytes()
        )),
        tenant("bench", "", &users),
        tenant("eddsa", "    signing:\n      access_token: EdDSA\n", ""),
        tenant("strict", "    revocation: strict\n", ""),
    )
}
