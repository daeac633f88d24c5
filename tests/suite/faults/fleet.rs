//! Several nodes as processes of their own on one Postgres, each with its own way to hear of the
//! others, and clients that look at tokens while something happens to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pmp_auth::base::base64url;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::postgres::Database;
use crate::support::process::{self, Ended, Serving, command, free_port, write_config};
use crate::support::server::SECRET;
use crate::support::temp::TempDir;

/// The nodes.
#[derive(Clone)]
pub(super) struct Fleet(Arc<Inner>);

struct Inner {
    database: Database,
    dir: TempDir,
    http: reqwest::Client,
}

/// One of them.
pub(super) struct Node {
    /// Where it listens.
    pub(super) base: String,
    #[expect(dead_code, reason = "runs until it is dropped")]
    serving: Serving,
}

/// What a node said about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Active,
    Inactive,
    /// 503, with the time to come back.
    Unknown,
}

/// An answer, and when it was asked for and had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    sent: Instant,
    had: Instant,
    said: Said,
}

impl Look {
    /// What was said.
    pub(super) fn said(&self) -> Said {
        self.said
    }
}

impl Fleet {
    /// A database and a configuration; no node yet. `acme` is as tenants are, `strict` asks the
    /// store each time.
    pub(super) fn new() -> Self {
        let (database, dir) = (Database::new(), TempDir::new());
        let address = format!("127.0.0.1:{}", free_port());
        let issuer = format!("http://{address}");
        let url = database.url();
        let tenant = |slug: &str, more: &str| {
            format!(
                r#"
  {slug}:
    scopes: [read]
    resources: ["https://api.example"]
    default_resource: "https://api.example"
    token_rate: 0
    introspection_rate: 0
{more}    clients:
      - {{client_id: web, type: confidential, client_secret: {SECRET}, grants: [client_credentials], scopes: [read]}}
      - {{client_id: reader, type: confidential, client_secret: {SECRET}, grants: [client_credentials],
         scopes: ["revocations:read"], audiences: ["https://api.example"]}}
"#
            )
        };
        let (acme, strict) = (tenant("acme", ""), tenant("strict", "    revocation: strict\n"));
        let text = format!(
            r#"
server:
  listen: {address}
  public_url: {issuer}
  secret_keys: [{{id: 1, secret: {SECRET}}}]
storage: {{type: postgres, connection_string: "{url}"}}
jobs: {{cleanup: off}}
tenants:{acme}{strict}"#
        );
        write_config(dir.path(), &text);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10));
        let http = http.build().expect("a client");
        Self(Arc::new(Inner { database, dir, http }))
    }

    /// The database.
    pub(super) fn database(&self) -> &Database {
        &self.0.database
    }

    /// A node more.
    pub(super) fn node(&self) -> Node {
        self.node_that_hears(None)
    }

    /// The same; notifications come to it by way of `proxy`.
    pub(super) fn node_that_hears(&self, proxy: Option<&Proxy>) -> Node {
        let address = format!("127.0.0.1:{}", free_port());
        let mut serve = command(self.0.dir.path(), &["serve"]);
        serve.env("PMP_AUTH__SERVER__LISTEN", &address);
        if let Some(proxy) = proxy {
            let direct = self.0.database.url();
            let (_, database) = direct.rsplit_once('/').expect("the name of a database");
            let url = format!("postgres://postgres@{}/{database}", proxy.address);
            serve.env("PMP_AUTH__STORAGE__LISTEN_CONNECTION_STRING", url);
        }
        Node { base: format!("http://{address}"), serving: Serving::of(serve) }
    }

    /// Runs a command of the operator.
    pub(super) fn run(&self, args: &[&str]) -> Ended {
        process::run(self.0.dir.path(), args, "")
    }

    /// GET; none when there was no answer.
    pub(super) fn get(&self, node: &Node, path: &str) -> reqwest::RequestBuilder {
        self.0.http.get(format!("{}{path}", node.base))
    }

    /// POST of a form by `client`.
    pub(super) async fn post(
        &self,
        node: &str,
        path: &str,
        client: &str,
        form: &[(&str, &str)],
    ) -> (u16, Value, bool) {
        let request = self.0.http.post(format!("{node}{path}")).form(form);
        let answer = request.basic_auth(client, Some(SECRET)).send().await.expect("an answer");
        let (status, back) =
            (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
        let body = answer.bytes().await.expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or_default(), back)
    }

    /// A token of `client`.
    pub(super) async fn token(&self, node: &Node, tenant: &str, client: &str) -> String {
        let form = [("grant_type", "client_credentials")];
        let (status, body, _) =
            self.post(&node.base, &format!("/t/{tenant}/token"), client, &form).await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().expect("a token").to_owned()
    }

    /// Revokes a token, which must be answered with 200: when that was.
    pub(super) async fn revoke(&self, node: &str, tenant: &str, token: &str) -> Instant {
        let path = format!("/t/{tenant}/revoke");
        let (status, body, _) = self.post(node, &path, "web", &[("token", token)]).await;
        assert_eq!(status, 200, "{body}");
        Instant::now()
    }

    /// What a node says about a token of `web` now.
    pub(super) async fn look(&self, node: &str, tenant: &str, token: &str) -> Look {
        let sent = Instant::now();
        let path = format!("/t/{tenant}/introspect");
        let (status, body, back) = self.post(node, &path, "web", &[("token", token)]).await;
        let said = match (status, &body["active"]) {
            (200, Value::Bool(true)) => Said::Active,
            (200, Value::Bool(false)) => Said::Inactive,
            (503, Value::Null) if back => Said::Unknown,
            _ => panic!("{status}: {body}"),
        };
        Look { sent, had: Instant::now(), said }
    }

    /// Looks at a token again and again, until it was inactive three times or `stop` says so.
    pub(super) async fn watch(
        self,
        node: String,
        tenant: &'static str,
        token: String,
        stop: CancellationToken,
    ) -> Vec<Look> {
        let (mut looks, mut inactive) = (Vec::new(), 0);
        while inactive < 3 && !stop.is_cancelled() {
            let look = self.look(&node, tenant, &token).await;
            inactive += usize::from(look.said == Said::Inactive);
            looks.push(look);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        looks
    }

    /// Revokes a token at `at` while all of `nodes` are asked about it. On its own node it is dead
    /// when the answer is there, on the others after `bound` at most.
    pub(super) async fn race(
        self,
        nodes: Vec<String>,
        at: usize,
        tenant: &'static str,
        token: String,
        bound: Duration,
    ) {
        let stop = CancellationToken::new();
        let watching: Vec<_> = nodes
            .iter()
            .map(|node| self.clone().watch(node.clone(), tenant, token.clone(), stop.clone()))
            .map(tokio::spawn)
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let asked = Instant::now();
        let revoked = self.revoke(&nodes[at], tenant, &token).await;
        let giving_up = stop.clone();
        let patience = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            giving_up.cancel();
        });
        for (number, watching) in watching.into_iter().enumerate() {
            let looks = watching.await.expect("no panic");
            let bound = if number == at { Duration::ZERO } else { bound };
            let what = format!("{tenant}, node {number}, revoked on {at}");
            is_linear(&looks, asked, revoked + bound, &what);
        }
        patience.abort();
    }

    /// A metric of a node.
    pub(super) async fn metric(&self, node: &Node, name: &str) -> u64 {
        let page = self.get(node, "/metrics").send().await.expect("an answer");
        assert_eq!(page.status(), 200);
        let page = page.text().await.expect("a page");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
    }

    /// Waits until a metric of a node is so.
    pub(super) async fn wait_for(&self, node: &Node, name: &str, is: impl Fn(u64) -> bool) {
        let began = Instant::now();
        loop {
            let value = self.metric(node, name).await;
            if is(value) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{name} is {value}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A token is live until it is about to be revoked, dead from `dead` on, and once dead dead.
#[track_caller]
pub(super) fn is_linear(looks: &[Look], asked: Instant, dead: Instant, what: &str) {
    assert!(looks.iter().any(|look| look.said == Said::Inactive), "{what}: never dead");
    let mut seen_dead: Option<Instant> = None;
    for look in looks {
        match look.said {
            Said::Inactive => {
                assert!(look.had >= asked, "{what}: dead before it was revoked");
                seen_dead = seen_dead.or(Some(look.had));
            }
            Said::Active => {
                let late = look.sent.saturating_duration_since(dead);
                assert!(look.sent < dead, "{what}: accepted {late:?} too late");
                assert!(seen_dead.is_none_or(|seen| look.sent < seen), "{what}: alive again");
            }
            Said::Unknown => {}
        }
    }
}

/// The payload of a token, or its header.
pub(super) fn part(token: &str, number: usize) -> Value {
    let text = base64url::decode(token.split('.').nth(number).expect("a part")).expect("base64url");
    serde_json::from_slice(&text).expect("JSON")
}

/// A way to the database that can be blocked.
pub(super) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<Way>,
}

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    /// They are lost, and nobody is told.
    Blocked,
    /// Connections end, and new ones are refused.
    Cut,
}

impl Proxy {
    /// A way to where `database` is.
    pub(super) async fn to(database: &Database) -> Self {
        let url = url::Url::parse(database.url()).expect("a URL");
        let target = format!("127.0.0.1:{}", url.port().expect("a port"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (state, way) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (way, target) = (way.clone(), target.clone());
                tokio::spawn(async move { carry(client, &target, way).await });
            }
        });
        Self { address, state }
    }

    /// Opens or closes it.
    pub(super) fn set(&self, way: Way) {
        self.state.send_replace(way);
    }
}

/// Carries a connection for as long as the way is open. One that was blocked is never carried on: as
/// after a firewall that forgot it.
async fn carry(mut client: TcpStream, target: &str, mut way: watch::Receiver<Way>) {
    if *way.borrow_and_update() == Way::Open {
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = way.wait_for(|way| *way != Way::Open) => {}
        }
    }
    if *way.borrow() == Way::Blocked {
        let _ = tokio::time::timeout(Duration::from_mins(1), way.wait_for(|way| *way == Way::Cut))
            .await;
    }
}
