//! The peppers of API keys (`server.api_key_peppers`): what storage has of a key is an HMAC under
//! one of them, so that nobody who reads storage can make or try keys.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::base::{Secret, Timestamp};
use crate::config::settings::RingKey;
use crate::model::TenantUid;
use crate::model::api_key::{ApiKeyId, PepperedDigest};
use crate::storage::{self, PepperCheck, StoreError};

/// The node must not start.
#[derive(Debug, Error)]
pub enum PepperFault {
    /// The store was written under another secret of the same id.
    #[error(
        "server.api_key_peppers: the pepper with id {0} is not the one this storage was written under"
    )]
    Mismatch(u8),
    /// New keys would be dead at once.
    #[error(
        "server.api_key_peppers: the first pepper, {0}, is retired; put one with a new id before it"
    )]
    FirstIsRetired(u8),
    /// There are keys, and nothing to check them by.
    #[error(
        "server.api_key_peppers is missing, and this storage has API keys under pepper {0}: name \
         the file that holds it"
    )]
    Missing(u8),
    /// The store could not say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a secret compares to what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Hashed {
    /// It is the one.
    Right,
    /// It is another, or what is stored is under a retired pepper.
    Wrong,
    /// Stored under a pepper that this node lacks and that is in force: another node may know.
    UnknownPepper(u8),
}

/// The peppers, newest first.
#[derive(Default)]
pub struct Peppers {
    all: Vec<Pepper>,
    retired: RwLock<HashSet<u8>>,
}

struct Pepper {
    id: u8,
    key: hmac::Key,
    check: [u8; 32],
}

impl Peppers {
    /// Peppers, newest first; none at all means that there are no API keys here.
    pub fn new(keys: Vec<RingKey>) -> Self {
        let all = keys.into_iter().map(|RingKey { id, secret }| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal());
            // No key is ever hashed like this: a tenant's name is the first of four parts there.
            Pepper { id, check: mac(&key, &[b"pmp-auth api key pepper check"]), key }
        });
        Self { all: all.collect(), retired: RwLock::default() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The id under which new keys are stored.
    pub fn newest(&self) -> Option<u8> {
        self.all.first().map(|pepper| pepper.id)
    }

    /// Whether what is stored under `digest` should be stored under the newest pepper instead: only
    /// from a lower id to a higher one, so that nodes whose lists differ never undo one another.
    pub fn is_outdated(&self, digest: &PepperedDigest) -> bool {
        self.newest().is_some_and(|newest| digest.pepper < newest)
    }

    /// The digest of a key's secret under the newest pepper.
    pub fn hash(
        &self,
        tenant: &TenantUid,
        id: ApiKeyId,
        secret: &Secret<[u8; 32]>,
    ) -> Option<PepperedDigest> {
        let pepper = self.all.first()?;
        Some(PepperedDigest { pepper: pepper.id, mac: pepper.mac(tenant, id, secret) })
    }

    /// Compares in constant time. Nothing stored (an unknown key) costs the same HMAC.
    pub fn compare(
        &self,
        tenant: &TenantUid,
        id: ApiKeyId,
        secret: &Secret<[u8; 32]>,
        stored: Option<&PepperedDigest>,
    ) -> Hashed {
        let nobody = PepperedDigest { pepper: self.newest().unwrap_or(0), mac: [0; 32] };
        let against = stored.unwrap_or(&nobody);
        let known = self.all.iter().find(|pepper| pepper.id == against.pepper);
        let computed = known.or(self.all.first()).map(|pepper| pepper.mac(tenant, id, secret));
        let same = computed.is_some_and(|mac| bool::from(mac.ct_eq(&against.mac)));
        match (stored, known) {
            (Some(stored), _) if self.is_retired(stored.pepper) => Hashed::Wrong,
            (Some(stored), None) => Hashed::UnknownPepper(stored.pepper),
            (Some(_), Some(_)) if same => Hashed::Right,
            _ => Hashed::Wrong,
        }
    }

    /// Whether keys under this pepper are refused.
    pub fn is_retired(&self, id: u8) -> bool {
        self.retired.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Records or compares the check value of every pepper, and reads which are retired. Returns the
    /// ids that storage has in force and this node lacks: what needs one of them is 503 here.
    pub async fn check(
        &self,
        store: &(impl storage::Peppers + ?Sized),
        now: Timestamp,
    ) -> Result<Vec<u8>, PepperFault> {
        for pepper in &self.all {
            if store.check_pepper(pepper.id, &pepper.check, now).await? == PepperCheck::Mismatch {
                return Err(PepperFault::Mismatch(pepper.id));
            }
        }
        let in_force = self.refresh(store).await?;
        match self.newest() {
            Some(newest) if self.is_retired(newest) => Err(PepperFault::FirstIsRetired(newest)),
            None if !in_force.is_empty() => Err(PepperFault::Missing(in_force[0])),
            _ => {
                let known = |id: &u8| self.all.iter().any(|pepper| pepper.id == *id);
                Ok(in_force.into_iter().filter(|id| !known(id)).collect())
            }
        }
    }

    /// Reads again which peppers are retired; returns those in force.
    pub async fn refresh(
        &self,
        store: &(impl storage::Peppers + ?Sized),
    ) -> Result<Vec<u8>, StoreError> {
        let known = store.known_peppers().await?;
        let retired = known.iter().filter(|one| one.retired_at.is_some()).map(|one| one.id);
        *self.retired.write().unwrap_or_else(PoisonError::into_inner) = retired.collect();
        Ok(known.iter().filter(|one| one.retired_at.is_none()).map(|one| one.id).collect())
    }
}

impl Pepper {
    fn mac(&self, tenant: &TenantUid, id: ApiKeyId, secret: &Secret<[u8; 32]>) -> [u8; 32] {
        mac(&self.key, &[b"api_key", tenant.as_str().as_bytes(), id.0.as_bytes(), secret.reveal()])
    }
}

/// HMAC-SHA-256 of parts, each with its length before it.
fn mac(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn peppers(all: &[(u8, u8)]) -> Peppers {
        let key = |&(id, byte): &(u8, u8)| RingKey { id, secret: Secret::new(vec![byte; 32]) };
        Peppers::new(all.iter().map(key).collect())
    }

    const ID: ApiKeyId = ApiKeyId(Uuid::from_u128(7));

    fn secret(byte: u8) -> Secret<[u8; 32]> {
        Secret::new([byte; 32])
    }

    #[test]
    fn tenant_id_secret_and_pepper_all_count() {
        let (acme, other) = (TenantUid::stored("acme"), TenantUid::stored("other"));
        let all = peppers(&[(2, 5), (1, 4)]);
        let stored = all.hash(&acme, ID, &secret(1)).unwrap();
        assert_eq!(stored.pepper, 2);
        let compare = |peppers: &Peppers, tenant, id, byte| {
            peppers.compare(tenant, id, &secret(byte), Some(&stored))
        };
        assert_eq!(compare(&all, &acme, ID, 1), Hashed::Right);
        assert_eq!(compare(&all, &other, ID, 1), Hashed::Wrong);
        assert_eq!(compare(&all, &acme, ApiKeyId(Uuid::from_u128(8)), 1), Hashed::Wrong);
        assert_eq!(compare(&all, &acme, ID, 2), Hashed::Wrong);
        assert_eq!(compare(&peppers(&[(2, 6)]), &acme, ID, 1), Hashed::Wrong);
        assert_eq!(compare(&peppers(&[(1, 4)]), &acme, ID, 1), Hashed::UnknownPepper(2));
        assert_eq!(compare(&peppers(&[(3, 1), (2, 5)]), &acme, ID, 1), Hashed::Right);
        assert_eq!(all.compare(&acme, ID, &secret(1), None), Hashed::Wrong);
        assert_eq!(Peppers::default().compare(&acme, ID, &secret(1), None), Hashed::Wrong);
    }

    #[test]
    fn only_what_is_under_a_lower_id_is_outdated() {
        let under = |pepper| PepperedDigest { pepper, mac: [0; 32] };
        let all = peppers(&[(3, 5), (4, 4)]);
        assert!(all.is_outdated(&under(1)));
        assert!(!all.is_outdated(&under(3)) && !all.is_outdated(&under(4)));
    }
}
