//! `serve`: the first minutes, and how it ends.

use std::path::Path;

use serde_json::Value;

use crate::support::process::{Serving, free_port, run, write_config};
use crate::support::temp::TempDir;

/// The `-u "id:secret"` of the printed `curl`, with `$(cat file)` read, and the address.
fn printed_curl(dir: &Path, welcome: &str) -> (String, String, String) {
    let line = welcome.lines().find(|line| line.contains("curl -s -u ")).expect("a curl");
    let proof = line.split('"').nth(1).expect("credentials");
    let (id, secret) = proof.split_once(':').expect("id and secret");
    let file = secret.strip_prefix("$(cat ").and_then(|rest| rest.strip_suffix(')'));
    let secret = match file {
        Some(path) => std::fs::read_to_string(dir.join(path)).expect("the secret's file"),
        None => secret.to_owned(),
    };
    let url = line.split(' ').next_back().expect("an address");
    (id.to_owned(), secret.trim().to_owned(), url.to_owned())
}

async fn token(id: &str, secret: &str, url: &str) -> Value {
    let request = reqwest::Client::new().post(url).basic_auth(id, Some(secret));
    let answer = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_needs_no_file_and_prints_a_curl_that_works() {
    let dir = TempDir::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut serving = Serving::start(dir.path(), &["--dev", "--listen", &listen]);
    let issuer = format!("http://{listen}/t/dev");
    assert!(serving.welcome.contains(&format!("\n    {issuer}\n")), "{}", serving.welcome);
    assert!(serving.welcome.contains(&format!("\n    http://{listen}/demo\n")));
    assert!(serving.welcome.contains("with the password "), "{}", serving.welcome);
    let (id, secret, url) = printed_curl(dir.path(), &serving.welcome);
    assert!(url.starts_with(&issuer));
    assert_eq!(token(&id, &secret, &url).await["token_type"], "Bearer");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is kept");
    serving.signal("INT");
    let ended = serving.wait();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert!(!ended.stderr.contains(&secret), "the log has no secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_file_makes_its_secrets_at_first_start_and_keeps_them_over_a_kill() {
    let dir = TempDir::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml");
    let port = free_port().to_string();
    let text = std::fs::read_to_string(shipped).unwrap().replace("8080", &port);
    write_config(dir.path(), &text);
    let mut first = Serving::start(dir.path(), &[]);
    let (id, secret, url) = printed_curl(dir.path(), &first.welcome);
    assert!(token(&id, &secret, &url).await["access_token"].is_string());
    assert!(first.welcome.contains("with the password "), "{}", first.welcome);
    first.signal("KILL");
    first.wait();
    let mut second = Serving::start(dir.path(), &[]);
    assert!(!second.welcome.contains("with the password "), "shown once: {}", second.welcome);
    assert_eq!(
        printed_curl(dir.path(), &second.welcome),
        (id.clone(), secret.clone(), url.clone())
    );
    assert!(token(&id, &secret, &url).await["access_token"].is_string());
    let listen = format!("127.0.0.1:{port}");
    assert_eq!(run(dir.path(), &["healthcheck", "--listen", &listen], "").code, 0);
    second.signal("TERM");
    assert_eq!(second.wait().code, 0);
    assert_eq!(run(dir.path(), &["healthcheck", "--listen", &listen], "").code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_a_request_has_its_id_and_is_short() {
    let dir = TempDir::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut serving = Serving::start(dir.path(), &["--dev", "--listen", &listen]);
    let (client, ..) = printed_curl(dir.path(), &serving.welcome);
    let uri = format!("https://evil.example/{}", "x".repeat(3000));
    let url = format!("http://{listen}/t/dev/authorize?client_id={client}&redirect_uri={uri}");
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status(), 400);
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    serving.signal("TERM");
    let said = serving.wait().stderr;
    let line = |message: &str| {
        let wanted = format!("\"message\":\"{message}\"");
        let line = said.lines().find(|line| line.contains(&wanted));
        let line = line.unwrap_or_else(|| panic!("no `{message}` in:\n{said}"));
        (line.len(), serde_json::from_str::<Value>(line).unwrap())
    };
    let (length, refused) = line("refused a request");
    assert_eq!(refused["span"]["request_id"], id.as_str(), "{refused}");
    let cause = refused["cause"].as_str().unwrap();
    assert!(cause.starts_with("RedirectUri(\"https://evil.example/xxx"), "{cause}");
    assert!(length <= 500, "{length}: {refused}");
    let (length, answered) = line("answered");
    assert_eq!(answered["request_id"], id.as_str(), "{answered}");
    assert!(length <= 400, "{length}: {answered}");
}
