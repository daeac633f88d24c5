//! API keys: `pak_`, the key's id and a 256-bit secret, spelt like every credential of ours. What is
//! stored is an HMAC under a pepper (`keys/peppers.rs`).
//!
//! A key that was checked before costs a hash and no query: its row is remembered for a while, and
//! read again as soon as the revocation log says that something around it changed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use moka::sync::Cache;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::base::{CredentialKind, Entropy, Secret, Timestamp};
use crate::keys::{Hashed, Peppers};
use crate::limits::{TooOften, Windows};
use crate::model::api_key::{ApiKey, ApiKeyId, Owner, PepperedDigest};
use crate::model::token::AccessClaims;
use crate::model::{Client, ClientId, TenantUid};
use crate::revocation::{KeyStanding, View};
use crate::storage::{ApiKeyUse, Result, Storage, StoreError};
use crate::tenant::Tenant;

const ID_BYTES: usize = 16;
const BYTES: usize = ID_BYTES + 32;
/// As much of a key as lists show: `pak_` and eight letters, which are of its id.
const PREFIX_LETTERS: usize = 12;

const REMEMBERED: u64 = 20_000;
/// How long a row is believed: what no entry of the log tells (a rotation) is known after that.
pub const BELIEVED: Duration = Duration::from_secs(30);
/// How often uses are written.
const FLUSH: Duration = Duration::from_mins(1);
/// How often it is looked whether a pepper was retired.
const LOOK: Duration = Duration::from_secs(5);
/// Keys whose uses wait to be written; beyond that, uses of further keys are not counted.
const MOST_USES: usize = 100_000;

/// A new key: the text, which is shown once, and what is kept.
#[derive(Debug)]
pub struct Drawn {
    /// Its name.
    pub id: ApiKeyId,
    /// The key.
    pub text: Secret<String>,
    /// Its first letters.
    pub prefix: String,
    /// What storage gets.
    pub digest: PepperedDigest,
}

/// Why a key is refused: for the log, never for whoever presented it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyRefusal {
    /// No spelling of a key.
    #[error("malformed API key")]
    Malformed,
    /// No such key in this tenant.
    #[error("unknown API key")]
    Unknown,
    /// Its secret is another, or its pepper is retired.
    #[error("wrong API key")]
    Wrong,
    /// It expired, was revoked, or was replaced and its grace is over.
    #[error("the API key has ended")]
    Ended,
    /// Its owner, or the client that it names, is disabled or gone.
    #[error("the owner of the API key is not live")]
    OwnerNotLive,
    /// It is not to be used from there.
    #[error("the API key is not allowed from this address")]
    Address,
}

/// What a presented key is. An error means that we cannot know.
#[derive(Debug, Clone)]
#[must_use]
pub enum Checked {
    /// It is live, and this use of it is counted.
    Live(Arc<ApiKey>),
    /// It opens nothing.
    Refused(KeyRefusal),
    /// It is live, and used more often than it may be.
    TooOften(TooOften),
}

/// What a node knows of API keys beside their rows.
#[derive(Clone)]
struct Known {
    key: Arc<ApiKey>,
    digest: PepperedDigest,
    read_at: Timestamp,
}

/// Makes and checks API keys.
pub struct ApiKeys {
    peppers: Peppers,
    known: Cache<[u8; 32], Known>,
    windows: Windows,
    uses: Mutex<HashMap<TenantUid, HashMap<ApiKeyId, ApiKeyUse>>>,
}

impl ApiKeys {
    /// Keys under these peppers.
    pub fn new(peppers: Peppers) -> Arc<Self> {
        Arc::new(Self {
            peppers,
            known: Cache::builder().max_capacity(REMEMBERED).time_to_idle(BELIEVED).build(),
            windows: Windows::default(),
            uses: Mutex::default(),
        })
    }

    /// The peppers.
    pub fn peppers(&self) -> &Peppers {
        &self.peppers
    }

    /// Draws a key; none without a pepper.
    pub fn draw(&self, tenant: &TenantUid, entropy: &dyn Entropy) -> Option<Drawn> {
        let id = ApiKeyId(entropy.uuid());
        let secret = Secret::new(entropy.bytes::<32>());
        let digest = self.peppers.hash(tenant, id, &secret)?;
        let payload = Secret::new([id.0.as_bytes().as_slice(), secret.reveal()].concat());
        let text = CredentialKind::ApiKey.spell(payload.reveal());
        let prefix = text.reveal().chars().take(PREFIX_LETTERS).collect();
        Some(Drawn { id, text, prefix, digest })
    }

    /// Whether `text` is a live key of `tenant` that may be used from `from` at `now`.
    pub async fn check(
        &self,
        tenant: &Arc<Tenant>,
        view: &View,
        text: &str,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Checked> {
        let Some((id, secret)) = parse(text) else {
            return Ok(Checked::Refused(KeyRefusal::Malformed));
        };
        let name = name(&tenant.uid, text);
        let known = match self.remembered(tenant, view, &name, now) {
            Ok(Some(known)) => known,
            Ok(None) => match self.read(tenant, view, (id, &secret), now).await? {
                Ok(known) => {
                    self.known.insert(name, known.clone());
                    known
                }
                Err(refusal) => {
                    self.known.invalidate(&name);
                    return Ok(Checked::Refused(refusal));
                }
            },
            Err(refusal) => return Ok(Checked::Refused(refusal)),
        };
        if let Some(refusal) = self.refusal(tenant, &known.key, from, now).await? {
            return Ok(Checked::Refused(refusal));
        }
        let rate = (known.key.rate.limit, known.key.rate.window);
        if let Err(often) = self.windows.check(&tenant.uid, id.0.as_u128(), rate, now) {
            return Ok(Checked::TooOften(often));
        }
        self.note(&tenant.uid, id, from, now);
        Ok(Checked::Live(known.key))
    }

    /// The row as it was read before, if it still says how things are.
    fn remembered(
        &self,
        tenant: &Tenant,
        view: &View,
        name: &[u8; 32],
        now: Timestamp,
    ) -> std::result::Result<Option<Known>, KeyRefusal> {
        let Some(known) = self.known.get(name) else { return Ok(None) };
        // It may have moved to another pepper since.
        if self.peppers.is_retired(known.digest.pepper) {
            return Ok(None);
        }
        Ok(match view.key_standing(tenant, &known.key, known.read_at, now) {
            KeyStanding::Revoked => return Err(KeyRefusal::Ended),
            KeyStanding::Unchanged if now < known.read_at.plus(BELIEVED) => Some(known),
            KeyStanding::Unchanged | KeyStanding::ReadAgain => None,
        })
    }

    /// Reads the row and compares the secret.
    async fn read(
        &self,
        tenant: &Arc<Tenant>,
        view: &View,
        (id, secret): (ApiKeyId, &Secret<[u8; 32]>),
        now: Timestamp,
    ) -> Result<std::result::Result<Known, KeyRefusal>> {
        let record = tenant.store.find_api_key(id).await?;
        let stored = record.as_ref().map(|record| &record.digest);
        match self.peppers.compare(&tenant.uid, id, secret, stored) {
            Hashed::UnknownPepper(pepper) => {
                warn!(pepper, "an API key is stored under a pepper that this node lacks");
                return Err(StoreError::unavailable("a pepper that is not on this node"));
            }
            Hashed::Wrong if record.is_none() => return Ok(Err(KeyRefusal::Unknown)),
            Hashed::Wrong => return Ok(Err(KeyRefusal::Wrong)),
            Hashed::Right => {}
        }
        let Some(record) = record else { return Ok(Err(KeyRefusal::Unknown)) };
        if !record.owner_live {
            return Ok(Err(KeyRefusal::OwnerNotLive));
        }
        // A store that lost its tail may not know yet what this node does.
        if view.key_standing(tenant, &record.key, now, now) == KeyStanding::Revoked
            || !record.key.is_live(now)
        {
            return Ok(Err(KeyRefusal::Ended));
        }
        if self.peppers.is_outdated(&record.digest) {
            self.rehash(tenant, id, secret, record.digest);
        }
        let (key, digest) = (Arc::new(record.key), record.digest);
        Ok(Ok(Known { key, digest, read_at: now }))
    }

    /// What a use can be refused for whose row is good.
    async fn refusal(
        &self,
        tenant: &Tenant,
        key: &ApiKey,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<KeyRefusal>> {
        if !key.is_live(now) {
            return Ok(Some(KeyRefusal::Ended));
        }
        if let Some(client) = key.owner.client() {
            let client = tenant.client(client).await?.filter(|client| client.enabled);
            if client.is_none_or(|client| !still_may(tenant, &client, key)) {
                return Ok(Some(KeyRefusal::OwnerNotLive));
            }
        }
        let from = from.map(|ip| ip.to_canonical());
        let inside = |ip: IpAddr| key.allowed_ips.iter().any(|net| net.contains(&ip));
        if !key.allowed_ips.is_empty() && !from.is_some_and(inside) {
            return Ok(Some(KeyRefusal::Address));
        }
        Ok(None)
    }

    /// Puts the key under the newest pepper, beside the request: whoever else does so, too, finds
    /// that it is done, and nothing is ever put under an older one.
    fn rehash(
        &self,
        tenant: &Arc<Tenant>,
        id: ApiKeyId,
        secret: &Secret<[u8; 32]>,
        from: PepperedDigest,
    ) {
        let Some(to) = self.peppers.hash(&tenant.uid, id, secret) else { return };
        let tenant = Arc::clone(tenant);
        tokio::spawn(async move {
            match tenant.store.rehash_api_key(id, &from, &to).await {
                Ok(done) => debug!(key = %id, done, "an API key moves to the newest pepper"),
                Err(error) => debug!(key = %id, %error, "an API key stays under its old pepper"),
            }
        });
    }

    fn note(&self, tenant: &TenantUid, id: ApiKeyId, from: Option<IpAddr>, now: Timestamp) {
        let one = ApiKeyUse { id, count: 1, last_at: now, last_ip: from };
        self.add(tenant, &one);
    }

    fn add(&self, tenant: &TenantUid, used: &ApiKeyUse) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if !uses.contains_key(tenant) {
            uses.insert(tenant.clone(), HashMap::new());
        }
        let Some(uses) = uses.get_mut(tenant) else { return };
        if uses.len() >= MOST_USES && !uses.contains_key(&used.id) {
            return;
        }
        let sum = uses.entry(used.id).or_insert_with(|| ApiKeyUse { count: 0, ..used.clone() });
        sum.count = sum.count.saturating_add(used.count);
        if sum.last_at <= used.last_at {
            (sum.last_at, sum.last_ip) = (used.last_at, used.last_ip);
        }
    }

    /// Writes the uses since the last time, all keys of a tenant in one statement; what cannot be
    /// written waits for the next time.
    pub async fn flush(&self, store: &dyn Storage) {
        let all = std::mem::take(&mut *self.uses.lock().unwrap_or_else(PoisonError::into_inner));
        for (tenant, uses) in all {
            let uses: Vec<ApiKeyUse> = uses.into_values().collect();
            if let Err(error) = store.tenant(&tenant).note_api_key_uses(&uses).await {
                warn!(%error, keys = uses.len(), "uses of API keys cannot be written yet");
                for used in &uses {
                    self.add(&tenant, used);
                }
            }
        }
    }

    /// Flushes about once a minute, and looks which peppers are retired, until `stop`.
    pub async fn run(self: Arc<Self>, store: Arc<dyn Storage>, stop: CancellationToken) {
        let rounds = FLUSH.as_secs() / LOOK.as_secs();
        for round in 1_u64.. {
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
            if !self.peppers.is_empty()
                && let Err(error) = self.peppers.refresh(&*store).await
            {
                debug!(%error, "cannot read which peppers are retired");
            }
            if round.is_multiple_of(rounds) {
                self.flush(&*store).await;
            }
        }
    }
}

/// What a live key says, in the words of an access token: its id is `jti` and `gid`.
pub fn claims(key: &ApiKey) -> AccessClaims {
    let nobody = || ClientId::new("");
    let subject = match &key.owner {
        Owner::User { user, .. } => user.to_string(),
        Owner::Client(client) => client.to_string(),
    };
    AccessClaims {
        jti: key.id.to_string(),
        client: key.owner.client().cloned().unwrap_or_else(nobody),
        user: key.owner.user(),
        subject,
        audience: key.audiences.clone(),
        scope: key.scope.clone(),
        grant: Some(key.id.as_grant()),
        session: None,
        generation: None,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        issued_at: Timestamp::from_seconds(key.created_at.seconds()),
        expires_at: key.ends_at(),
        status: None,
    }
}

/// Whether `text` is spelt as an API key, checksum and all: for places where none may be.
pub fn is_spelt_as_key(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(text: &str) -> Option<(ApiKeyId, Secret<[u8; 32]>)> {
    let payload = Secret::new(CredentialKind::ApiKey.parse(text, BYTES).ok()?);
    let (id, secret) = payload.reveal().split_at_checked(ID_BYTES)?;
    let id = ApiKeyId(Uuid::from_slice(id).ok()?);
    Some((id, Secret::new(secret.try_into().ok()?)))
}

/// The name under which a key is remembered: a digest, so that no key stays in memory.
fn name(tenant: &TenantUid, text: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(tenant.as_str().as_bytes());
    context.update(b"\0");
    context.update(text.as_bytes());
    let mut name = [0; 32];
    name.copy_from_slice(context.finish().as_ref());
    name
}

/// Whether a client may still ask for all that a key of its was made with: its scopes and resources
/// can have shrunk since.
fn still_may(tenant: &Tenant, client: &Client, key: &ApiKey) -> bool {
    let may =
        |one: &String| *one == tenant.settings.default_audience || client.resources.contains(one);
    key.scope.is_subset_of(&client.scopes) && key.audiences.iter().all(may)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemEntropy;
    use crate::config::settings::RingKey;

    #[test]
    fn a_key_has_one_spelling_and_any_change_is_malformed() {
        let pepper = RingKey { id: 1, secret: Secret::new(vec![9; 32]) };
        let keys = ApiKeys::new(Peppers::new(vec![pepper]));
        let drawn = keys.draw(&TenantUid::stored("acme"), &SystemEntropy).unwrap();
        let text = drawn.text.reveal();
        assert_eq!(parse(text).unwrap().0, drawn.id);
        assert!(text.starts_with(&drawn.prefix) && drawn.prefix.len() == 12);
        assert!(parse(&text[..text.len() - 1]).is_none());
        assert!(parse(&format!("{text}x")).is_none());
        assert!(parse(&text.to_uppercase()).is_none());
        assert!(parse(&text.to_lowercase()).is_none());
        assert!(
            ApiKeys::new(Peppers::default())
                .draw(&TenantUid::stored("acme"), &SystemEntropy)
                .is_none()
        );
    }
}
