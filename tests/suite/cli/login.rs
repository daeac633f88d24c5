//! `login --device`, `token` and `logout`, against a server that another process is.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use pmp_auth::base::{Clock as _, Secret, SystemClock};
use pmp_auth::rp::kept::{Keeper, SignIn};
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::process::{Ended, Serving, command, free_port};
use crate::support::temp::TempDir;

/// `pmp-auth` with a home of its own.
struct Terminal {
    home: TempDir,
}

/// What `login` says before the user decides.
struct Login {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    said: String,
    address: String,
    code: String,
}

impl Terminal {
    fn new() -> Self {
        Self { home: TempDir::new() }
    }

    fn run(&self, args: &[&str]) -> Ended {
        let mut command = command(self.home.path(), args);
        command.env("HOME", self.home.path()).stdin(Stdio::null());
        command.output().expect("the binary starts").into()
    }

    fn login(&self, args: &[&str]) -> Login {
        let mut command = command(self.home.path(), &[&["login", "--device"], args].concat());
        command.env("HOME", self.home.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        let mut said = String::new();
        while !said.contains("Waiting") {
            assert_ne!(stderr.read_line(&mut said).expect("a line"), 0, "it gave up:\n{said}");
        }
        let indented = |line: &&str| line.starts_with("      ");
        let mut shown = said.lines().filter(indented).map(|line| line.trim().to_owned());
        let (address, code) = (shown.next().expect("an address"), shown.next().expect("a code"));
        drop(shown);
        Login { child, stderr, said, address, code }
    }

    /// The files of sign-ins.
    fn kept(&self) -> Vec<PathBuf> {
        let folder = self.home.path().join(".local/share/pmp-auth/sign-ins");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect()
    }
}

impl Login {
    fn end(mut self) -> Ended {
        let mut stderr = self.said;
        while self.stderr.read_line(&mut stderr).expect("a line") > 0 {}
        let code = self.child.wait().expect("its end").code().unwrap_or(-1);
        Ended { code, stdout: String::new(), stderr }
    }
}

/// What the user does on the phone.
async fn decide(login: &Login, (user, password): (&str, &str), decision: &str) {
    let browser = Browser::new();
    let entry = browser.open(&login.address).await;
    let card = browser.submit(&entry, &[("user_code", &login.code)]).await;
    let card = browser.follow(card).await;
    let form = browser.decide(&card, "continue").await;
    let page = browser.sign_in(&form, user, password).await;
    assert_eq!(browser.decide(&page, decision).await.status, 200);
}

/// `serve --dev`, its issuer, and the password of `dev`.
fn dev(dir: &Path) -> (Serving, String, String) {
    let listen = format!("127.0.0.1:{}", free_port());
    let serving = Serving::start(dir, &["--dev", "--listen", &listen]);
    let line = serving.welcome.lines().find(|line| line.contains(" with the password "));
    let password =
        line.and_then(|line| line.split(' ').next_back()).expect("a password").to_owned();
    (serving, format!("http://{listen}/t/dev"), password)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_commands_sign_a_terminal_in_and_its_token_is_kept_refreshed_and_given_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let (server, terminal) = (TempDir::new(), Terminal::new());
    let (serving, issuer, password) = dev(server.path());
    let command = format!("pmp-auth login --device --issuer {issuer}\n");
    assert!(serving.welcome.contains(&command), "{}", serving.welcome);
    let login = terminal.login(&["--issuer", &issuer, "--qr"]);
    assert!(login.said.contains('█') && !login.said.contains('\u{1b}'), "{}", login.said);
    let begun = std::time::Instant::now();
    decide(&login, ("dev", &password), "allow").await;
    let ended = login.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("Signed in as Dee Veloper"), "{}", ended.stderr);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    let files = terminal.kept();
    let [file] = files.as_slice() else { panic!("one file: {files:?}") };
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let first = terminal.run(&["token"]);
    assert_eq!((first.code, first.stderr.as_str()), (0, ""));
    let user = userinfo(&issuer, first.stdout.trim()).await;
    assert_eq!(user["email"], "dev@example.com");
    assert_eq!(terminal.run(&["token"]).stdout, first.stdout, "fresh, so it is kept");

    // Nearly over: four processes ask at once, one refreshes, and all print its result.
    age(file, 30);
    let mut printed = HashMap::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| terminal.run(&["token"]))).collect();
        for run in runs {
            let ended = run.join().expect("no panic");
            assert_eq!(ended.code, 0, "{}", ended.stderr);
            *printed.entry(ended.stdout).or_insert(0) += 1;
        }
    });
    assert_eq!(printed.len(), 1, "{printed:?}");
    assert!(!printed.contains_key(&first.stdout), "it is another token");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);

    let token = terminal.run(&["token", "--issuer", &issuer]).stdout;
    let out = terminal.run(&["logout"]);
    assert_eq!(out.code, 0, "{}", out.stderr);
    assert!(terminal.kept().is_empty());
    assert_eq!(userinfo_status(&issuer, token.trim()).await, 401, "revoked");
    let ended = terminal.run(&["token"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("fix: pmp-auth login --device"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_sign_in_and_a_server_that_knows_nothing_of_us_are_said_so() {
    let (server, terminal) = (TempDir::new(), Terminal::new());
    let (_serving, issuer, password) = dev(server.path());
    let login = terminal.login(&["--issuer", &issuer]);
    assert!(!login.said.contains('█'), "no QR code without a terminal");
    decide(&login, ("dev", &password), "deny").await;
    let ended = login.end();
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("the sign-in was declined"), "{}", ended.stderr);
    assert!(terminal.kept().is_empty());

    let stranger =
        terminal.run(&["login", "--device", "--issuer", &issuer, "--client-id", "nobody"]);
    assert_eq!(stranger.code, 1);
    assert!(stranger.stderr.contains("--client-id"), "{}", stranger.stderr);
    let other = issuer.replace("/t/dev", "/t/nobody");
    let nothing = terminal.run(&["login", "--device", "--issuer", &other]);
    assert!(nothing.stderr.contains("describes no authorization server"), "{}", nothing.stderr);
    let spoken = issuer.replace("127.0.0.1", "localhost");
    let wrong = terminal.run(&["login", "--device", "--issuer", &spoken]);
    assert!(wrong.stderr.contains("speaks for the issuer"), "{}", wrong.stderr);
    assert_eq!(terminal.run(&["login"]).code, 2, "--device is the only way so far");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_nobody_uses_expires_and_how_to_get_another_is_said() {
    let (server, terminal) = (TempDir::new(), Terminal::new());
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = command(server.path(), &["serve", "--dev", "--listen", &listen]);
    command.env("PMP_AUTH__TENANTS__DEV__DEVICE__CODE_TTL", "30s");
    let _serving = Serving::of(command);
    let begun = std::time::Instant::now();
    let login = terminal.login(&["--issuer", &format!("http://{listen}/t/dev")]);
    let ended = login.end();
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("expired"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("fix: get a new one: pmp-auth login --device"),
        "{}",
        ended.stderr
    );
    let took = begun.elapsed().as_secs();
    assert!((28..40).contains(&took), "{took}");
}

/// A server that describes itself and answers everything else with 503; its issuer.
fn out_of_order() -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let document = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "device_authorization_endpoint": format!("{issuer}/device_authorization"),
    });
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 4096];
            let read = stream.read(&mut asked).unwrap_or_default();
            let (status, body) = match &asked[..read] {
                [b'G', ..] => ("200 OK", document.to_string()),
                _ => ("503 Service Unavailable", String::new()),
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    issuer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_still_works_is_printed_while_the_server_is_out_of_order() {
    let (terminal, issuer) = (Terminal::new(), out_of_order());
    let keeper = Keeper::below(&terminal.home.path().join(".local/share"));
    let kept = |seconds| SignIn {
        issuer: issuer.clone(),
        client_id: "cli".to_owned(),
        secret_file: None,
        access: Secret::new("works".to_owned()),
        expires_at: Some(SystemClock.now().plus(Duration::from_secs(seconds))),
        refresh: Some(Secret::new("r".to_owned())),
        scope: None,
    };
    for (seconds, code, printed) in [(40, 0, "works\n"), (0, 1, "")] {
        let lock = keeper.lock(&issuer, "cli").await.unwrap();
        keeper.keep(&kept(seconds)).unwrap();
        drop(lock);
        let ended = terminal.run(&["token"]);
        assert_eq!((ended.code, &*ended.stdout), (code, printed), "{}", ended.stderr);
    }
}

/// Makes the access token in a file end in so many seconds.
fn age(file: &Path, seconds: i64) {
    let mut record: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    record["expires_at"] = Value::from(SystemClock.now().seconds() + seconds);
    fs::write(file, record.to_string()).unwrap();
}

async fn ask(issuer: &str, token: &str) -> reqwest::Response {
    let request = reqwest::Client::new().get(format!("{issuer}/userinfo")).bearer_auth(token);
    request.send().await.unwrap()
}

async fn userinfo(issuer: &str, token: &str) -> Value {
    ask(issuer, token).await.json().await.unwrap()
}

async fn userinfo_status(issuer: &str, token: &str) -> u16 {
    ask(issuer, token).await.status().as_u16()
}
