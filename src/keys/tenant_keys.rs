//! The signing keys of one tenant at run time.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::{error, info, warn};

use super::pair::{self, BadKey, Pair};
use super::set::{Key, KeyInfo, KeySet};
use super::{OpenError, Ring, Signer, Verifier};
use crate::base::{Entropy, Secret, Timestamp};
use crate::model::client::SigningAlg;
use crate::model::key::{KeyState, SigningKeyRecord};
use crate::model::{Audit, TenantUid};
use crate::storage::{Change, Result, RotateKey, StoreError, TenantHandle};

/// After that long the keys are read again, whether or not anything hinted at a change.
pub const RELOAD: Duration = Duration::from_secs(30);
/// … and by a request itself, should the background have failed to.
const RELOAD_INLINE: Duration = Duration::from_mins(1);
/// How often an unknown `kid` makes us look whether another node has made a key.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a tenant wants of its keys.
#[derive(Debug, Clone)]
pub struct KeyPolicy {
    /// The algorithms that it signs with; the key set has a key for each.
    pub algs: Vec<SigningAlg>,
    /// Size of RSA keys, in bits.
    pub rsa_bits: u16,
    /// The longest life of a token that a key can have signed.
    pub longest_token: Duration,
    /// How much longer a replaced key stays published.
    pub grace: Duration,
}

/// The signing keys of one tenant: made at first use, cached, sealed at rest for this tenant alone.
pub struct TenantKeys {
    tenant: TenantUid,
    store: TenantHandle,
    ring: Arc<Ring>,
    entropy: Arc<dyn Entropy>,
    policy: KeyPolicy,
    current: RwLock<Option<Loaded>>,
    /// Held while a key is made: of many requests that find none, one makes it.
    making: Mutex<()>,
}

#[derive(Clone)]
struct Loaded {
    set: Arc<KeySet>,
    at: Timestamp,
}

impl TenantKeys {
    /// The keys of `tenant`; nothing is read or made yet.
    pub fn new(
        tenant: TenantUid,
        store: TenantHandle,
        ring: Arc<Ring>,
        entropy: Arc<dyn Entropy>,
        policy: KeyPolicy,
    ) -> Self {
        let (current, making) = (RwLock::default(), Mutex::default());
        Self { tenant, store, ring, entropy, policy, current, making }
    }

    /// The key that signs with `alg` at `now`; made if there is none.
    pub async fn signer(&self, alg: SigningAlg, now: Timestamp) -> Result<Arc<Signer>> {
        let set = self.current(now).await?;
        if let Some(key) = set.active(alg, now) {
            return self.unsealed(key);
        }
        let set = self.make_first(alg, now).await?;
        let key = set.active(alg, now).ok_or_else(|| {
            StoreError::unavailable(format!("tenant {} has no usable {alg:?} key", self.tenant))
        })?;
        self.unsealed(key)
    }

    /// The key of this `kid`; none when unknown, retired past its end, or compromised.
    pub async fn verifier(&self, kid: &str, now: Timestamp) -> Result<Option<Arc<Verifier>>> {
        let mut set = self.current(now).await?;
        if set.get(kid).is_none() && self.age(now).is_none_or(|age| age >= LOOK_AGAIN) {
            set = self.reload(now).await?;
        }
        Ok(set.verifying(kid, now).map(|key| Arc::clone(&key.verifier)))
    }

    /// The key set (RFC 7517 §5) as JSON: public members only, a key for each algorithm in use.
    pub async fn jwks(&self, now: Timestamp) -> Result<Arc<str>> {
        let mut set = self.current(now).await?;
        for alg in &self.policy.algs {
            if set.active(*alg, now).is_none() {
                set = self.make_first(*alg, now).await?;
            }
        }
        Ok(set.jwks(now))
    }

    /// Makes a new key of `alg`. It is published at once and signs from `now + lead` on; its
    /// predecessor stays published until the last token that it can have signed has ended, and the
    /// grace.
    pub async fn rotate(
        &self,
        alg: SigningAlg,
        lead: Duration,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateKey> {
        let activates_at = now.plus(lead);
        let record = self.make(alg, activates_at, now).await?;
        let retire_at = activates_at.plus(self.policy.longest_token).plus(self.policy.grace);
        let outcome = self.store.rotate_key(&record, retire_at, now, audit).await?;
        self.reload(now).await?;
        Ok(outcome)
    }

    /// Declares a key compromised: nothing it signed is believed any more, on any node. When it was
    /// the one that signs, a new key takes over first. Whether there was such a key.
    pub async fn compromise(&self, kid: &str, now: Timestamp, audit: &Audit) -> Result<bool> {
        let set = self.reload(now).await?;
        let Some(key) = set.get(kid) else { return Ok(false) };
        let alg = key.record.alg;
        if set.active(alg, now).is_some_and(|active| active.record.kid == kid) {
            // A pending key would do as well: it takes over when none that has begun is left.
            let _ = self.rotate(alg, Duration::ZERO, now, audit).await?;
        }
        let not_after = now.plus(self.policy.longest_token).plus(Duration::from_mins(1));
        let there = self.store.compromise_key(kid, &Change { now, not_after, audit }).await?;
        self.reload(now).await?;
        Ok(there)
    }

    /// The keys, newest first, expired ones left out.
    pub async fn list(&self, now: Timestamp) -> Result<Vec<KeyInfo>> {
        Ok(self.reload(now).await?.list(now))
    }

    /// Reads the keys again when what we have is at least `age` old; never reads them for a tenant
    /// that nobody has asked for.
    pub async fn refresh(&self, age: Duration, now: Timestamp) -> Result<()> {
        if self.age(now).is_some_and(|have| have >= age) {
            self.reload(now).await?;
        }
        Ok(())
    }

    /// How long ago the keys were read.
    fn age(&self, now: Timestamp) -> Option<Duration> {
        Some(now.since(self.loaded()?.at))
    }

    fn loaded(&self) -> Option<Loaded> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn current(&self, now: Timestamp) -> Result<Arc<KeySet>> {
        match self.loaded() {
            Some(loaded) if now.since(loaded.at) < RELOAD_INLINE => Ok(loaded.set),
            // Keys seldom change, and compromise travels in the revocation log: with the store
            // away, what we know goes on verifying.
            Some(loaded) => match self.reload(now).await {
                Ok(set) => Ok(set),
                Err(error) => {
                    warn!(tenant = %self.tenant, error = %error, "cannot read signing keys");
                    Ok(loaded.set)
                }
            },
            None => self.reload(now).await,
        }
    }

    async fn reload(&self, now: Timestamp) -> Result<Arc<KeySet>> {
        let records = self.store.list_keys().await?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let set = Arc::new(KeySet::new(records, current.as_ref().map(|old| &*old.set)));
        *current = Some(Loaded { set: Arc::clone(&set), at: now });
        Ok(set)
    }

    /// Makes the first key of `alg`, unless someone else has by now.
    async fn make_first(&self, alg: SigningAlg, now: Timestamp) -> Result<Arc<KeySet>> {
        let _one_at_a_time = self.making.lock().await;
        let set = self.reload(now).await?;
        if set.active(alg, now).is_some() {
            return Ok(set);
        }
        let record = self.make(alg, now, now).await?;
        let audit = Audit { actor: Some("server"), ..Audit::default() };
        // When another node was first, its key is the one that we read.
        let _ = self.store.add_first_key(&record, &audit).await?;
        info!(tenant = %self.tenant, alg = alg.as_str(), "a signing key was made");
        self.reload(now).await
    }

    async fn make(
        &self,
        alg: SigningAlg,
        activates_at: Timestamp,
        now: Timestamp,
    ) -> Result<SigningKeyRecord> {
        let bits = self.policy.rsa_bits;
        let private = match alg {
            SigningAlg::RS256 | SigningAlg::PS256 => generate_aside(alg, bits).await?,
            SigningAlg::ES256 | SigningAlg::EdDSA => pair::generate(alg, bits),
        }
        .map_err(StoreError::unavailable)?;
        let jwk = Pair::read(alg, private.reveal()).and_then(|pair| pair.public_jwk());
        let jwk = jwk.map_err(StoreError::unavailable)?;
        let kid = jwk.common.key_id.clone().ok_or_else(|| StoreError::unavailable(BadKey))?;
        Ok(SigningKeyRecord {
            sealed: self.ring.seal(&self.place(&kid), private.reveal(), &*self.entropy),
            ring_kid: self.ring.newest(),
            public_jwk: serde_json::to_value(jwk).map_err(StoreError::unavailable)?,
            state: if activates_at > now { KeyState::Pending } else { KeyState::Active },
            created_at: now,
            expires_at: None,
            kid,
            alg,
            activates_at,
        })
    }

    fn unsealed(&self, key: &Key) -> Result<Arc<Signer>> {
        if let Some(signer) = key.signer.get() {
            return Ok(Arc::clone(signer));
        }
        let record = &key.record;
        let private = self.ring.open(&self.place(&record.kid), &record.sealed).map_err(|why| {
            if why == OpenError::Forged {
                error!(tenant = %self.tenant, kid = %record.kid, "a signing key does not unseal");
            }
            StoreError::unavailable(why)
        })?;
        let private = Secret::new(private);
        let signer = Signer::new(&record.kid, record.alg, private.reveal())
            .map_err(StoreError::unavailable)?;
        Ok(Arc::clone(key.signer.get_or_init(|| Arc::new(signer))))
    }

    /// A sealed key opens for this tenant and this `kid` alone.
    fn place<'a>(&'a self, kid: &'a str) -> [&'a [u8]; 3] {
        [b"signing key", self.tenant.as_str().as_bytes(), kid.as_bytes()]
    }
}

/// Makes a key off the runtime's threads: an RSA key takes a tenth of a second and more.
#[expect(clippy::disallowed_methods, reason = "one key per tenant and rotation: no pool needed")]
async fn generate_aside(
    alg: SigningAlg,
    bits: u16,
) -> Result<std::result::Result<Secret<Vec<u8>>, BadKey>> {
    let made = tokio::task::spawn_blocking(move || pair::generate(alg, bits)).await;
    made.map_err(StoreError::unavailable)
}
