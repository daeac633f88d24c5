use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::audit_log::record;
use super::error::unreadable;
use super::row::{Columns, to_json};
use super::{SqliteTenant, Tx, sql};
use crate::base::Timestamp;
use crate::model::audit::AuditRecord;
use crate::model::client::SigningAlg;
use crate::model::key::{KeyState, SigningKeyRecord};
use crate::model::{Action, Audit, Revocation, RevocationKey, TenantUid};
use crate::storage::{AddKey, Change, Result, RotateKey, SigningKeys, horizon};

#[async_trait]
impl SigningKeys for SqliteTenant {
    async fn list_keys(&self) -> Result<Vec<SigningKeyRecord>> {
        let all = sql!(
            "SELECT * FROM encryption_keys WHERE tenant_uid = ?1 AND key_type = 'jwt'
             ORDER BY created_at DESC, key_id DESC",
            &self.tenant,
        );
        self.store.rows(all).await?.iter().map(read).collect()
    }

    async fn add_first_key(&self, key: &SigningKeyRecord, audit: &Audit) -> Result<AddKey> {
        let (tenant, key, audit) = (self.tenant.clone(), key.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let first = sql!(
                        "SELECT * FROM encryption_keys WHERE tenant_uid = ?1 AND key_type = 'jwt'
                       AND algorithm = ?2 AND status IN ('active', 'pending')
                     ORDER BY activated_at, created_at LIMIT 1",
                        &tenant,
                        key.alg.as_str(),
                    );
                    if let Some(row) = tx.row(first).await? {
                        return Ok(AddKey::Exists(Box::new(read(&row)?)));
                    }
                    tx.insert_key(&tenant, &key).await?;
                    let audited = audited(Action::KeyCreated, &key.kid, key.created_at, &audit);
                    tx.audit(&tenant, &audited).await?;
                    tx.hint();
                    Ok(AddKey::Added)
                })
            })
            .await
    }

    async fn rotate_key(
        &self,
        key: &SigningKeyRecord,
        retire_at: Timestamp,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateKey> {
        let (tenant, key, audit) = (self.tenant.clone(), key.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let outcome = tx.succeed_key(&tenant, &key, retire_at, now).await?;
                    if outcome == RotateKey::Rotated {
                        let audited = audited(Action::KeyRotated, &key.kid, now, &audit);
                        tx.audit(&tenant, &audited).await?;
                        tx.hint();
                    }
                    Ok(outcome)
                })
            })
            .await
    }

    async fn compromise_key(&self, kid: &str, change: &Change<'_>) -> Result<bool> {
        let compromise = sql!(
            "UPDATE encryption_keys SET status = 'compromised', is_primary = 0, delete_at = ?3
             WHERE tenant_uid = ?1 AND key_id = ?2 AND key_type = 'jwt' AND status <> 'compromised'",
            &self.tenant, kid, horizon::compromised_key(change.now),
        );
        let known = sql!(
            "SELECT 1 FROM encryption_keys WHERE tenant_uid = ?1 AND key_id = ?2",
            &self.tenant,
            kid,
        );
        let tenant = self.tenant.clone();
        let audited = audited(Action::KeyCompromised, kid, change.now, change.audit);
        let entry = Revocation {
            key: RevocationKey::Kid(kid.to_owned()),
            audience: None,
            not_before: None,
            expires_at: change.not_after,
            at: change.now,
        };
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let known = tx.row(known).await?;
                    if tx.run(compromise).await? == 0 {
                        return Ok(known.is_some());
                    }
                    tx.revoke(&tenant, entry).await?;
                    tx.audit(&tenant, &audited).await?;
                    tx.hint();
                    Ok(true)
                })
            })
            .await
    }
}

fn audited(action: Action, kid: &str, at: Timestamp, audit: &Audit) -> AuditRecord {
    AuditRecord { resource: Some(("key", kid.to_owned())), ..record(action, at, audit) }
}

impl Tx {
    async fn insert_key(&mut self, tenant: &TenantUid, key: &SigningKeyRecord) -> Result<()> {
        self.run(sql!(
            "INSERT INTO encryption_keys (key_id, tenant_uid, key_type, algorithm,
               key_value_encrypted, kek_id, public_key, status, is_primary, created_at,
               activated_at, expires_at, delete_at)
             VALUES (?1, ?2, 'jwt', ?3, ?4, ?5, ?6, ?7, 1, ?8, ?9, ?10, ?10)",
            &key.kid,
            tenant,
            key.alg.as_str(),
            key.sealed.as_slice(),
            key.ring_kid.to_string(),
            to_json(&key.public_jwk)?,
            key.state.as_str(),
            key.created_at,
            key.activates_at,
            key.expires_at,
        ))
        .await
        .map(drop)
    }

    /// Puts `key` in the place of the active key of its algorithm.
    async fn succeed_key(
        &mut self,
        tenant: &TenantUid,
        key: &SigningKeyRecord,
        retire_at: Timestamp,
        now: Timestamp,
    ) -> Result<RotateKey> {
        let standing = sql!(
            "SELECT * FROM encryption_keys WHERE tenant_uid = ?1 AND key_type = 'jwt'
               AND algorithm = ?2 AND status IN ('active', 'pending')",
            tenant,
            key.alg.as_str(),
        );
        let standing: Vec<_> =
            self.rows(standing).await?.iter().map(read).collect::<Result<_>>()?;
        // A pending key whose time has come is the active one, whatever its row says.
        if standing.iter().any(|k| k.state == KeyState::Pending && k.activates_at > now) {
            return Ok(RotateKey::AlreadyPending);
        }
        if standing.is_empty() {
            return Ok(RotateKey::NoActiveKey(key.alg));
        }
        self.run(sql!(
            "UPDATE encryption_keys SET status = 'rotated', is_primary = 0, rotated_at = ?3,
               expires_at = ?4, delete_at = ?4
             WHERE tenant_uid = ?1 AND key_type = 'jwt' AND algorithm = ?2
               AND status IN ('active', 'pending')",
            tenant,
            key.alg.as_str(),
            now,
            retire_at,
        ))
        .await?;
        self.insert_key(tenant, key).await?;
        Ok(RotateKey::Rotated)
    }
}

fn read(row: &SqliteRow) -> Result<SigningKeyRecord> {
    let ring_kid: &str = row.get("kek_id")?;
    Ok(SigningKeyRecord {
        kid: row.get("key_id")?,
        alg: SigningAlg::parse(row.get("algorithm")?).ok_or_else(|| unreadable("algorithm"))?,
        sealed: row.get("key_value_encrypted")?,
        ring_kid: ring_kid.parse().map_err(|_| unreadable("kek_id"))?,
        public_jwk: row.json("public_key")?,
        state: KeyState::parse(row.get("status")?).ok_or_else(|| unreadable("status"))?,
        created_at: row.time("created_at")?,
        activates_at: row.time("activated_at")?,
        expires_at: row.time_opt("expires_at")?,
    })
}
