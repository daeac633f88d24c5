use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::View;
use super::db::{get, sql, time, time_if, unreadable};
use super::text::{audit, revoke};
use crate::base::Timestamp;
use crate::model::Audit;
use crate::model::client::SigningAlg;
use crate::model::key::{KeyState, SigningKeyRecord};
use crate::storage::{AddKey, Change, Result, RotateKey, SigningKeys, StoreError, horizon};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT key_id, algorithm, key_value_encrypted, kek_id, public_key, status, created_at,
               activated_at, expires_at
             FROM encryption_keys WHERE tenant_uid = $1 AND key_type = 'jwt' ",
            $rest
        )
    };
}

const LIST: &str = select!("ORDER BY created_at DESC, key_id COLLATE \"C\" DESC");

const FIRST: &str =
    select!("AND algorithm = $2 AND status IN ('active', 'pending') ORDER BY created_at LIMIT 1");

/// The partial index on `is_primary` lets one of any number of nodes win.
const ADD_FIRST: &str = concat!(
    "WITH key AS (
       INSERT INTO encryption_keys (key_id, tenant_uid, key_type, algorithm, key_value_encrypted,
         kek_id, public_key, status, is_primary, created_at, activated_at, expires_at, delete_at)
       SELECT $7, $1, 'jwt', $8, $9, $10, $11, $12, true, $2, $13, $14, $14
       WHERE NOT EXISTS (SELECT 1 FROM encryption_keys WHERE tenant_uid = $1 AND key_type = 'jwt'
         AND algorithm = $8 AND status IN ('active', 'pending'))
       ON CONFLICT DO NOTHING RETURNING key_id),
     ev AS (
       SELECT 'key.created' AS action, NULL::uuid AS user_id, NULL::text AS client_id,
         NULL::uuid AS session_id, 'key' AS resource_type, key_id AS resource_id, true AS success
       FROM key), ",
    audit!(),
    " SELECT EXISTS (SELECT 1 FROM key) AS added"
);

const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('keys ' || $1, 0))";

const ROTATE: &str = concat!(
    "WITH cur AS MATERIALIZED (
       SELECT key_id, status = 'pending' AND activated_at > $16 AS waits FROM encryption_keys
       WHERE tenant_uid = $1 AND key_type = 'jwt' AND algorithm = $8
         AND status IN ('active', 'pending')
       FOR UPDATE),
     v AS MATERIALIZED (
       SELECT CASE WHEN count(*) = 0 THEN 'none' WHEN bool_or(waits) THEN 'pending'
         ELSE 'rotated' END AS verdict FROM cur),
     old AS (
       UPDATE encryption_keys k SET status = 'rotated', is_primary = false, rotated_at = $2,
         expires_at = $15, delete_at = $15
       FROM v WHERE v.verdict = 'rotated' AND k.key_id IN (SELECT key_id FROM cur) RETURNING 1),
     key AS (
       INSERT INTO encryption_keys (key_id, tenant_uid, key_type, algorithm, key_value_encrypted,
         kek_id, public_key, status, is_primary, created_at, activated_at, expires_at, delete_at)
       SELECT $7, $1, 'jwt', $8, $9, $10, $11, $12, true, $17, $13, $14, $14
       FROM v WHERE v.verdict = 'rotated' AND (SELECT count(*) FROM old) > 0
       RETURNING key_id),
     ev AS (
       SELECT 'key.rotated' AS action, NULL::uuid AS user_id, NULL::text AS client_id,
         NULL::uuid AS session_id, 'key' AS resource_type, key_id AS resource_id, true AS success
       FROM key), ",
    audit!(),
    " SELECT verdict FROM v"
);

const COMPROMISE: &str = concat!(
    "WITH cur AS MATERIALIZED (
       SELECT key_id, status FROM encryption_keys
       WHERE tenant_uid = $1 AND key_type = 'jwt' AND key_id = $7 FOR UPDATE),
     n AS MATERIALIZED (SELECT key_id FROM cur WHERE status <> 'compromised'),
     u AS (
       UPDATE encryption_keys k SET status = 'compromised', is_primary = false, delete_at = $9
       FROM n WHERE k.key_id = n.key_id),
     rv AS (
       SELECT 'kid' AS kind, key_id AS key, NULL::timestamptz AS nbf, $8::timestamptz AS exp
       FROM n), ",
    revoke!(),
    ", ev AS (
       SELECT 'key.compromised' AS action, NULL::uuid AS user_id, NULL::text AS client_id,
         NULL::uuid AS session_id, 'key' AS resource_type, key_id AS resource_id, true AS success
       FROM n), ",
    audit!(),
    " SELECT true AS known, rev.* FROM cur LEFT JOIN rev ON true"
);

#[async_trait]
impl SigningKeys for View {
    async fn list_keys(&self) -> Result<Vec<SigningKeyRecord>> {
        self.db().read(self.sql(LIST)).await?.iter().map(record).collect()
    }

    async fn add_first_key(&self, key: &SigningKeyRecord, audit: &Audit) -> Result<AddKey> {
        let statement = self.with_key(ADD_FIRST, key, key.created_at, audit);
        if get(&self.db().decide(statement).await?, "added")? {
            self.shared.changed();
            return Ok(AddKey::Added);
        }
        let row = self.db().read_one(self.sql(FIRST).bind(key.alg.as_str())).await?;
        let first = row.ok_or_else(|| StoreError::unavailable("the kid is taken"))?;
        Ok(AddKey::Exists(Box::new(record(&first)?)))
    }

    async fn rotate_key(
        &self,
        key: &SigningKeyRecord,
        retire_at: Timestamp,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateKey> {
        let lock = sql(LOCK).bind(self.uid.as_str());
        let then = self.with_key(ROTATE, key, now, audit).at(retire_at).at(now).at(key.created_at);
        let (_, rows) = self.db().lock_then(lock, then).await?;
        let row = rows.first().ok_or_else(|| StoreError::unavailable("no verdict"))?;
        Ok(match get(row, "verdict")? {
            "rotated" => {
                self.shared.changed();
                RotateKey::Rotated
            }
            "pending" => RotateKey::AlreadyPending,
            _ => RotateKey::NoActiveKey(key.alg),
        })
    }

    async fn compromise_key(&self, kid: &str, change: &Change<'_>) -> Result<bool> {
        let statement = self
            .changing(COMPROMISE, change.now, change.audit)
            .bind(kid)
            .at(change.not_after)
            .at(horizon::compromised_key(change.now));
        let rows = self.db().write(statement).await?;
        self.announce(&rows, change.now)?;
        Ok(!rows.is_empty())
    }
}

impl View {
    /// `$7` to `$14` are the key's.
    fn with_key(
        &self,
        text: &'static str,
        key: &SigningKeyRecord,
        now: Timestamp,
        audit: &Audit,
    ) -> super::Sql {
        self.changing(text, now, audit)
            .bind(key.kid.as_str())
            .bind(key.alg.as_str())
            .bind(key.sealed.as_slice())
            .bind(key.ring_kid.to_string())
            .bind(&key.public_jwk)
            .bind(key.state.as_str())
            .at(key.activates_at)
            .at_if(key.expires_at)
    }
}

fn record(row: &PgRow) -> Result<SigningKeyRecord> {
    let ring_kid = get::<&str>(row, "kek_id")?.parse();
    Ok(SigningKeyRecord {
        kid: get(row, "key_id")?,
        alg: SigningAlg::parse(get(row, "algorithm")?).ok_or_else(|| unreadable("algorithm"))?,
        sealed: get(row, "key_value_encrypted")?,
        ring_kid: ring_kid.map_err(|_| unreadable("ring key id"))?,
        public_jwk: get(row, "public_key")?,
        state: KeyState::parse(get(row, "status")?).ok_or_else(|| unreadable("key state"))?,
        created_at: time(row, "created_at")?,
        activates_at: time(row, "activated_at")?,
        expires_at: time_if(row, "expires_at")?,
    })
}
