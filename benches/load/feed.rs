//! The revocation feed where single requests say little: how soon a reader knows of a revocation,
//! what a large snapshot takes, and what many readers cost. Each takes less than a minute.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::{Connection as _, Executor as _};
use tokio::sync::mpsc;

use crate::devices::{percentile, stay_off_the_server};
use crate::server::Server;
use crate::{cpu, number};

/// Runs those that are `wanted` by name. `database` is where the server's Postgres is, if it has one.
pub fn run(server: &Server, database: Option<&str>, wanted: impl Fn(&str) -> bool) {
    let soon = wanted("feed: refusal");
    let large = wanted("feed: snapshot") && server.engine == "postgres";
    let many = wanted("feed: subscribers");
    if !(soon || large || many) {
        return;
    }
    stay_off_the_server();
    println!("| revocation feed | | |\n|---|---|---|");
    if soon {
        revoke_to_refusal(server, "one node", &server.url);
        if server.engine == "postgres" {
            let node = server.beside();
            revoke_to_refusal(server, "two nodes", &node.url);
        }
    }
    if many {
        subscribers(server);
    }
    if let (true, Some(database)) = (large, database) {
        snapshot(server, database);
    }
    println!();
}

fn reader(server: &Server) -> String {
    let body = "grant_type=client_credentials&scope=revocations%3Aread";
    server.tokens("reader", body, 1).remove(0)
}

/// The name of an access token in the feed.
fn hash(token: &str) -> String {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("a payload"));
    let claims: serde_json::Value =
        serde_json::from_slice(&payload.expect("base64url")).expect("claims");
    let jti = claims["jti"].as_str().expect("a jti");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, jti.as_bytes());
    URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16])
}

/// An open stream of events, as far as the names in it go.
struct Names {
    response: reqwest::Response,
    text: String,
}

impl Names {
    async fn open(server: &Server, url: &str, token: &str) -> Self {
        let request = server.http.get(format!("{url}{}/revocations", server.path));
        let request = request.bearer_auth(token).header("accept", "text/event-stream");
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        Self { response, text: String::new() }
    }

    /// What came, up to the end of an event; none at the end of the stream.
    async fn next(&mut self) -> Option<Vec<String>> {
        loop {
            if let Some(end) = self.text.rfind("\n\n") {
                let rest = self.text.split_off(end + 2);
                let events = std::mem::replace(&mut self.text, rest);
                let names = events.split("\"h\":\"").skip(1);
                return Some(names.filter_map(|name| name.get(..22)).map(str::to_owned).collect());
            }
            let chunk = self.response.chunk().await.ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }
}

/// From the answer of `/revoke` to the moment at which a reader at `reads_at` refuses the token, one
/// token after the other.
fn revoke_to_refusal(server: &Server, place: &str, reads_at: &str) {
    let samples = number("SAMPLES", 300);
    let (reader, tokens) = (reader(server), server.client_credentials("svc", samples));
    let mut millis = Vec::with_capacity(samples);
    server.runtime.block_on(async {
        let mut names = Names::open(server, reads_at, &reader).await;
        names.next().await.expect("a snapshot");
        let (say, mut heard) = mpsc::unbounded_channel();
        let listening = tokio::spawn(async move {
            let mut refused = HashSet::new();
            while let Some(names) = names.next().await {
                let at = Instant::now();
                for name in names {
                    if refused.insert(name.clone()) && say.send((name, at)).is_err() {
                        return;
                    }
                }
            }
        });
        for token in tokens {
            let request = server.http.post(format!("{}{}", server.url, server.revoke()));
            let request = request.header("authorization", server.basic("svc"));
            let answer = request.form(&[("token", &token)]).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let (answered, wanted) = (Instant::now(), hash(&token));
            let limit = Duration::from_secs(10);
            let at = loop {
                let next = tokio::time::timeout(limit, heard.recv()).await;
                let (name, at) = next.expect("heard in time").expect("a stream");
                if name == wanted {
                    break at;
                }
            };
            millis.push(at.saturating_duration_since(answered).as_secs_f64() * 1e3);
        }
        listening.abort();
    });
    millis.sort_by(f64::total_cmp);
    println!(
        "| revoke answered to refused, {place} | {samples} | p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms |",
        percentile(&millis, 0.5),
        percentile(&millis, 0.99),
        percentile(&millis, 1.0),
    );
}

/// A snapshot with a great many entries, from the request to the set in which they are looked up.
fn snapshot(server: &Server, database: &str) {
    const ROUNDS: usize = 5;
    let entries: usize = number("ENTRIES", 100_000);
    let token = reader(server);
    server.runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect(database).await.expect("a connection");
        let rows = format!(
            "INSERT INTO revocations (tenant_uid, kind, key, exp)
             SELECT uid, 'jti', 'bench-' || n, now() + interval '1 hour'
             FROM tenants, generate_series(1, {entries}) n WHERE slug = 'bench'"
        );
        connection.execute(sqlx::AssertSqlSafe(rows)).await.expect("rows");
        let _ = connection.close().await;
        let began = Instant::now();
        // A node that is far behind says nothing of the log until it is not.
        while load(server, &token, "identity").await.is_none_or(|(known, ..)| known < entries) {
            assert!(began.elapsed() < Duration::from_secs(30), "the rows do not come");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for encoding in ["identity", "gzip"] {
            let (mut seconds, mut size) = (Vec::new(), 0);
            for _ in 0..ROUNDS {
                // Something new, so that the list is made anew.
                let one = server.tokens_of("svc", 1).await.remove(0);
                let request = server.http.post(format!("{}{}", server.url, server.revoke()));
                let request = request.header("authorization", server.basic("svc"));
                request.form(&[("token", &one)]).send().await.expect("an answer");
                let before = cpu::used(server.pid(), false);
                let loaded = load(server, &token, encoding).await;
                let (_, bytes, took) = loaded.expect("a snapshot");
                let spent = cpu::used(server.pid(), false) - before;
                size = bytes;
                seconds.push((took.as_secs_f64(), spent.as_secs_f64()));
            }
            seconds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (took, spent) = seconds[seconds.len() / 2];
            println!(
                "| snapshot of {entries} entries, {encoding} | {:.0} KB | served and loaded in {:.0} ms (median), {:.0} ms at most; server {:.0} ms of CPU |",
                size as f64 / 1e3,
                took * 1e3,
                seconds[seconds.len() - 1].0 * 1e3,
                spent * 1e3,
            );
        }
    });
}

/// Takes a snapshot: its entries, its bytes on the wire, and what it took; none when there is none
/// to be had.
async fn load(server: &Server, token: &str, encoding: &str) -> Option<(usize, usize, Duration)> {
    #[derive(serde::Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        entries: Vec<Entry<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Entry<'a> {
        #[serde(borrow)]
        k: &'a str,
        h: Option<&'a str>,
        exp: i64,
    }
    let from = Instant::now();
    let request = server.http.get(format!("{}{}/revocations", server.url, server.path));
    let request = request.bearer_auth(token).header("accept-encoding", encoding);
    let answer = request.send().await.expect("an answer");
    if answer.status() == 503 {
        return None;
    }
    assert_eq!(answer.status(), 200);
    let body = answer.bytes().await.expect("a body");
    let (size, packed) = (body.len(), body.starts_with(&[0x1f, 0x8b]));
    assert_eq!(packed, encoding == "gzip");
    let body = if packed { unpack(&body) } else { body.to_vec() };
    let page: Page = serde_json::from_slice(&body).expect("a page");
    let mut known = HashSet::with_capacity(page.entries.len());
    for entry in &page.entries {
        let mut name = [0; 16];
        if let Some(h) = entry.h {
            URL_SAFE_NO_PAD.decode_slice(h, &mut name).expect("a name");
        }
        known.insert((entry.k.len(), name, entry.exp));
    }
    Some((known.len(), size, from.elapsed()))
}

fn unpack(body: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = std::process::Command::new("gzip")
        .arg("-dc")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gzip");
    let mut into = gzip.stdin.take().expect("its input");
    let packed = body.to_vec();
    let writing = std::thread::spawn(move || into.write_all(&packed));
    let output = gzip.wait_with_output().expect("its output");
    writing.join().expect("no panic").expect("all of it");
    output.stdout
}

/// Many readers of the stream, each with a connection of its own.
fn subscribers(server: &Server) {
    let count: usize = number("SUBSCRIBERS", 500);
    let (reader, token) = (reader(server), server.client_credentials("svc", 1).remove(0));
    let wanted = hash(&token);
    server.runtime.block_on(async {
        let before = cpu::resident_mib(server.pid());
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let mut names = Names::open(server, &server.url, &reader).await;
            names.next().await.expect("a snapshot");
            all.push(names);
        }
        let with = cpu::resident_mib(server.pid());
        let request = server.http.post(format!("{}{}", server.url, server.revoke()));
        let request = request.header("authorization", server.basic("svc"));
        request.form(&[("token", &token)]).send().await.expect("an answer");
        let answered = Instant::now();
        for names in &mut all {
            while !names.next().await.expect("a stream").contains(&wanted) {}
        }
        let last = answered.elapsed();
        println!(
            "| {count} subscribers | {:.1} MiB more | {before:.1} MiB before, {with:.1} with them, {:.1} after an event; the last has it after {:.1} ms |",
            with - before,
            cpu::resident_mib(server.pid()),
            last.as_secs_f64() * 1e3,
        );
    });
}
