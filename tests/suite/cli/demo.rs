//! `demo api` beside `serve --dev`: two commands, and a revoked token is refused.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::support::process::{Serving, command, free_port, run};
use crate::support::temp::TempDir;

/// The API, running; killed when dropped.
struct Api {
    child: Child,
    lines: Receiver<String>,
}

impl Api {
    /// The next line with this in it.
    fn line(&self, part: &str) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no `{part}`"));
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_command_runs_an_api_that_refuses_a_revoked_token() {
    let dir = TempDir::new();
    let (here, there) =
        (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let serving = Serving::start(dir.path(), &["--dev", "--listen", &here]);
    let printed = serving.welcome.lines().find(|line| line.contains("pmp-auth demo api"));
    let printed = printed.expect("a command").trim();
    let (variable, arguments) = printed.split_once(" pmp-auth ").expect("a variable, a command");
    let (name, secret) = variable.split_once('=').expect("name and value");
    let arguments: Vec<&str> = arguments.split(' ').chain(["--listen", &there]).collect();
    let mut process = command(dir.path(), &arguments);
    let mut child =
        process.env(name, secret).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().expect("its stdout"));
    let (say, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = say.send(line);
        }
    });
    let api = Api { child, lines };
    api.line("ready");

    let curl = serving.welcome.lines().find(|line| line.contains("curl -s -u ")).expect("a curl");
    let (id, secret) = curl.split('"').nth(1).and_then(|text| text.split_once(':')).unwrap();
    let issuer = format!("http://{here}/t/dev");
    let http = reqwest::Client::new();
    let post = |path: &str, form: &[(&str, &str)]| {
        http.post(format!("{issuer}{path}")).basic_auth(id, Some(secret)).form(form).send()
    };
    let answer = post("/token", &[("grant_type", "client_credentials"), ("scope", "orders:read")])
        .await
        .unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    let token = answer["access_token"].as_str().expect("a token").to_owned();
    let ask = |path: &str| http.get(format!("http://{there}{path}")).bearer_auth(&token).send();
    for path in ["/hello", "/orders"] {
        assert_eq!(ask(path).await.unwrap().status(), 200, "{path}");
        assert!(api.line(path).starts_with("200  GET "));
    }
    assert_eq!(post("/revoke", &[("token", &token)]).await.unwrap().status(), 200);
    let begun = Instant::now();
    while ask("/hello").await.unwrap().status() != 401 {
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
    let told = api.line("revoked");
    assert!(told.starts_with("---  1 thing revoked, ") && told.contains(" ms after"), "{told}");
    assert!(api.line("401").ends_with("invalid_token: revoked"));
}

#[test]
fn without_its_secret_it_says_where_that_comes_from() {
    let dir = TempDir::new();
    let ended = run(dir.path(), &["demo", "api"], "");
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("fix: set PMP_AUTH_CLIENT_SECRET"), "{}", ended.stderr);
}
