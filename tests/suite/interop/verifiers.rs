//! The example APIs of `sdk/`: a revoked token is refused within a second, or at once.

use std::path::Path;

use pmp_auth::base::{Clock as _, SystemClock};
use pmp_auth::storage::Engine;
use serde_json::json;

use super::SECRET;
use super::programs::{node, run};
use crate::support::server::TestServer;

const AUDIENCE: &str = "https://api.example";

const TENANT: &str = r#"
tenants:
  acme:
    scopes: ["orders:read", "orders:write"]
    resources: ["https://api.example"]
    default_resource: https://api.example
    clients:
      - client_id: web
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        grants: [client_credentials]
        scopes: ["orders:read", "orders:write"]
      - client_id: orders-api
        client_secret: b7Qm2xVw9Lr4Tz8Kd1Hs6Yf3Np5Jc0Gq
        grants: [client_credentials]
        scopes: ["revocations:read"]
        audiences: ["https://api.example"]
"#;

async fn example(engine: Engine, sdk: &str, command: &[&str]) {
    let server = TestServer::with(engine, TENANT).await;
    server.clock.set(SystemClock.now());
    server.settle().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(sdk);
    let source = folder.join("src").display().to_string();
    for mode in ["feed", "introspect"] {
        let variables = [
            ("MODE", mode),
            ("AUDIENCE", AUDIENCE),
            ("SECRET", SECRET),
            ("FOLDER", &folder.join("example").display().to_string()),
            ("COMMAND", &json!(command).to_string()),
            ("PYTHONPATH", &source),
        ];
        run(&server, &node(), "verifier_api.mjs", &variables);
    }
    server.stop().await;
}

async fn javascript(engine: Engine) {
    example(engine, "javascript", &[&node(), "server.mjs"]).await;
}

async fn python(engine: Engine) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/python/.venv/bin/python");
    let program = program.display().to_string();
    example(
        engine,
        "python",
        &[&program, "-m", "uvicorn", "app:app", "--no-access-log", "--port", "{port}"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_in_javascript_refuses_what_is_revoked_on_sqlite() {
    javascript(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_in_javascript_refuses_what_is_revoked_on_postgres() {
    javascript(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_in_python_refuses_what_is_revoked_on_sqlite() {
    python(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_in_python_refuses_what_is_revoked_on_postgres() {
    python(Engine::Postgres).await;
}
