//! Commands: exit codes, and what they do beside a running server.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::process::{Serving, free_port, run, write_config};
use crate::support::server::SECRET;
use crate::support::temp::TempDir;

fn config(storage: &str, port: u16) -> String {
    format!(
        r#"
server: {{listen: "127.0.0.1:{port}", public_url: "http://127.0.0.1:{port}"}}
storage: {storage}
tenants:
  acme:
    scopes: [openid, "orders:read"]
    resources: ["https://api.acme.example"]
    default_resource: https://api.acme.example
    clients:
      - {{client_id: worker, client_secret: {SECRET}, grants: [client_credentials], scopes: ["orders:read"]}}
      - {{client_id: api, client_secret: {SECRET}, grants: [], audiences: ["https://api.acme.example"]}}
"#
    )
}

const SQLITE: &str = "{type: sqlite, connection_string: \"sqlite://data/test.db\"}";

struct House {
    dir: TempDir,
    base: String,
    _serving: Serving,
}

impl House {
    fn new() -> Self {
        Self::with("")
    }

    /// With more of the tenant's section.
    fn with(more: &str) -> Self {
        let (dir, port) = (TempDir::new(), free_port());
        write_config(dir.path(), &format!("{}{more}", config(SQLITE, port)));
        let serving = Serving::start(dir.path(), &[]);
        Self { dir, base: format!("http://127.0.0.1:{port}/t/acme"), _serving: serving }
    }

    fn run(&self, args: &str, stdin: &str) -> String {
        let args: Vec<&str> = args.split(' ').collect();
        let ended = run(self.dir.path(), &args, stdin);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
        ended.stdout
    }

    async fn post(&self, client: &str, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let request = reqwest::Client::new().post(format!("{}{path}", self.base));
        let answer = request.basic_auth(client, Some(SECRET)).form(form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn token(&self) -> (u16, Value) {
        self.post("worker", "/token", &[("grant_type", "client_credentials")]).await
    }

    async fn is_active(&self, token: &str) -> bool {
        self.post("api", "/introspect", &[("token", token)]).await.1["active"] == true
    }
}

/// Waits until it is so; what a command writes must reach the server within a second.
async fn within_a_second(mut so: impl AsyncFnMut() -> bool) -> bool {
    let begun = Instant::now();
    // The machine may be busy; the bound itself is measured elsewhere.
    while begun.elapsed() < Duration::from_secs(5) {
        if so().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_revoked_by_command_is_inactive_at_the_server() {
    let house = House::new();
    let (_, answer) = house.token().await;
    let token = answer["access_token"].as_str().unwrap();
    assert!(house.is_active(token).await);
    house.run("tokens revoke --tenant acme", &format!("{token}\n"));
    assert!(within_a_second(async || !house.is_active(token).await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_disabled_by_command_gets_no_token_until_it_is_enabled() {
    let house = House::new();
    let (status, answer) = house.token().await;
    assert_eq!(status, 200);
    house.run("clients disable --tenant acme worker", "");
    assert!(within_a_second(async || house.token().await.0 == 401).await);
    assert!(!house.is_active(answer["access_token"].as_str().unwrap()).await);
    let listed: Value =
        serde_json::from_str(&house.run("clients list --tenant acme -o json", "")).unwrap();
    let worker = listed.as_array().unwrap().iter().find(|client| client["id"] == "worker");
    assert_eq!(worker.unwrap()["state"], "disabled");
    house.run("clients enable --tenant acme worker", "");
    // The not-before of the disabling lies 10 s ahead: until then minting is 503.
    assert!(within_a_second(async || house.token().await.0 == 503).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_not_there_until_it_is_resumed() {
    let house = House::new();
    let status =
        async || reqwest::get(format!("{}/jwks.json", house.base)).await.unwrap().status().as_u16();
    assert_eq!(status().await, 200);
    house.run("tenants suspend acme", "");
    assert!(within_a_second(async || status().await == 404).await);
    house.run("tenants resume acme", "");
    assert!(within_a_second(async || status().await == 200).await);
}

#[test]
fn a_user_is_created_with_a_password_from_stdin_alone() {
    let house = House::new();
    let password = "plum tractor nine lagoon";
    house.run("users create --tenant acme bob@example.com --username bob", password);
    let listed: Value =
        serde_json::from_str(&house.run("users list --tenant acme -o json", "")).unwrap();
    assert_eq!(listed[0]["email"], "bob@example.com");
    let weak =
        run(house.dir.path(), &["users", "create", "--tenant", "acme", "a@b.example"], "1234\n");
    assert_eq!(weak.code, 1, "{}", weak.stderr);
    let help = run(house.dir.path(), &["users", "create", "--help"], "");
    assert!(!help.stdout.contains("--password"), "{}", help.stdout);
}

#[test]
fn whoever_deletes_a_user_of_the_configuration_is_told_that_they_come_again() {
    let house = House::with(
        "    users: [{username: Carol, email: carol@example.com, password: plum tractor nine lagoon}]\n",
    );
    house.run("users create --tenant acme bob@example.com --no-password", "");
    let delete = |who: &str| {
        let ended = run(house.dir.path(), &["users", "delete", "--tenant", "acme", who], "");
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stderr
    };
    assert_eq!(delete("bob@example.com"), "deleted\n");
    assert_eq!(
        delete("CAROL@example.com"),
        "deleted\n`Carol` is in the configuration: take it out there, or the next start makes it anew\n"
    );
}

#[test]
fn exit_codes_tell_usage_from_configuration_from_failure() {
    let dir = TempDir::new();
    let code = |args: &[&str]| run(dir.path(), args, "").code;
    assert_eq!(code(&["no-such-command"]), 2);
    assert_eq!(code(&["config", "check"]), 3, "there is no file");
    write_config(dir.path(), &config("{type: sqlit}", 1));
    let checked = run(dir.path(), &["config", "check"], "");
    assert_eq!(checked.code, 3);
    assert!(checked.stderr.contains("config.yaml:3:"), "{}", checked.stderr);
    write_config(dir.path(), &config("{type: memory}", 1));
    assert_eq!(code(&["config", "check"]), 0);
    let memory = run(dir.path(), &["users", "list", "--tenant", "acme"], "");
    assert_eq!(memory.code, 1);
    assert!(memory.stderr.contains("sqlite"), "{}", memory.stderr);
}

#[test]
fn cleanup_and_migrations_are_told_in_numbers() {
    let dir = TempDir::new();
    write_config(dir.path(), &config(SQLITE, 1));
    let path: &Path = dir.path();
    assert_eq!(run(path, &["migrate", "status"], "").code, 4, "all are pending");
    assert_eq!(run(path, &["migrate", "up"], "").code, 0);
    assert_eq!(run(path, &["migrate", "status"], "").code, 0);
    let counted = run(path, &["cleanup", "--dry-run"], "");
    assert_eq!(counted.code, 0, "{}", counted.stderr);
    let total = counted.stdout.lines().last().unwrap_or_default();
    assert_eq!(total.split_whitespace().collect::<Vec<_>>(), ["total", "0"]);
}
