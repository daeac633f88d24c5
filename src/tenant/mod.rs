//! One tenant at run time, and the registry that finds it.
//!
//! Owns what a node keeps about a tenant in memory: its settings, its clients (of the configuration
//! and made at run time) with their state, its signing keys, the tokens it has verified. None of it
//! is asked for on the way of a request as long as it is fresh.

mod clients;
mod registry;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verified;

use std::sync::Arc;
use std::time::Duration;

use clients::Directory;
pub use registry::{Registry, TenantFault};
pub use verified::{VerifiedToken, VerifiedTokens};

use crate::base::{Entropy, Timestamp};
use crate::config::settings;
use crate::keys::{KeyPolicy, Ring, TenantKeys};
use crate::model::tenant::TenantRecord;
use crate::model::{Client, ClientId, TenantSlug, TenantUid};
use crate::storage::{Result, TenantHandle};

/// One tenant at run time.
pub struct Tenant {
    /// Its identity.
    pub uid: TenantUid,
    /// Its label.
    pub slug: TenantSlug,
    /// What the configuration says about it.
    pub settings: Arc<settings::Tenant>,
    /// Its part of the store.
    pub store: TenantHandle,
    /// Its signing keys.
    pub keys: TenantKeys,
    /// Access tokens whose signature was checked before.
    pub verified: VerifiedTokens,
    clients: Directory,
}

impl Tenant {
    /// A tenant as storage knows it, with what the configuration says about it. No I/O.
    pub fn new(
        record: &TenantRecord,
        settings: Arc<settings::Tenant>,
        store: TenantHandle,
        ring: Arc<Ring>,
        entropy: Arc<dyn Entropy>,
        verified: VerifiedTokens,
    ) -> Self {
        let policy = key_policy(&settings);
        Self {
            uid: record.uid.clone(),
            slug: record.slug.clone(),
            keys: TenantKeys::new(record.uid.clone(), store.clone(), ring, entropy, policy),
            clients: Directory::new(&settings.clients),
            settings,
            store,
            verified,
        }
    }

    /// The issuer, byte for byte as in tokens (RFC 8414 §2).
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// The client of this id, of the configuration or made at run time. `enabled` says whether it
    /// is now: a change made elsewhere is seen within a second or so.
    pub async fn client(&self, id: &ClientId) -> Result<Option<Arc<Client>>> {
        self.clients.find(id, &self.store).await
    }

    /// Reads client states and keys again. `idle` includes what nobody asked for lately.
    async fn refresh(&self, idle: bool, age: Duration, now: Timestamp) -> Result<()> {
        if self.clients.in_use() || idle {
            self.clients.refresh(&self.store).await?;
        }
        self.keys.refresh(age, now).await
    }
}

fn key_policy(settings: &settings::Tenant) -> KeyPolicy {
    let signing = settings.signing;
    let mut algs = vec![signing.access_token, signing.id_token];
    algs.extend(settings.clients.iter().filter_map(|client| client.id_token_alg));
    algs.sort_unstable();
    algs.dedup();
    // Run-time clients may have longer lives than the configuration's: an hour is the least.
    let longest = settings.longest_access_token().max(settings.lifetimes.id_token);
    let longest = longest.max(Duration::from_hours(1));
    KeyPolicy { algs, rsa_bits: signing.rsa_bits, longest_token: longest, grace: signing.grace }
}
