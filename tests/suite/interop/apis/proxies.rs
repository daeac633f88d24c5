//! The proxies of `examples/`: Debian's nginx and Caddy, with the configuration that is shown there
//! but for its addresses.

use std::path::Path;
use std::process::Command;

use axum::Json;
use axum::Router;
use axum::http::{HeaderMap, Method};
use pmp_auth::storage::Engine;
use serde_json::{Value, json};

use super::{API, FILES, Program, TENANTS, get, revoke, system, token};
use crate::interop::following_the_time;
use crate::support::process::free_port;
use crate::support::server::{Answer, TestServer};
use crate::support::temp::TempDir;

/// An API that shows what reached it.
async fn api() -> String {
    async fn show(method: Method, headers: HeaderMap, body: String) -> Json<Value> {
        let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or("?").to_owned();
        let all: serde_json::Map<String, Value> =
            headers.iter().map(|(name, value)| (name.to_string(), text(value).into())).collect();
        Json(json!({"method": method.as_str(), "headers": all, "body": body}))
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a bound port").to_string();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(show)).await });
    address
}

/// A server of one tenant: whose the API is.
async fn server(engine: Engine) -> TestServer {
    let alone = TENANTS.split("  other:").next().expect("the first tenant");
    following_the_time(TestServer::with(engine, alone).await).await
}

/// An example, at the addresses of a test.
fn example(name: &str, server: &TestServer, api: &str, port: u16) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let text = std::fs::read_to_string(path).expect("the example");
    let changed = text
        .replace("127.0.0.1:8080", server.base.trim_start_matches("http://"))
        .replace("127.0.0.1:8090", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:9000", api);
    assert!(changed.contains(api) && changed.contains(&port.to_string()));
    changed
}

async fn nginx(server: &TestServer, api: &str) -> (Program, String) {
    let (dir, port) = (TempDir::new(), free_port());
    let conf = dir.path().join("nginx.conf");
    std::fs::write(&conf, example("nginx/nginx.conf", server, api, port)).expect("a file");
    std::fs::create_dir(dir.path().join("tmp")).expect("a directory");
    let mut command = Command::new(system("nginx"));
    command.arg("-p").arg(dir.path()).arg("-c").arg(&conf).arg("-e").arg("error.log");
    command.args(["-g", "daemon off; master_process off;"]);
    (Program::start(dir, &mut command, port).await, format!("http://127.0.0.1:{port}"))
}

async fn caddy(server: &TestServer, api: &str) -> (Program, String) {
    let (dir, port) = (TempDir::new(), free_port());
    let conf = dir.path().join("Caddyfile");
    std::fs::write(&conf, example("caddy/Caddyfile", server, api, port)).expect("a file");
    let mut command = Command::new(system("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&conf);
    command.env("HOME", dir.path()).env("XDG_DATA_HOME", dir.path());
    command.env("XDG_CONFIG_HOME", dir.path());
    (Program::start(dir, &mut command, port).await, format!("http://127.0.0.1:{port}"))
}

/// What the documentation promises of a proxy, step by step.
async fn guards(server: TestServer, api: &str, proxy: (Program, String)) {
    let (program, url) = proxy;
    let url = format!("{url}/orders?page=2");
    challenges(&server, &url).await;
    names_the_caller(&server, &url).await;
    keeps_others_out(&server, &url).await;

    let reader = token(&server, "acme", "worker", &[]).await;
    assert_eq!(get(&server, &url, &reader).await.status, 200, "{}", program.said());
    revoke(&server, &reader).await;
    let refused = get(&server, &url, &reader).await;
    assert_eq!(refused.status, 401, "revoked: {}", refused.body);
    assert!(refused.header("www-authenticate").contains("error=\"invalid_token\""));

    let metadata =
        format!("{}/.well-known/oauth-protected-resource", url.split("/orders").next().unwrap());
    assert_eq!(server.get(&metadata).await.json()["resource"], API);

    let reader = token(&server, "acme", "worker", &[]).await;
    let http = server.http.clone();
    server.stop().await;
    let unknown = http.get(&url).bearer_auth(&reader).send().await.expect("an answer");
    let unknown = Answer::of(unknown).await;
    assert!((502..=503).contains(&unknown.status), "{} {}", unknown.status, unknown.body);
    assert!(!unknown.body.contains("headers"), "it did not reach {api}");
}

async fn challenges(server: &TestServer, url: &str) {
    let nobody = server.get(url).await;
    assert_eq!(nobody.status, 401, "{}", nobody.body);
    let challenge = nobody.header("www-authenticate");
    assert!(challenge.starts_with("Bearer realm=\"acme\", scope=\"orders:read\""), "{challenge}");
    let metadata = challenge.split("resource_metadata=\"").nth(1).expect("where it is described");
    let document = server.get(metadata.trim_end_matches('"')).await.json();
    assert_eq!(document["resource"], API);
    assert_eq!(document["authorization_servers"], json!([server.issuer("acme")]));
}

async fn names_the_caller(server: &TestServer, url: &str) {
    let reader = token(server, "acme", "worker", &[]).await;
    let mut request = server.http.get(url).bearer_auth(&reader);
    for name in ["subject", "client", "scopes", "audience", "tenant", "expires"] {
        request = request.header(format!("x-auth-{name}"), "forged");
    }
    let answer = Answer::of(request.send().await.expect("an answer")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = &answer.json()["headers"];
    assert_eq!(
        (&seen["x-auth-subject"], &seen["x-auth-client"]),
        (&json!("worker"), &json!("worker"))
    );
    assert_eq!(
        (&seen["x-auth-scopes"], &seen["x-auth-tenant"]),
        (&json!("orders:read"), &json!("acme"))
    );
    assert_eq!(seen["x-auth-audience"], API);
    assert!(!answer.body.contains("forged") && !answer.body.contains(&reader), "{}", answer.body);
}

async fn keeps_others_out(server: &TestServer, url: &str) {
    let loosened = async |method: Method, token: &str| {
        let request = server.http.request(method, url).bearer_auth(token).body("an order");
        let request = request.header("x-required-scope", "orders:read");
        let request = request.header("x-audience", FILES).header("x-forwarded-method", "GET");
        Answer::of(request.send().await.expect("an answer")).await
    };
    let reader = token(server, "acme", "worker", &[]).await;
    let refused = loosened(Method::POST, &reader).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    let challenge = refused.header("www-authenticate");
    assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    assert!(challenge.contains("scope=\"orders:write\""), "{challenge}");

    let files = token(server, "acme", "worker", &[("resource", FILES)]).await;
    assert_eq!(loosened(Method::GET, &files).await.status, 401, "for another API");

    let writer = token(server, "acme", "worker", &[("scope", "orders:write")]).await;
    let sent = server.http.post(url).bearer_auth(&writer).body("an order").send().await;
    let sent = Answer::of(sent.expect("an answer")).await;
    assert_eq!((sent.status, &sent.json()["body"]), (200, &json!("an order")), "{}", sent.body);
    assert_eq!(sent.json()["method"], "POST");
}

async fn behind_nginx(engine: Engine) {
    let (server, api) = (server(engine).await, api().await);
    let proxy = nginx(&server, &api).await;
    guards(server, &api, proxy).await;
}

async fn behind_caddy(engine: Engine) {
    let (server, api) = (server(engine).await, api().await);
    let proxy = caddy(&server, &api).await;
    guards(server, &api, proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_behind_nginx_is_guarded_on_sqlite() {
    behind_nginx(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_behind_nginx_is_guarded_on_postgres() {
    behind_nginx(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_behind_caddy_is_guarded_on_sqlite() {
    behind_caddy(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_behind_caddy_is_guarded_on_postgres() {
    behind_caddy(Engine::Postgres).await;
}
