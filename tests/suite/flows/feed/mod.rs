//! The revocation feed, as resource servers read it.

mod api_keys;
mod pages;
mod paths;
mod poll;
mod stream;

use std::time::Duration;

use pmp_auth::base::{Clock as _, Digest, base64url};
use pmp_auth::model::{Audit, Revocation, RevocationKey};
use pmp_auth::storage::Engine;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::server::{API, Answer, SECRET, TENANTS, TestServer};

/// The tenants, and at `acme` three readers: of the API, of the files, and of nothing.
fn tenants() -> String {
    let reader = |id: &str, audiences: &str| {
        format!(
            "      - client_id: {id}
        type: confidential
        client_secret: {SECRET}
        grants: [client_credentials]
        scopes: [\"revocations:read\", \"api_keys:manage\"]
        audiences: [{audiences}]
"
        )
    };
    let api = reader("reader", &format!("\"{API}\""));
    let files = reader("files", "\"https://files.acme.example\"");
    let none = reader("none", "");
    let manages = "\"orders:write\", \"api_keys:manage\"]\n";
    let yaml = TENANTS.replacen("      - &api\n", &format!("{api}{files}{none}      - &api\n"), 1);
    let yaml = yaml.replacen("\"orders:write\"]\n", manages, 1);
    assert_ne!(yaml, TENANTS);
    yaml
}

/// A server, and the token of a reader.
struct House {
    server: TestServer,
    token: String,
}

impl House {
    async fn new(engine: Engine) -> Self {
        Self::of(TestServer::with(engine, &tenants()).await).await
    }

    async fn of(server: TestServer) -> Self {
        let token = server.client_token("reader").await;
        Self { server, token }
    }

    fn request(&self, query: &str) -> RequestBuilder {
        let url = self.server.url("acme", &format!("/revocations{query}"));
        self.server.http.get(url).bearer_auth(&self.token)
    }

    async fn get(&self, query: &str) -> Answer {
        answer(self.request(query)).await
    }

    /// A page that must be one.
    async fn page(&self, query: &str) -> Value {
        let answer = self.get(query).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "private, no-cache");
        let page = answer.json();
        assert_eq!(answer.header("etag"), format!("\"{}\"", cursor(&page)));
        assert_eq!(page["iss"], self.server.tenant("acme").issuer());
        page
    }

    /// Revokes past HTTP: tokens of these ids.
    async fn revoke(&self, jtis: &[String]) {
        let entries: Vec<_> = jtis.iter().map(|jti| self.entry(jti)).collect();
        self.append(&entries).await;
    }

    async fn append(&self, entries: &[Revocation]) {
        let (store, now) = (&self.server.tenant("acme").store, self.server.clock.now());
        store.append_revocations(entries, now, &Audit::default()).await.unwrap();
    }

    fn entry(&self, jti: &str) -> Revocation {
        let now = self.server.clock.now();
        Revocation {
            key: RevocationKey::Jti(jti.to_owned()),
            audience: None,
            not_before: None,
            expires_at: now.plus(Duration::from_hours(1)),
            at: now,
        }
    }
}

/// A token of a client itself for this scope.
async fn manager(server: &TestServer, client: &str, scope: &str) -> String {
    let form = [("grant_type", "client_credentials"), ("scope", scope)];
    let answer = server.token(client, &form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["access_token"].as_str().expect("a token").to_owned()
}

/// An API key for this scope, by its owner's token: its id and itself.
async fn make_key(server: &TestServer, manager: &str, scope: &str) -> (String, String) {
    make_key_of(server, manager, json!({"scopes": [scope]})).await
}

/// The same with other members.
async fn make_key_of(server: &TestServer, manager: &str, more: Value) -> (String, String) {
    let mut wanted = json!({"name": "ci", "expires_at": "2027-02-14T08:00:00Z"});
    for (name, value) in more.as_object().expect("an object") {
        wanted[name] = value.clone();
    }
    let request = server.http.post(server.url("acme", "/api-keys")).bearer_auth(manager);
    let request = request.header("content-type", "application/json").body(wanted.to_string());
    let made = answer(request).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let text = |name: &str| made.json()[name].as_str().expect(name).to_owned();
    (text("id"), text("key"))
}

async fn answer(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await.expect("an answer")).await
}

fn cursor(page: &Value) -> &str {
    page["cursor"].as_str().expect("a cursor")
}

/// `h` of a key.
fn hash(key: &str) -> String {
    base64url::encode(&Digest::<()>::of(key.as_bytes()).as_bytes()[..16])
}

fn hashes(page: &Value) -> Vec<String> {
    let entries = page["entries"].as_array().expect("entries").iter();
    entries.map(|entry| entry["h"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Whether a page has an entry of this kind for this key.
fn has(page: &Value, kind: &str, key: &str) -> bool {
    let entries = page["entries"].as_array().expect("entries").iter();
    let h = if kind == "tenant" { Value::Null } else { hash(key).into() };
    entries.into_iter().any(|entry| entry["k"] == kind && entry["h"] == h)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("j{n}")).collect()
}
