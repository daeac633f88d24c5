//! The settings that the rest of the program sees: complete, checked, defaults filled in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::base::Secret;
use crate::model::client::{AccessTokenFormat, GrantType, SigningAlg};
use crate::model::{Client, ClientId, Scope, TenantSlug};

/// Everything that `config.yaml` and the environment say.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `server:`
    pub server: Server,
    /// `storage:`
    pub storage: Storage,
    /// `jobs:`
    pub jobs: Jobs,
    /// `tenants:`, by slug.
    pub tenants: BTreeMap<TenantSlug, Tenant>,
}

/// `server:`
#[derive(Debug, Clone)]
pub struct Server {
    /// Where the public listener binds; port 0 takes any.
    pub listen: SocketAddr,
    /// Where metrics and the admin surface bind, when not on the public listener.
    pub admin_listen: Option<SocketAddr>,
    /// The origin under which the world reaches us; without path, query or trailing slash.
    pub public_url: Url,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The key ring, newest first; empty means a generated file: the default on memory and SQLite,
    /// and with Postgres only where `secret_keys: generate` says so.
    pub secret_keys: Vec<RingKey>,
    /// The peppers of API keys, newest first. Empty means a generated file where
    /// `generate_api_key_pepper` says so, else that there are no API keys here.
    pub api_key_peppers: Vec<RingKey>,
    /// Whether a pepper is made at first start: the default on memory and SQLite, and with Postgres
    /// only where `api_key_peppers: generate` says so.
    pub generate_api_key_pepper: bool,
    /// Where generated secrets are kept: beside the SQLite file, else `./data`.
    pub data_dir: PathBuf,
    /// A pattern such as `{tenant}.id.example.com` that gives each tenant a host of its own.
    pub tenant_host: Option<String>,
    /// Whether `/demo` is served; only with a loopback `public_url`.
    pub demo: bool,
    /// Whether this is `serve --dev`: error pages show more, http is fine.
    pub dev: bool,
    /// How long a shutdown waits for requests in flight.
    pub shutdown_grace: Duration,
    /// Upper bound of memory for password hashing, in bytes; permits follow from it.
    pub hash_memory: u64,
}

impl Server {
    /// Whether the world beyond this machine is meant: sample secrets and plain http are refused.
    pub fn is_production(&self) -> bool {
        !self.is_loopback()
    }

    /// Whether API keys can be made and checked here.
    pub fn has_api_keys(&self) -> bool {
        self.generate_api_key_pepper || !self.api_key_peppers.is_empty()
    }

    /// Whether `public_url` names this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.public_url)
    }
}

/// Whether the host of `url` is this machine: `localhost`, names below it, or a loopback address.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// A key of the ring.
#[derive(Debug, Clone)]
pub struct RingKey {
    /// 1 to 255; never used again for another secret.
    pub id: u8,
    /// At least 32 bytes.
    pub secret: Secret<Vec<u8>>,
}

/// `storage:`
#[derive(Debug, Clone)]
pub struct Storage {
    /// Which engine, and where.
    pub engine: StorageEngine,
    /// Who migrates the schema.
    pub migrate: MigrateMode,
    /// Connections to keep (Postgres), readers (SQLite).
    pub max_connections: u32,
}

/// `storage.type` and `storage.connection_string`.
#[derive(Debug, Clone)]
pub enum StorageEngine {
    /// `memory`, also when `storage` is absent.
    Memory,
    /// `sqlite`: the file.
    Sqlite {
        /// Path of the database file.
        path: PathBuf,
    },
    /// `postgres`.
    Postgres {
        /// `postgres://user:password@host/database`.
        connection: Secret<String>,
        /// A direct connection for notifications, past any pooler; else `connection`.
        listen: Option<Secret<String>>,
    },
}

/// `storage.migrate`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrateMode {
    /// Refuse to start on a schema that is not current (Postgres' default).
    Check,
    /// Bring it up to date first (SQLite's default).
    Auto,
    /// Neither look nor touch.
    Off,
}

/// `jobs:`
#[derive(Debug, Clone)]
pub struct Jobs {
    /// Five-field cron, UTC; none switches the job off.
    pub cleanup: Option<String>,
    /// Rows of each kind deleted in one batch.
    pub cleanup_batch: u32,
}

/// `tenants.<slug>:`
#[derive(Debug, Clone)]
pub struct Tenant {
    /// What users are shown; defaults to the slug.
    pub name: String,
    /// A host of its own; then it is served there only.
    pub host: Option<String>,
    /// The issuer, byte for byte: `{public_url}/t/{slug}`, or the origin of its host.
    pub issuer: String,
    /// Lifetimes and windows.
    pub lifetimes: Lifetimes,
    /// The device flow.
    pub device: Device,
    /// The grant types that any client of the tenant may have.
    pub grants: Vec<GrantType>,
    /// The scopes that exist, with the words that consent pages show.
    pub scopes: Vec<ScopeSetting>,
    /// The resources (APIs) that tokens can be for.
    pub resources: Vec<Resource>,
    /// The `aud` of tokens when no `resource` is asked for: one of `resources`, else the issuer.
    pub default_audience: String,
    /// Algorithms and key sizes.
    pub signing: Signing,
    /// What access tokens look like unless the client says otherwise.
    pub access_token_format: AccessTokenFormat,
    /// What revocation costs and how fast it is.
    pub revocation: RevocationMode,
    /// Status lists, if the tenant keeps them.
    pub status_lists: Option<StatusLists>,
    /// Whether one network retry of a redeemed code is answered again, and for how long (0 to 2 s).
    pub code_retry: Option<Duration>,
    /// Token requests a second that each client may make: 20; 0 is no limit.
    pub token_rate: u32,
    /// Introspections a second that each client may make: 500; 0 is no limit.
    pub introspection_rate: u32,
    /// The clients.
    pub clients: Vec<Client>,
    /// The clients whose secret is generated at first start (`client_secret: generate`); they have
    /// none until `config::generated` adds it.
    pub generated_secrets: Vec<ClientId>,
    /// Users to create if absent.
    pub users: Vec<SeedUser>,
    /// Colours and words.
    pub branding: Branding,
}

impl Tenant {
    /// Every scope of the tenant.
    pub fn all_scopes(&self) -> Scope {
        self.scopes.iter().map(|scope| scope.name.as_str()).collect()
    }

    /// The longest that any access token of the tenant lives.
    pub fn longest_access_token(&self) -> Duration {
        let own = self.clients.iter().filter_map(|client| client.access_token_ttl);
        own.fold(self.lifetimes.access_token, Duration::max)
    }
}

/// `tenants.<slug>.status_lists:` (draft-ietf-oauth-status-list)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusLists {
    /// How long a list may be kept, in whole seconds: 30 s.
    pub ttl: Duration,
}

/// `tenants.<slug>.lifetimes:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Authorization code: 60 s; at most 10 min.
    pub code: Duration,
    /// Access token: 10 min.
    pub access_token: Duration,
    /// ID token: 5 min.
    pub id_token: Duration,
    /// Refresh token unused: 30 d.
    pub refresh_idle: Duration,
    /// Grant, however often refreshed: 90 d.
    pub refresh_absolute: Duration,
    /// A spent refresh token is answered with the same head again: 10 s.
    pub refresh_short_window: Duration,
    /// … and replaced if it never arrived; none means the access-token lifetime for native and
    /// confidential clients and zero for browser clients.
    pub refresh_long_window: Option<Duration>,
    /// A generation from the future is adopted so long after a new storage epoch: 24 h.
    pub refresh_recovery: Duration,
    /// Session unused: 30 min.
    pub session_idle: Duration,
    /// Session in any case: 12 h.
    pub session_absolute: Duration,
}

/// `tenants.<slug>.device:` (RFC 8628)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// A device code: 10 min; at most that.
    pub code_ttl: Duration,
    /// Between polls, whole seconds: 5 s.
    pub interval: Duration,
    /// Whether `{public_url}/device` serves the tenant's codes; only one tenant's, unless it says so.
    pub short_url: bool,
    /// Device codes a second that each client may ask for: 10; 0 is no limit.
    pub request_rate: u32,
    /// Where users are sent: `{public_url}/device` with `short_url`, else `{issuer}/device`.
    pub verification_uri: String,
}

/// A scope and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeSetting {
    /// The token.
    pub name: String,
    /// What a consent page says; built-in words for the standard scopes.
    pub description: Option<String>,
}

/// A resource (RFC 8707): an API that tokens can be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its identifier, an absolute URI without fragment; the `aud` of its tokens.
    pub uri: String,
    /// What consent pages call it.
    pub name: Option<String>,
    /// The scopes that make sense there; all of the tenant's when empty.
    pub scopes: Scope,
}

/// `tenants.<slug>.signing:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signing {
    /// Access tokens: ES256.
    pub access_token: SigningAlg,
    /// ID tokens of clients that register none: RS256.
    pub id_token: SigningAlg,
    /// RSA key size in bits: 2048 or 3072 or 4096.
    pub rsa_bits: u16,
    /// How long a replaced key stays published after the last token it can have signed.
    pub grace: Duration,
}

/// `tenants.<slug>.revocation`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevocationMode {
    /// From this node's view, at most 1 s old.
    #[default]
    View,
    /// Ask the store each time: 0 s everywhere, one query per check.
    Strict,
}

/// A user to create if absent.
#[derive(Debug, Clone)]
pub struct SeedUser {
    /// User name.
    pub username: Option<String>,
    /// E-mail.
    pub email: String,
    /// Full name.
    pub name: Option<String>,
    /// Given name.
    pub given_name: Option<String>,
    /// Family name.
    pub family_name: Option<String>,
    /// Where the password comes from.
    pub password: SeedPassword,
}

/// The password of a seeded user.
#[derive(Debug, Clone)]
pub enum SeedPassword {
    /// Given (in a file, or in YAML outside production).
    Plain(Secret<String>),
    /// A PHC string.
    Hash(Secret<String>),
    /// Generated at first start, stored 0600 beside the data, printed once.
    Generate,
}

/// `tenants.<slug>.branding:`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branding {
    /// Accent colour as `#rrggbb`, light theme.
    pub accent: Option<String>,
    /// Address of a logo served by the tenant itself; a monogram otherwise.
    pub logo: Option<PathBuf>,
}
