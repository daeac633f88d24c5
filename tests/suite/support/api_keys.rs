//! API keys over HTTP: tenants that have them, owners that make them, and those who check them.

use pmp_auth::base::SystemEntropy;
use pmp_auth::keys::Peppers;
use pmp_auth::model::ClientId;
use pmp_auth::model::api_key::{ApiKeyId, Owner};
use pmp_auth::oauth::api_keys::{Bounds, Maker};
use pmp_auth::storage::Engine;
use pmp_auth::token::api_key::ApiKeys;
use reqwest::Method;
use serde_json::{Value, json};

use super::flow::{Form, SignedIn};
use super::server::{API, Answer, SECRET, TENANTS, TestServer};

/// The type of an API key in an exchange.
pub const KEY_TYPE: &str = "urn:pmp-auth:params:oauth:token-type:api_key";
/// The grant type of an exchange.
pub const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The other API of the tenants.
pub const FILES: &str = "https://files.acme.example";

/// The tenants of [`TENANTS`], where `web` may manage and exchange API keys.
pub fn tenants() -> String {
    let grants = "grants: [authorization_code, refresh_token, client_credentials]";
    TENANTS
        .replacen(
            "    name: Acme\n",
            "    name: Acme\n    grants: [authorization_code, refresh_token, client_credentials, \
             device_code, token_exchange]\n",
            1,
        )
        .replacen(grants, &grants.replace(']', ", token_exchange]"), 1)
        .replacen("\"orders:write\"]\n", "\"orders:write\", \"api_keys:manage\"]\n", 1)
}

/// A key as its owner got it.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// The key itself.
    pub text: String,
}

impl Key {
    /// What an answer that made a key says.
    #[track_caller]
    pub fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 201, "{}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store");
        let body = answer.json();
        let text = |name: &str| body[name].as_str().expect(name).to_owned();
        Self { id: text("id"), text: text("key") }
    }

    /// Its id.
    pub fn id(&self) -> ApiKeyId {
        self.id.parse().expect("an id")
    }
}

/// A key for `orders:read` at [`API`], for thirty days from the servers' first moment.
pub fn wanted() -> Value {
    json!({
        "name": "ci", "scopes": ["orders:read"], "audiences": [API],
        "expires_at": "2027-02-14T08:00:00Z",
    })
}

/// The same with another member.
pub fn wanted_with(name: &str, value: impl Into<Value>) -> Value {
    let mut wanted = wanted();
    wanted[name] = value.into();
    wanted
}

impl TestServer {
    /// A server of [`tenants`].
    pub async fn with_api_keys(engine: Engine) -> Self {
        Self::with(engine, &tenants()).await
    }

    /// A token of `web` itself that may manage its keys.
    pub async fn manager(&self) -> String {
        self.manager_of("orders:read orders:write api_keys:manage").await
    }

    /// A token of `web` itself for this scope.
    pub async fn manager_of(&self, scope: &str) -> String {
        let form = [("grant_type", "client_credentials"), ("scope", scope)];
        let answer = self.token("web", &form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["access_token"].as_str().expect("a token").to_owned()
    }

    /// A token of alice, through `web`, that may manage her keys.
    pub async fn alices_manager(&self) -> (SignedIn, String) {
        let alice = SignedIn::at(self).await;
        let scope = "openid orders:read api_keys:manage";
        let code = alice.code_of_scope(self, "web", scope).await;
        let tokens = self.ask("web", &code.form).await.granted();
        (alice, tokens["access_token"].as_str().expect("a token").to_owned())
    }

    /// A request to `{issuer of acme}/api-keys…` with a bearer token.
    pub async fn keys(&self, method: Method, rest: &str, token: &str, body: &Value) -> Answer {
        let url = self.url("acme", &format!("/api-keys{rest}"));
        let mut request = self.http.request(method, url).bearer_auth(token);
        if !body.is_null() {
            let body = body.to_string();
            request = request.header("content-type", "application/json").body(body);
        }
        Answer::of(request.send().await.expect("an answer")).await
    }

    /// A key of whoever the token speaks for.
    pub async fn make_key(&self, token: &str, wanted: &Value) -> Key {
        Key::of(&self.keys(Method::POST, "", token, wanted).await)
    }

    /// A key of `web` itself.
    pub async fn key(&self) -> Key {
        let manager = self.manager().await;
        self.make_key(&manager, &wanted()).await
    }

    /// What introspection by `api` answers about a key.
    pub async fn check_key(&self, text: &str) -> Answer {
        let url = self.url("acme", "/introspect");
        self.post(&url, Some(("api", SECRET)), &[("token", text)]).await
    }

    /// Whether introspection by `api` calls a key active.
    pub async fn key_is_live(&self, text: &str) -> bool {
        let answer = self.check_key(text).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let told = answer.json();
        assert!(told["active"] == true || told == json!({"active": false}), "{told}");
        told["active"] == true
    }

    /// An exchange by `web`, with what `more` says besides.
    pub async fn exchange(&self, text: &str, more: &[(&str, &str)]) -> Answer {
        let mut form =
            Form::of(EXCHANGE).with("subject_token", text).with("subject_token_type", KEY_TYPE);
        for (name, value) in more {
            form = form.with(name, value);
        }
        self.ask("web", &form).await
    }

    /// The digest of a key in the store, as SQL shows it.
    pub async fn stored(&self, key: &Key) -> (u8, String) {
        let record = self.tenant("acme").store.find_api_key(key.id()).await.unwrap();
        let digest = record.expect("the row of a key").digest;
        (digest.pepper, pmp_auth::base::hex(&digest.mac))
    }

    /// Makes a key of `web` under the first of these peppers, past HTTP.
    pub async fn key_under(&self, peppers: Vec<pmp_auth::config::settings::RingKey>) -> Key {
        let keys = ApiKeys::new(Peppers::new(peppers));
        let (tenant, now) = (self.tenant("acme"), pmp_auth::base::Clock::now(&self.clock));
        let web = tenant.client(&ClientId::new("web")).await.unwrap().expect("web");
        let maker = Maker { keys: &keys, tenant: &tenant.uid, entropy: &SystemEntropy, now };
        let bounds = Bounds::of_client(&tenant.settings, &web);
        let wanted = serde_json::from_value(wanted()).unwrap();
        let owner = Owner::Client(web.id.clone());
        let (new, text) = maker.make(&owner, &bounds, &wanted).expect("a key");
        let created =
            tenant.store.create_api_key(&new, 50, now, &pmp_auth::model::Audit::default()).await;
        assert_eq!(created.unwrap(), pmp_auth::storage::CreateApiKey::Created);
        Key { id: new.key.id.to_string(), text: text.reveal().clone() }
    }
}
