//! APIs as others build them: proxies that ask us about each request, and verifiers of other
//! projects, with what a revoked token, another audience and a missing scope are answered.

mod apache;
mod proxies;
mod tower;
mod verifiers;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pmp_auth::storage::Engine;

use super::{SECRET, following_the_time};
use crate::support::flow::Form;
use crate::support::server::{API, Answer, TestServer};
use crate::support::temp::TempDir;

const FILES: &str = "https://files.acme.example";

const TENANTS: &str = r#"
tenants:
  acme:
    scopes: ["orders:read", "orders:write"]
    resources: ["https://api.acme.example", "https://files.acme.example"]
    default_resource: https://api.acme.example
    clients:
      - &worker
        client_id: worker
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        grants: [client_credentials]
        scopes: ["orders:read", "orders:write"]
        default_scopes: ["orders:read"]
        resources: ["https://api.acme.example", "https://files.acme.example"]
      - client_id: hasty
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        grants: [client_credentials]
        scopes: ["orders:read"]
        access_token_lifetime: 2s
      - client_id: api
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        grants: []
        audiences: ["https://api.acme.example"]
  other:
    scopes: ["orders:read", "orders:write"]
    resources: ["https://api.acme.example", "https://files.acme.example"]
    default_resource: https://api.acme.example
    clients:
      - *worker
"#;

async fn server(engine: Engine) -> TestServer {
    following_the_time(TestServer::with(engine, TENANTS).await).await
}

/// A token of a client itself.
async fn token(server: &TestServer, tenant: &str, client: &str, more: &[(&str, &str)]) -> String {
    let form = [&[("grant_type", "client_credentials")], more].concat();
    let url = server.url(tenant, "/token");
    let granted = server.post(&url, Some((client, SECRET)), &form).await.granted();
    granted["access_token"].as_str().expect("a token").to_owned()
}

async fn revoke(server: &TestServer, token: &str) {
    let url = server.url("acme", "/revoke");
    let form = Form::of("x").with("token", token);
    let answer = server.post(&url, Some(("worker", SECRET)), &form.pairs()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// GET of an API with a token.
async fn get(server: &TestServer, url: &str, token: &str) -> Answer {
    Answer::of(server.http.get(url).bearer_auth(token).send().await.expect("an answer")).await
}

/// A program that serves, killed when dropped.
struct Program {
    child: Child,
    dir: TempDir,
}

impl Program {
    /// Starts it in a directory of its own, and waits until it listens on `port` of loopback.
    async fn start(dir: TempDir, command: &mut Command, port: u16) -> Self {
        let said = std::fs::File::create(dir.path().join("said")).expect("a file");
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a file")).stderr(said);
        let name = command.get_program().display().to_string();
        let child = command.spawn();
        let child = child.unwrap_or_else(|e| panic!("{name}: {e}; `make test` installs it"));
        let mut program = Self { child, dir };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return program;
            }
            if let Ok(Some(_)) = program.child.try_wait() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} does not serve:\n{}", program.said());
    }

    /// What it said, and what it logged.
    fn said(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name));
        ["said", "error.log"].into_iter().filter_map(|name| read(name).ok()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of the system, also where only administrators have its folder in their path.
fn system(name: &str) -> String {
    let beside = Path::new("/usr/sbin").join(name);
    if beside.exists() { beside.display().to_string() } else { name.to_owned() }
}
