use async_trait::async_trait;

use super::MemoryTenant;
use super::rows::{KeyRow, Rows};
use super::state::Concerned;
use crate::base::Timestamp;
use crate::model::audit::Action;
use crate::model::client::SigningAlg;
use crate::model::key::{KeyState, SigningKeyRecord};
use crate::model::{Audit, RevocationKey};
use crate::storage::{AddKey, Change, Result, RotateKey, SigningKeys, horizon};

#[async_trait]
impl SigningKeys for MemoryTenant {
    async fn list_keys(&self) -> Result<Vec<SigningKeyRecord>> {
        Ok(self.read(|rows| {
            let mut keys: Vec<_> = rows.keys.values().map(|row| row.key.clone()).collect();
            keys.sort_by(|a, b| (b.created_at, &b.kid).cmp(&(a.created_at, &a.kid)));
            keys
        }))
    }

    async fn add_first_key(&self, key: &SigningKeyRecord, audit: &Audit) -> Result<AddKey> {
        Ok(self.change(|rows, change| {
            if let Some(first) = current(rows, key.alg).min_by_key(|key| key.created_at) {
                return AddKey::Exists(Box::new(first.clone()));
            }
            let of = Concerned::resource("key", &key.kid);
            change.record(Action::KeyCreated, key.created_at, audit, of);
            change.hint();
            insert(rows, key);
            AddKey::Added
        }))
    }

    async fn rotate_key(
        &self,
        key: &SigningKeyRecord,
        retire_at: Timestamp,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateKey> {
        Ok(self.change(|rows, change| {
            let is_pending =
                |k: &SigningKeyRecord| k.state == KeyState::Pending && now < k.activates_at;
            if current(rows, key.alg).any(is_pending) {
                return RotateKey::AlreadyPending;
            }
            if current(rows, key.alg).next().is_none() {
                return RotateKey::NoActiveKey(key.alg);
            }
            for row in rows.keys.values_mut().filter(|row| is_current(&row.key, key.alg)) {
                row.key.state = KeyState::Retiring;
                row.key.expires_at = Some(retire_at);
                row.delete_at = Some(retire_at);
            }
            change.record(Action::KeyRotated, now, audit, Concerned::resource("key", &key.kid));
            change.hint();
            insert(rows, key);
            RotateKey::Rotated
        }))
    }

    async fn compromise_key(&self, kid: &str, change: &Change<'_>) -> Result<bool> {
        Ok(self.change(|rows, commit| {
            let Some(row) = rows.keys.get_mut(kid) else { return false };
            if row.key.state == KeyState::Compromised {
                return true;
            }
            row.key.state = KeyState::Compromised;
            row.delete_at = Some(horizon::compromised_key(change.now));
            commit.revoke(RevocationKey::Kid(kid.to_owned()), change.not_after, change.now);
            let of = Concerned::resource("key", kid);
            commit.record(Action::KeyCompromised, change.now, change.audit, of);
            true
        }))
    }
}

/// The keys of `alg` that sign, or will.
fn current(rows: &Rows, alg: SigningAlg) -> impl Iterator<Item = &SigningKeyRecord> {
    rows.keys.values().map(|row| &row.key).filter(move |key| is_current(key, alg))
}

fn is_current(key: &SigningKeyRecord, alg: SigningAlg) -> bool {
    key.alg == alg && matches!(key.state, KeyState::Active | KeyState::Pending)
}

fn insert(rows: &mut Rows, key: &SigningKeyRecord) {
    let row = KeyRow { key: key.clone(), delete_at: key.expires_at };
    rows.keys.insert(key.kid.clone(), row);
}
