//! API keys in the hands of their owners: made, listed, rotated and revoked by whoever presents an
//! access token with the scope `api_keys:manage`. A key can do no more than the token it was made
//! with, and an owner sees no key but their own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::bearer::{self, BearerError};
use super::{Call, target};
use crate::base::{Entropy, Secret, Timestamp};
use crate::config::settings;
use crate::limits::Limited;
use crate::model::api_key::{ApiKey, ApiKeyId, KeyRate, Owner};
use crate::model::{Client, Scope, TenantUid};
use crate::storage::{
    Change, CreateApiKey, NewApiKey, OwnerId, RevokeApiKey, RotateApiKey, StoreError,
};
use crate::token::api_key::ApiKeys;

/// Live keys that one owner may have.
pub const MOST_KEYS: u32 = 50;
/// Keys of one owner that are live beside successors of theirs count twice at most.
const MOST_WITH_GRACE: usize = 2 * MOST_KEYS as usize;
/// A key ends within a year.
pub const LONGEST: Duration = Duration::from_hours(24 * 366);
/// How long a replaced key goes on, unless said otherwise.
pub const GRACE: Duration = Duration::from_hours(24);
const LONGEST_GRACE: Duration = Duration::from_hours(24 * 7);
const SHORTEST_GRACE: Duration = Duration::from_mins(1);
/// How often a key may be used, unless said otherwise.
const USUAL_RATE: KeyRate = KeyRate { limit: 6_000, window: Duration::from_mins(1) };
/// Other nodes' clocks, and what was exchanged a moment ago.
const LEEWAY: Duration = Duration::from_mins(1);
const MOST_NETWORKS: usize = 64;
/// What no key may have: it is nobody who signed in, nor may it make others like it.
const NEVER: [&str; 3] = [Scope::OPENID, Scope::OFFLINE_ACCESS, Scope::API_KEYS];

/// Why it is not done.
#[derive(Debug, Error)]
pub enum ApiKeyError {
    /// There is no access token, or none that allows it.
    #[error(transparent)]
    Bearer(#[from] BearerError),
    /// No such key, or not the caller's.
    #[error("no such API key")]
    NotFound,
    /// A member of the request that cannot be.
    #[error("`{0}`: {1}")]
    Invalid(&'static str, String),
    /// More than the caller may do itself.
    #[error("`{0}` goes beyond the access token")]
    TooWide(&'static str),
    /// The owner has as many as it may.
    #[error("the owner has {MOST_KEYS} live keys already")]
    TooMany,
    /// Too often; come back later.
    #[error("too many keys in a short time")]
    TooOften {
        /// When.
        retry_after: Duration,
    },
    /// The key is revoked or expired, or its owner disabled.
    #[error("the key is not live")]
    Ended,
    /// It has a successor already.
    #[error("the key was rotated before")]
    AlreadyRotated,
    /// This node has no pepper.
    #[error("server.api_key_peppers is not configured")]
    NotConfigured,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a new key is to be, as a request says it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// What its owner calls it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it allows.
    pub scopes: Vec<String>,
    /// Where it is good; the audience of the access token when left out.
    pub audiences: Option<Vec<String>>,
    /// When it ends (RFC 3339), within a year.
    pub expires_at: String,
    /// Addresses or networks that it may be used from; anywhere when left out.
    #[serde(default)]
    pub allowed_ips: Vec<String>,
    /// How often it may be used.
    pub rate: Option<WantedRate>,
    /// Whether it may be exchanged for a JWT even though it has `allowed_ips`.
    #[serde(default)]
    pub exchange: bool,
}

/// A rate, as a request says it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedRate {
    /// So many times …
    pub limit: u32,
    /// … in so long.
    pub window_seconds: u32,
}

/// How a key is to be rotated, as a request says it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How long the old key goes on: a day when left out, not at all with 0.
    pub grace_seconds: Option<u64>,
    /// When the new one ends (RFC 3339); as long from now as the old one's life was when left out.
    pub expires_at: Option<String>,
}

/// A key that was made just now.
#[derive(Debug)]
pub struct Made {
    /// The key as it is kept.
    pub key: ApiKey,
    /// The key itself, which nothing keeps.
    pub text: Secret<String>,
}

/// What the keys of an owner may have at most.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Scopes.
    pub scope: Scope,
    /// Audiences, the first of which is meant when none is named.
    pub audiences: Vec<String>,
}

/// Who manages keys: whoever an access token speaks for.
#[derive(Debug)]
pub struct Manager {
    owner: Owner,
    id: OwnerId,
    bounds: Bounds,
}

impl Bounds {
    /// What a client may have by the configuration: its scopes, and every audience it may ask for.
    pub fn of_client(tenant: &settings::Tenant, client: &Client) -> Self {
        Self { scope: client.scopes.clone(), audiences: audiences(tenant, client, &[]) }
    }

    fn covers(&self, key: &ApiKey) -> bool {
        key.scope.is_subset_of(&self.scope)
            && key.audiences.iter().all(|one| self.audiences.contains(one))
    }
}

/// The audiences that `client` may have, those of its token first.
fn audiences(tenant: &settings::Tenant, client: &Client, first: &[String]) -> Vec<String> {
    let mut all = first.to_vec();
    let known = tenant.resources.iter().map(|resource| &resource.uri);
    for uri in std::iter::once(&tenant.default_audience).chain(known) {
        if target::may_ask(tenant, client, uri) && !all.contains(uri) {
            all.push(uri.clone());
        }
    }
    all
}

impl Manager {
    /// Whoever `token` speaks for, if it allows to manage keys.
    pub async fn of(call: &Call<'_>, token: &str) -> Result<Self, ApiKeyError> {
        let claims = bearer::authorize(call, token, Scope::API_KEYS).await?;
        let client = call.tenant.client(&claims.client).await?.ok_or(BearerError::NotLive)?;
        let owner = match claims.user {
            Some(user) => Owner::User { user, client: Some(client.id.clone()) },
            None => Owner::Client(client.id.clone()),
        };
        // A user granted what the token is for; a client may ask for the others anyway.
        let audiences = match claims.user {
            Some(_) => claims.audience.clone(),
            None => audiences(&call.tenant.settings, &client, &claims.audience),
        };
        let bounds = Bounds { scope: claims.scope.clone(), audiences };
        Ok(Self { id: OwnerId::from(&owner), owner, bounds })
    }

    /// Makes a key.
    pub async fn create(&self, call: &Call<'_>, wanted: &Wanted) -> Result<Made, ApiKeyError> {
        self.count(call)?;
        let maker = Maker::of(call);
        let (new, text) = maker.make(&self.owner, &self.bounds, wanted)?;
        let store = &call.tenant.store;
        match store.create_api_key(&new, MOST_KEYS, call.now, call.audit).await? {
            CreateApiKey::Created => Ok(Made { key: new.key, text }),
            CreateApiKey::TooMany => Err(ApiKeyError::TooMany),
            CreateApiKey::OwnerNotLive => Err(BearerError::NotLive.into()),
        }
    }

    /// The owner's keys, newest first, after `after`.
    pub async fn list(
        &self,
        call: &Call<'_>,
        after: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>, ApiKeyError> {
        Ok(call.tenant.store.list_api_keys(Some(&self.id), after, limit).await?)
    }

    /// One of the owner's keys.
    pub async fn get(&self, call: &Call<'_>, id: ApiKeyId) -> Result<ApiKey, ApiKeyError> {
        let found = call.tenant.store.find_api_key(id).await?.map(|record| record.key);
        let own = found.filter(|key| OwnerId::from(&key.owner) == self.id);
        own.ok_or(ApiKeyError::NotFound)
    }

    /// Makes a successor of one of the owner's keys, which the token must cover: what it could not
    /// make it cannot get by rotating.
    pub async fn rotate(
        &self,
        call: &Call<'_>,
        id: ApiKeyId,
        how: &Rotation,
    ) -> Result<Made, ApiKeyError> {
        let old = self.get(call, id).await?;
        // The successor names the client of the old one: nobody gets a key in another's name.
        if old.owner != self.owner {
            return Err(ApiKeyError::TooWide("client_id"));
        }
        if !self.bounds.covers(&old) {
            return Err(ApiKeyError::TooWide("scopes"));
        }
        self.count(call)?;
        let all = self.list(call, None, 4 * MOST_KEYS).await?;
        if all.iter().filter(|key| key.is_live(call.now)).count() >= MOST_WITH_GRACE {
            return Err(ApiKeyError::TooMany);
        }
        Maker::of(call).rotate(&call.tenant.store, &old, how, call.audit).await
    }

    /// Revokes one of the owner's keys, and what was exchanged for it.
    pub async fn revoke(&self, call: &Call<'_>, id: ApiKeyId) -> Result<(), ApiKeyError> {
        let key = self.get(call, id).await?;
        // Not the end of its grace: what was exchanged before the rotation lives longer.
        let not_after = key.expires_at.plus(LEEWAY);
        let change = Change { now: call.now, not_after, audit: call.audit };
        match call.tenant.store.revoke_api_key(id, &change).await? {
            RevokeApiKey::Revoked | RevokeApiKey::AlreadyRevoked => Ok(()),
            RevokeApiKey::Unknown => Err(ApiKeyError::NotFound),
        }
    }

    fn count(&self, call: &Call<'_>) -> Result<(), ApiKeyError> {
        let whose = match &self.id {
            OwnerId::User(user) => format!("user {user}"),
            OwnerId::Client(client) => format!("client {client}"),
        };
        let counted = call.services.limiter.check(Limited::ApiKeyChange, &call.tenant.uid, &whose);
        counted.map_err(|often| ApiKeyError::TooOften { retry_after: often.retry_after })
    }
}

/// Makes keys, whoever asks: an owner over HTTP, or an operator at the command line.
pub struct Maker<'a> {
    /// Where keys are drawn.
    pub keys: &'a Arc<ApiKeys>,
    /// Whose tenant.
    pub tenant: &'a TenantUid,
    /// Randomness.
    pub entropy: &'a dyn Entropy,
    /// The one `now`.
    pub now: Timestamp,
}

impl<'a> Maker<'a> {
    fn of(call: &Call<'a>) -> Self {
        let services = call.services;
        Self {
            keys: &services.api_keys,
            tenant: &call.tenant.uid,
            entropy: &*services.entropy,
            now: call.now,
        }
    }

    /// A key for `owner` within `bounds`, not yet stored.
    pub fn make(
        &self,
        owner: &Owner,
        bounds: &Bounds,
        wanted: &Wanted,
    ) -> Result<(NewApiKey, Secret<String>), ApiKeyError> {
        let scope = scope(&wanted.scopes, bounds)?;
        let audiences = match &wanted.audiences {
            None => bounds.audiences.iter().take(1).cloned().collect(),
            Some(all) if all.is_empty() => {
                return Err(invalid("audiences", "name at least one, or leave it out"));
            }
            Some(all) if all.iter().all(|one| bounds.audiences.contains(one)) => all.clone(),
            Some(_) => return Err(ApiKeyError::TooWide("audiences")),
        };
        let drawn = self.keys.draw(self.tenant, self.entropy).ok_or(ApiKeyError::NotConfigured)?;
        let key = ApiKey {
            id: drawn.id,
            owner: owner.clone(),
            name: words("name", &wanted.name, 1..=100)?,
            description: match &wanted.description {
                Some(text) => Some(words("description", text, 0..=500)?),
                None => None,
            },
            prefix: drawn.prefix,
            scope,
            audiences,
            exchange: wanted.exchange,
            allowed_ips: networks(&wanted.allowed_ips)?,
            rate: rate(wanted.rate)?,
            created_at: self.now,
            expires_at: self.end("expires_at", &wanted.expires_at)?,
            last_used_at: None,
            last_used_ip: None,
            usage_count: 0,
            revoked_at: None,
            replaced_by: None,
            grace_until: None,
        };
        Ok((NewApiKey { key, digest: drawn.digest }, drawn.text))
    }

    /// A successor of `old`, in its place.
    pub async fn rotate(
        &self,
        store: &crate::storage::TenantHandle,
        old: &ApiKey,
        how: &Rotation,
        audit: &crate::model::Audit,
    ) -> Result<Made, ApiKeyError> {
        let grace = how.grace_seconds.map_or(GRACE, Duration::from_secs);
        if grace > LONGEST_GRACE || (grace < SHORTEST_GRACE && !grace.is_zero()) {
            return Err(invalid("grace_seconds", "write 0, or 60 to 604800"));
        }
        let expires_at = match &how.expires_at {
            Some(text) => self.end("expires_at", text)?,
            None => self.now.plus(old.expires_at.since(old.created_at).min(LONGEST)),
        };
        let drawn = self.keys.draw(self.tenant, self.entropy).ok_or(ApiKeyError::NotConfigured)?;
        let key = ApiKey {
            id: drawn.id,
            prefix: drawn.prefix,
            created_at: self.now,
            expires_at,
            last_used_at: None,
            last_used_ip: None,
            usage_count: 0,
            revoked_at: None,
            replaced_by: None,
            grace_until: None,
            ..old.clone()
        };
        let new = NewApiKey { key, digest: drawn.digest };
        let until = self.now.plus(grace);
        match store.rotate_api_key(old.id, &new, until, self.now, audit).await? {
            RotateApiKey::Rotated => {}
            RotateApiKey::AlreadyRotated => return Err(ApiKeyError::AlreadyRotated),
            RotateApiKey::NotLive => return Err(ApiKeyError::Ended),
            RotateApiKey::Unknown => return Err(ApiKeyError::NotFound),
        }
        // Nodes that remember the old key learn of its end from the log alone.
        if grace.is_zero() {
            let not_after = old.ends_at().plus(LEEWAY);
            let change = Change { now: self.now, not_after, audit };
            let _ = store.revoke_api_key(old.id, &change).await?;
        }
        Ok(Made { key: new.key, text: drawn.text })
    }

    fn end(&self, name: &'static str, text: &str) -> Result<Timestamp, ApiKeyError> {
        let at = DateTime::parse_from_rfc3339(text)
            .map_err(|_| invalid(name, "write a time as in 2027-01-31T12:00:00Z"))?;
        let at = Timestamp::from_chrono(at.to_utc());
        if at <= self.now || at > self.now.plus(LONGEST) {
            return Err(invalid(name, "a key ends in the future, within a year"));
        }
        Ok(at)
    }
}

fn invalid(name: &'static str, what: &str) -> ApiKeyError {
    ApiKeyError::Invalid(name, what.to_owned())
}

fn words(
    name: &'static str,
    text: &str,
    length: std::ops::RangeInclusive<usize>,
) -> Result<String, ApiKeyError> {
    let text = text.trim();
    if !length.contains(&text.chars().count()) || text.chars().any(char::is_control) {
        let (from, to) = (length.start(), length.end());
        return Err(invalid(name, &format!("write {from} to {to} characters on one line")));
    }
    Ok(text.to_owned())
}

fn scope(wanted: &[String], bounds: &Bounds) -> Result<Scope, ApiKeyError> {
    let scope = Scope::parse(&wanted.join(" "))
        .map_err(|_| invalid("scopes", "scopes are printable ASCII without spaces"))?;
    if let Some(never) = NEVER.into_iter().find(|never| scope.contains(never)) {
        return Err(invalid("scopes", &format!("no key can have `{never}`")));
    }
    if !scope.is_subset_of(&bounds.scope) {
        return Err(ApiKeyError::TooWide("scopes"));
    }
    Ok(scope)
}

fn networks(texts: &[String]) -> Result<Vec<IpNet>, ApiKeyError> {
    if texts.len() > MOST_NETWORKS {
        return Err(invalid("allowed_ips", "name at most 64 networks"));
    }
    let network = |text: &String| {
        let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let net = text.parse::<IpNet>().ok().or_else(alone);
        net.map(|net| net.trunc()).ok_or_else(|| {
            invalid("allowed_ips", "write addresses or networks such as 192.0.2.0/24")
        })
    };
    texts.iter().map(network).collect()
}

fn rate(wanted: Option<WantedRate>) -> Result<KeyRate, ApiKeyError> {
    let Some(WantedRate { limit, window_seconds }) = wanted else { return Ok(USUAL_RATE) };
    if !(1..=1_000_000).contains(&limit) || !(1..=86_400).contains(&window_seconds) {
        let what = "limit is 1 to 1000000, window_seconds 1 to 86400";
        return Err(invalid("rate", what));
    }
    Ok(KeyRate { limit, window: Duration::from_secs(window_seconds.into()) })
}

/// A key as its owner sees it: everything but the key.
pub fn shown(key: &ApiKey, now: Timestamp) -> Value {
    let at = |at: Option<Timestamp>| at.map(|at| at.to_string());
    json!({
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "description": key.description,
        "user": key.owner.user(),
        "client_id": key.owner.client(),
        "scopes": key.scope.iter().collect::<Vec<_>>(),
        "audiences": key.audiences,
        "allowed_ips": key.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "rate": {"limit": key.rate.limit, "window_seconds": key.rate.window.as_secs()},
        "exchange": key.exchange,
        "live": key.is_live(now),
        "created_at": key.created_at.to_string(),
        "expires_at": key.expires_at.to_string(),
        "last_used_at": at(key.last_used_at),
        "last_used_ip": key.last_used_ip,
        "usage_count": key.usage_count,
        "revoked_at": at(key.revoked_at),
        "replaced_by": key.replaced_by,
        "grace_until": at(key.grace_until),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::RingKey;
    use crate::keys::Peppers;
    use crate::model::ClientId;

    fn make(wanted: &Value) -> Result<ApiKey, ApiKeyError> {
        let pepper = RingKey { id: 1, secret: Secret::new(vec![9; 32]) };
        let keys = ApiKeys::new(Peppers::new(vec![pepper]));
        let maker = Maker {
            keys: &keys,
            tenant: &TenantUid::stored("acme"),
            entropy: &crate::base::SystemEntropy,
            now: Timestamp::from_seconds(1_800_000_000),
        };
        let bounds = Bounds {
            scope: Scope::parse("openid api_keys:manage read write").unwrap(),
            audiences: vec!["https://api.example".into(), "https://files.example".into()],
        };
        let wanted = serde_json::from_value(wanted.clone()).unwrap();
        let owner = Owner::Client(ClientId::new("app"));
        maker.make(&owner, &bounds, &wanted).map(|(new, _)| new.key)
    }

    fn wanted() -> Value {
        json!({"name": "ci", "scopes": ["read"], "expires_at": "2027-02-01T00:00:00Z"})
    }

    fn with(name: &str, value: Value) -> Result<ApiKey, ApiKeyError> {
        let mut wanted = wanted();
        wanted[name] = value;
        make(&wanted)
    }

    #[test]
    fn a_key_has_no_more_than_its_maker_and_never_what_only_people_have() {
        let key = make(&wanted()).unwrap();
        assert_eq!(key.audiences, ["https://api.example"]);
        assert!(matches!(with("scopes", json!(["admin"])), Err(ApiKeyError::TooWide("scopes"))));
        let foreign = with("audiences", json!(["https://other.example"]));
        assert!(matches!(foreign, Err(ApiKeyError::TooWide("audiences"))));
        for never in NEVER {
            let refused = with("scopes", json!([never]));
            assert!(matches!(refused, Err(ApiKeyError::Invalid("scopes", _))), "{never}");
        }
    }

    #[test]
    fn it_ends_in_the_future_within_a_year() {
        for bad in ["2020-01-01T00:00:00Z", "2029-01-01T00:00:00Z", "2027-02-01", "never", ""] {
            let refused = with("expires_at", json!(bad));
            assert!(matches!(refused, Err(ApiKeyError::Invalid("expires_at", _))), "{bad}");
        }
    }

    #[test]
    fn networks_rates_and_names_are_checked() {
        let key = with("allowed_ips", json!(["192.0.2.7", "2001:db8::5/32"])).unwrap();
        let nets: Vec<String> = key.allowed_ips.iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["192.0.2.7/32", "2001:db8::/32"]);
        assert!(with("allowed_ips", json!(["example.com"])).is_err());
        assert!(with("rate", json!({"limit": 0, "window_seconds": 1})).is_err());
        for bad in ["", "  ", "a\nb", "x".repeat(101).as_str()] {
            assert!(with("name", json!(bad)).is_err(), "{bad:?}");
        }
    }
}
