//! Programs of `tests/interop/`: openid-client, Authlib, and a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use pmp_auth::storage::Engine;

use super::{BYE, CALLBACK, LOGIN, SECRET, server};
use crate::support::server::{PASSWORD, TestServer};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// Runs a program to its end and shows what it said when it fails.
pub(super) fn run(server: &TestServer, program: &str, script: &str, variables: &[(&str, &str)]) {
    let mut command = Command::new(program);
    command.current_dir(folder()).arg(script);
    command.env("ISSUER", server.issuer("acme")).env("BASE_URL", &server.base);
    command.env("LOGIN", LOGIN).env("PASSWORD", PASSWORD);
    command.env("REDIRECT_URI", CALLBACK).env("POST_LOGOUT_REDIRECT_URI", BYE);
    command.envs(variables.iter().copied());
    let said = tokio::task::block_in_place(|| command.output());
    let said = said.unwrap_or_else(|error| panic!("{program}: {error}; `make test` installs it"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&said.stdout), text(&said.stderr));
    assert!(said.status.success() && out.contains("all good"), "{script}\n{out}\n{err}");
}

/// Node.js of at least version 20: the system's, else the one that the npm package brings.
pub(super) fn node() -> String {
    let own = folder().join("node_modules/node/bin/node");
    if own.exists() { own.display().to_string() } else { "node".to_owned() }
}

/// Python with the packages of `requirements.txt`.
pub(super) fn python() -> String {
    folder().join(".venv/bin/python").display().to_string()
}

async fn openid_client(engine: Engine) {
    let server = server(engine).await;
    let script = "openid_client.mjs";
    run(&server, &node(), script, &[("CLIENT_ID", "web"), ("CLIENT_SECRET", SECRET)]);
    run(&server, &node(), script, &[("CLIENT_ID", "spa"), ("CLIENT_SECRET", "")]);
    server.stop().await;
}

async fn authlib(engine: Engine, port: &str) {
    let yaml = super::TENANT.replace("9191", port);
    let server = TestServer::with(engine, &yaml).await;
    server.clock.set(pmp_auth::base::Clock::now(&pmp_auth::base::SystemClock));
    server.settle().await;
    let variables = [("CLIENT_ID", "web"), ("CLIENT_SECRET", SECRET), ("APP_PORT", port)];
    run(&server, &python(), "authlib_app.py", &variables);
    server.stop().await;
}

/// Runs a script of the browser, which leaves at least so many screenshots in a folder of its own.
async fn browser(engine: Engine, script: &str, least: usize) {
    let server = server(engine).await;
    let shots = Path::new(env!("CARGO_MANIFEST_DIR")).join("test-output/screenshots");
    let shots = shots.join(engine.as_str()).join(script.trim_end_matches(".mjs"));
    run(&server, &node(), script, &[("SCREENSHOTS", &shots.display().to_string())]);
    assert!(std::fs::read_dir(&shots).unwrap().count() >= least, "every look at every page");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn openid_client_logs_in_refreshes_introspects_revokes_and_logs_out_on_sqlite() {
    openid_client(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn openid_client_logs_in_refreshes_introspects_revokes_and_logs_out_on_postgres() {
    openid_client(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_starlette_app_with_authlib_logs_its_user_in_on_sqlite() {
    authlib(Engine::Sqlite, "9193").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_starlette_app_with_authlib_logs_its_user_in_on_postgres() {
    authlib(Engine::Postgres, "9194").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_browser_logs_in_and_consents_with_and_without_scripts_on_sqlite() {
    browser(Engine::Sqlite, "browser.mjs", 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_browser_logs_in_and_consents_with_and_without_scripts_on_postgres() {
    browser(Engine::Postgres, "browser.mjs", 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_phone_signs_a_television_in_with_and_without_scripts_on_sqlite() {
    browser(Engine::Sqlite, "browser_device.mjs", 14).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_phone_signs_a_television_in_with_and_without_scripts_on_postgres() {
    browser(Engine::Postgres, "browser_device.mjs", 14).await;
}
