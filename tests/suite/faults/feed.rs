//! Readers of the revocation feed, while the server is killed and the database goes away.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pmp_auth::base::{Digest, base64url};
use pmp_auth::storage::Engine;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::engines::Place;
use crate::support::events::Events;
use crate::support::postgres::OwnCluster;
use crate::support::process::{Serving, free_port, write_config};
use crate::support::server::SECRET;
use crate::support::temp::TempDir;

/// What every run of the process has in common.
#[derive(Clone)]
struct Site(Arc<Inner>);

struct Inner {
    place: Place,
    dir: TempDir,
    base: String,
    http: reqwest::Client,
    /// Every token whose revocation was answered with 200.
    revoked: Mutex<Vec<String>>,
}

impl Site {
    fn new(engine: Engine) -> Self {
        let place = Place::new(engine);
        let storage = match (&place, place.file()) {
            (Place::Postgres(database), _) => {
                format!("{{type: postgres, connection_string: \"{}\"}}", database.url())
            }
            (_, Some(file)) => {
                format!("{{type: sqlite, connection_string: \"{}\"}}", file.display())
            }
            (_, None) => "{type: memory}".to_owned(),
        };
        Self::over(place, &storage)
    }

    /// Over a cluster that can be stopped and started.
    fn over_cluster(cluster: &OwnCluster) -> Self {
        let url = cluster.url();
        Self::over(Place::Memory, &format!("{{type: postgres, connection_string: \"{url}\"}}"))
    }

    fn over(place: Place, storage: &str) -> Self {
        let dir = TempDir::new();
        let address = format!("127.0.0.1:{}", free_port());
        let text = format!(
            r#"
server:
  listen: {address}
  public_url: http://{address}
  secret_keys: [{{id: 1, secret: {SECRET}}}]
storage: {storage}
jobs: {{cleanup: off}}
tenants:
  acme:
    scopes: [read]
    resources: ["https://api.example"]
    default_resource: "https://api.example"
    token_rate: 0
    introspection_rate: 0
    clients:
      - {{client_id: web, type: confidential, client_secret: {SECRET}, grants: [client_credentials], scopes: [read]}}
      - {{client_id: reader, type: confidential, client_secret: {SECRET}, grants: [client_credentials],
         scopes: ["revocations:read"], audiences: ["https://api.example"]}}
"#
        );
        write_config(dir.path(), &text);
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let base = format!("http://{address}/t/acme");
        Self(Arc::new(Inner { place, dir, base, http, revoked: Mutex::default() }))
    }

    fn start(&self) -> Serving {
        Serving::start(self.0.dir.path(), &[])
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0.base)
    }

    async fn token(&self, client: &str) -> Option<String> {
        let request = self.0.http.post(self.url("/token")).timeout(Duration::from_secs(10));
        let request = request.form(&[("grant_type", "client_credentials")]);
        let answer = request.basic_auth(client, Some(SECRET)).send().await.ok()?;
        let body: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        body["access_token"].as_str().map(str::to_owned)
    }

    /// Issues and revokes tokens, whatever becomes of the server.
    async fn revoke_until(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let token = self.token("web").await;
            let done = match &token {
                Some(token) => {
                    let request = self.0.http.post(self.url("/revoke"));
                    let request = request.timeout(Duration::from_secs(10));
                    let request = request.form(&[("token", token.as_str())]);
                    request.basic_auth("web", Some(SECRET)).send().await.ok()
                }
                None => None,
            };
            match (token, done) {
                (Some(token), Some(answer)) if answer.status() == 200 => {
                    self.0.revoked.lock().unwrap().push(token);
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Follows the feed as a verifier does, and unites what it hears.
    async fn follow_until(self, token: String, stop: CancellationToken, seen: Seen) {
        let mut last: Option<String> = None;
        while !stop.is_cancelled() {
            let mut request = self.0.http.get(self.url("/revocations")).bearer_auth(&token);
            if let Some(id) = &last {
                request = request.header("last-event-id", id.as_str());
            }
            match Events::try_open(request).await {
                Ok(mut events) => {
                    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
                        let entries = event.data["entries"].as_array().into_iter().flatten();
                        let h = entries.filter_map(|entry| entry["h"].as_str().map(str::to_owned));
                        seen.lock().unwrap().extend(h);
                        last = event.id.or(last);
                    }
                }
                Err(Some(410)) => last = None,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until a reader has heard of every revocation that was answered.
    async fn has_all(&self, seen: &Seen, what: &str) {
        let expected: Vec<_> =
            self.0.revoked.lock().unwrap().iter().map(|token| hash(&jti(token))).collect();
        let began = Instant::now();
        loop {
            let missing = {
                let seen = seen.lock().unwrap();
                expected.iter().filter(|h| !seen.contains(*h)).count()
            };
            if missing == 0 {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{what}: {missing} of {} were never heard of",
                expected.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// None of the tokens whose revocation was answered is accepted.
    async fn accepts_none(&self) {
        let revoked = self.0.revoked.lock().unwrap().clone();
        for token in revoked {
            let request = self.0.http.post(self.url("/introspect")).form(&[("token", &token)]);
            let answer = request.basic_auth("web", Some(SECRET)).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let told: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            assert_eq!(told["active"], false);
        }
    }

    fn count(&self) -> usize {
        self.0.revoked.lock().unwrap().len()
    }
}

type Seen = Arc<Mutex<HashSet<String>>>;

fn jti(token: &str) -> String {
    let payload = base64url::decode(token.split('.').nth(1).expect("a payload")).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    claims["jti"].as_str().expect("a jti").to_owned()
}

fn hash(key: &str) -> String {
    base64url::encode(&Digest::<()>::of(key.as_bytes()).as_bytes()[..16])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_misses_nothing_when_the_server_is_killed() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let site = Site::new(engine);
        if engine == Engine::Sqlite {
            site.0.place.open().await.close().await;
        }
        let mut server = site.start();
        let token = site.token("reader").await.expect("a token");
        let (stop, seen) = (CancellationToken::new(), Seen::default());
        let reader =
            tokio::spawn(site.clone().follow_until(token, stop.clone(), Arc::clone(&seen)));
        let quiet = CancellationToken::new();
        let writers: Vec<_> =
            (0..2).map(|_| tokio::spawn(site.clone().revoke_until(quiet.clone()))).collect();
        for round in 0..5u32 {
            let before = site.count();
            while site.count() < before + 4 {
                tokio::time::sleep(Duration::from_millis(7 + u64::from(round))).await;
            }
            server.signal("KILL");
            server.wait();
            server = site.start();
        }
        quiet.cancel();
        for writer in writers {
            writer.await.unwrap();
        }
        site.has_all(&seen, &format!("{engine:?}")).await;
        stop.cancel();
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_misses_nothing_when_the_database_goes_away_and_comes_back() {
    let site = Site::new(Engine::Postgres);
    let _server = site.start();
    let token = site.token("reader").await.expect("a token");
    let (stop, seen) = (CancellationToken::new(), Seen::default());
    let reader =
        tokio::spawn(site.clone().follow_until(token.clone(), stop.clone(), Arc::clone(&seen)));
    let quiet = CancellationToken::new();
    let writer = tokio::spawn(site.clone().revoke_until(quiet.clone()));
    let Place::Postgres(database) = &site.0.place else { panic!("on Postgres") };
    for round in 0..3 {
        let before = site.count();
        while site.count() < before + 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        database.set_open(false);
        if round == 0 {
            // Nobody is told that nothing was revoked while we cannot know.
            let began = Instant::now();
            loop {
                let request = site.0.http.get(site.url("/revocations")).bearer_auth(&token);
                let answer = request.send().await.unwrap();
                if answer.status() == 503 {
                    assert!(answer.headers().contains_key("retry-after"));
                    break;
                }
                assert!(began.elapsed() < Duration::from_secs(15), "{}", answer.status());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        database.set_open(true);
    }
    quiet.cancel();
    writer.await.unwrap();
    site.has_all(&seen, "after the database came back").await;
    stop.cancel();
    reader.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_misses_nothing_when_postgres_is_stopped_and_when_it_crashes() {
    let mut cluster = OwnCluster::start();
    let site = Site::over_cluster(&cluster);
    let server = site.start();
    let token = site.token("reader").await.expect("a token");
    let (stop, seen) = (CancellationToken::new(), Seen::default());
    let reader = tokio::spawn(site.clone().follow_until(token, stop.clone(), Arc::clone(&seen)));
    let quiet = CancellationToken::new();
    let writers: Vec<_> =
        (0..2).map(|_| tokio::spawn(site.clone().revoke_until(quiet.clone()))).collect();
    // The first as for an update; after the others the log is replayed.
    for signal in ["INT", "QUIT", "QUIT"] {
        let before = site.count();
        let began = Instant::now();
        while site.count() < before + 4 {
            assert!(began.elapsed() < Duration::from_secs(30), "{signal}: nothing is revoked");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cluster.stop(signal);
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.start_again();
    }
    let before = site.count();
    let back = Instant::now();
    while site.count() == before {
        assert!(back.elapsed() < Duration::from_secs(10), "it does not recover");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    quiet.cancel();
    for writer in writers {
        writer.await.unwrap();
    }
    site.has_all(&seen, "after the restarts").await;
    site.accepts_none().await;
    // A node that was not there has it from the store.
    drop(server);
    let _server = site.start();
    site.accepts_none().await;
    stop.cancel();
    reader.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_streams_cost_less_than_50_mb() {
    let site = Site::new(Engine::Memory);
    let server = site.start();
    let token = site.token("reader").await.expect("a token");
    let request = || site.0.http.get(site.url("/revocations")).bearer_auth(&token);
    for _ in 0..20 {
        assert_eq!(request().send().await.unwrap().status(), 200);
    }
    let before = server.resident();
    let mut all = Vec::new();
    for _ in 0..500 {
        let mut events = Events::open(request()).await;
        assert_eq!(events.next().await.expect("a snapshot").name, "snapshot");
        all.push(events);
    }
    let quiet = CancellationToken::new();
    let writer = tokio::spawn(site.clone().revoke_until(quiet.clone()));
    while site.count() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    quiet.cancel();
    writer.await.unwrap();
    let last = hash(&jti(site.0.revoked.lock().unwrap().last().expect("a revocation")));
    for events in &mut all {
        while !events.next().await.expect("an event").data.to_string().contains(&last) {}
    }
    let more = server.resident().saturating_sub(before);
    println!("500 streams: {more} KiB more, {} KiB each", more / 500);
    assert!(more < 50 * 1024, "{more} KiB more");
}
