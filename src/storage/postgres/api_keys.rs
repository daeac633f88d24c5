//! API keys. The lock order is the owner's keys (an advisory lock), the user's row, the client's, the key.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::db::{Sql, get, time, time_if, unreadable};
use super::rows::count;
use super::text::{audit, revoke};
use super::{View, storable};
use crate::base::{Timestamp, hex};
use crate::model::api_key::{ApiKey, ApiKeyId, KeyRate, Owner, PepperedDigest};
use crate::model::{Audit, ClientId, UserId};
use crate::storage::api_keys::{stored_digest, sum_up};
use crate::storage::{
    ApiKeyRecord, ApiKeyUse, ApiKeys, Change, CreateApiKey, NewApiKey, OwnerId, Result,
    RevokeApiKey, RotateApiKey, horizon,
};

/// The columns of [`key`].
macro_rules! columns {
    () => {
        "id, client_id, user_id, name, description, key_prefix, api_key_hash, hash_version, scopes,
         audiences, exchange, allowed_ips::text[] AS allowed_ips, rate_limit, rate_window_s,
         created_at, expires_at, last_used_at, host(last_used_ip) AS last_used_ip, usage_count,
         revoked_at, replaced_by, grace_until"
    };
}

/// Locks the owner: `usr` and `cli` are empty when they are not live. A client that is not `known` is
/// one of the configuration; one that is known, and gone after the wait, is deleted.
macro_rules! owner {
    ($user:literal, $client:literal) => {
        concat!(
            "usr AS MATERIALIZED (
               SELECT 1 FROM users WHERE tenant_uid = $1 AND id = ",
            $user,
            "    AND is_active AND deleted_at IS NULL
               FOR SHARE),
             known AS MATERIALIZED (
               SELECT 1 FROM clients WHERE tenant_uid = $1 AND client_id = ",
            $client,
            "),
             cli AS MATERIALIZED (
               SELECT 1 FROM clients WHERE tenant_uid = $1 AND client_id = ",
            $client,
            "    AND (SELECT count(*) FROM usr) >= 0
               FOR SHARE)"
        )
    };
}

/// Whether what `owner!` locked is live.
macro_rules! owner_live {
    ($user:literal, $client:literal) => {
        concat!(
            "(",
            $user,
            " IS NULL OR EXISTS (SELECT 1 FROM usr))
             AND (EXISTS (SELECT 1 FROM cli) OR NOT EXISTS (SELECT 1 FROM known))
             AND NOT EXISTS (SELECT 1 FROM client_states c
               WHERE c.tenant_uid = $1 AND c.client_id = ",
            $client,
            ")"
        )
    };
}

macro_rules! live {
    () => {
        "revoked_at IS NULL AND expires_at > $2 AND (grace_until IS NULL OR grace_until > $2)"
    };
}

/// `$10` to `$24` are those of [`bind_key`].
macro_rules! insert {
    ($user:literal, $client:literal, $verdict:literal) => {
        concat!(
            "INSERT INTO api_keys (tenant_uid, user_id, client_id, id, name, description,
               key_prefix, api_key_hash, hash_version, scopes, audiences, exchange, allowed_ips,
               rate_limit, rate_window_s, created_at, expires_at, keep_until)
             SELECT $1, ",
            $user,
            ", ",
            $client,
            ", $10, $11, $12, $13, $14, $15, $16, $17, $18, $19::text[]::cidr[], $20, $21, $22,
               $23, $24
             FROM v WHERE v.verdict = '",
            $verdict,
            "'"
        )
    };
}

/// A statement does not see what was committed while it waited: so whoever counts an owner's keys
/// holds this first.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('pmp-auth api keys ' || $1::text || $2::text, 0))";

/// `$7` the user, `$8` the client, `$9` how many keys they may have.
const CREATE: &str = concat!(
    "WITH ",
    owner!("$7", "$8"),
    ",
     v AS MATERIALIZED (
       SELECT CASE
         WHEN NOT (",
    owner_live!("$7::uuid", "$8"),
    ") THEN 'not live'
         WHEN (SELECT count(*) FROM api_keys WHERE tenant_uid = $1 AND user_id = $7 AND ",
    live!(),
    ") + (SELECT count(*) FROM api_keys WHERE tenant_uid = $1 AND client_id = $8
             AND user_id IS NULL AND $7::uuid IS NULL AND ",
    live!(),
    ") >= $9::bigint THEN 'too many'
         ELSE 'created' END AS verdict),
     new AS (",
    insert!("$7", "$8", "created"),
    "),
     ev AS (
       SELECT 'api_key.created' AS action, $7::uuid AS user_id, $8::text AS client_id,
         NULL::uuid AS session_id, 'api_key' AS resource_type, $10::uuid::text AS resource_id,
         true AS success FROM v WHERE verdict = 'created'), ",
    audit!(),
    " SELECT verdict FROM v"
);

const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    ", (user_id IS NULL OR EXISTS (SELECT 1 FROM users u WHERE u.tenant_uid = $1
           AND u.id = k.user_id AND u.is_active AND u.deleted_at IS NULL))
         AND NOT EXISTS (SELECT 1 FROM client_states c WHERE c.tenant_uid = $1
           AND c.client_id = k.client_id) AS owner_live
     FROM api_keys k WHERE tenant_uid = $1 AND id = $2"
);

macro_rules! list {
    ($which:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM api_keys WHERE tenant_uid = $1 AND ",
            $which,
            " AND ($3::uuid IS NULL OR (created_at, id) < (SELECT a.created_at, a.id
                 FROM api_keys a WHERE a.tenant_uid = $1 AND a.id = $3))
             ORDER BY created_at DESC, id DESC LIMIT $4"
        )
    };
}

const OF_USER: &str = list!("user_id = $2");
const OF_CLIENT: &str = list!("client_id = $2 AND user_id IS NULL");
const OF_ALL: &str = list!("$2::text IS NULL AND (user_id IS NOT NULL OR client_id IS NOT NULL)");

const REHASH: &str = "UPDATE api_keys SET api_key_hash = $5, hash_version = $6
     WHERE tenant_uid = $1 AND id = $2 AND api_key_hash = $3 AND hash_version = $4 RETURNING 1";

/// The table is that of `api_keys::rotate`. `$7` the old key, `$8` the end of its grace, `$9` until
/// when it is kept.
const ROTATE: &str = concat!(
    "WITH own AS MATERIALIZED (
       SELECT user_id, client_id FROM api_keys WHERE tenant_uid = $1 AND id = $7), ",
    owner!("(SELECT user_id FROM own)", "(SELECT client_id FROM own)"),
    ",
     cur AS MATERIALIZED (
       SELECT user_id, client_id, revoked_at, expires_at, replaced_by FROM api_keys
       WHERE tenant_uid = $1 AND id = $7 AND (SELECT count(*) FROM cli) >= 0
       FOR UPDATE),
     v AS MATERIALIZED (
       SELECT user_id, client_id, CASE
         WHEN revoked_at IS NOT NULL OR coalesce(expires_at <= $2, true) OR NOT (",
    owner_live!("cur.user_id", "cur.client_id"),
    ") THEN 'not live'
         WHEN replaced_by IS NOT NULL THEN 'already'
         ELSE 'rotated' END AS verdict
       FROM cur),
     old AS (
       UPDATE api_keys SET replaced_by = $10, grace_until = $8,
         keep_until = least(api_keys.keep_until, $9)
       FROM v WHERE tenant_uid = $1 AND id = $7 AND v.verdict = 'rotated'),
     new AS (",
    insert!("v.user_id", "v.client_id", "rotated"),
    "),
     ev AS (
       SELECT 'api_key.rotated' AS action, user_id, client_id, NULL::uuid AS session_id,
         'api_key' AS resource_type, $7::uuid::text AS resource_id, true AS success
       FROM v WHERE verdict = 'rotated'), ",
    audit!(),
    " SELECT verdict FROM v"
);

/// `$8` when the entry expires, `$9` until when the key is kept.
const REVOKE: &str = concat!(
    "WITH cur AS MATERIALIZED (
       SELECT user_id, client_id, audiences, revoked_at FROM api_keys
       WHERE tenant_uid = $1 AND id = $7 FOR UPDATE),
     k AS (
       UPDATE api_keys SET revoked_at = $2, keep_until = least(api_keys.keep_until, $9)
       FROM cur WHERE tenant_uid = $1 AND id = $7 AND cur.revoked_at IS NULL
       RETURNING cur.user_id, cur.client_id, cur.audiences),
     rv AS (
       SELECT 'api_key' AS kind, $7::uuid::text AS key, NULL::timestamptz AS nbf,
         $8::timestamptz AS exp, nullif(audiences, '{}') AS aud FROM k), ",
    revoke!("rv.aud"),
    ", ev AS (
       SELECT 'api_key.revoked' AS action, user_id, client_id, NULL::uuid AS session_id,
         'api_key' AS resource_type, $7::uuid::text AS resource_id, true AS success FROM k), ",
    audit!(),
    " SELECT cur.revoked_at IS NULL AS revoked, rev.* FROM cur LEFT JOIN rev ON true"
);

/// Rows are locked in one order, so that two nodes do not wait for each other.
const NOTE_USES: &str = "WITH cur AS MATERIALIZED (
       SELECT id FROM api_keys WHERE tenant_uid = $1 AND id = ANY ($2::uuid[])
       ORDER BY id FOR NO KEY UPDATE)
     UPDATE api_keys k SET usage_count = k.usage_count + u.n,
       last_used_at = greatest(k.last_used_at, u.at),
       last_used_ip = CASE WHEN k.last_used_at > u.at THEN k.last_used_ip ELSE u.ip::inet END
     FROM unnest($2::uuid[], $3::bigint[], $4::timestamptz[], $5::text[]) AS u (id, n, at, ip)
     JOIN cur ON cur.id = u.id
     WHERE k.tenant_uid = $1 AND k.id = u.id";

const COUNT: &str = concat!(
    "SELECT hash_version, count(*) AS n FROM api_keys WHERE tenant_uid = $1 AND ",
    live!(),
    " GROUP BY hash_version ORDER BY hash_version"
);

#[async_trait]
impl ApiKeys for View {
    async fn create_api_key(
        &self,
        key: &NewApiKey,
        at_most: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateApiKey> {
        let (user, client) = (key.key.owner.user(), key.key.owner.client());
        let owner = match (user, client) {
            (None, Some(client)) => format!(" client {client}"),
            _ => format!(" user {}", user.map(|user| user.0).unwrap_or_default()),
        };
        let lock = self.sql(LOCK).bind(owner);
        let then = self
            .changing(CREATE, now, audit)
            .bind(user.map(|user| user.0))
            .bind(client.map(ClientId::as_str))
            .bind(i64::from(at_most));
        let (_, rows) = self.db().lock_then(lock, bind_key(then, key)).await?;
        let row = rows.first().ok_or_else(|| unreadable("verdict"))?;
        Ok(match get(row, "verdict")? {
            "created" => CreateApiKey::Created,
            "too many" => CreateApiKey::TooMany,
            _ => CreateApiKey::OwnerNotLive,
        })
    }

    async fn find_api_key(&self, id: ApiKeyId) -> Result<Option<ApiKeyRecord>> {
        let Some(row) = self.db().read_one(self.sql(FIND).bind(id.0)).await? else {
            return Ok(None);
        };
        let version = i64::from(get::<i32>(&row, "hash_version")?);
        let Some(digest) = stored_digest(version, get(&row, "api_key_hash")?) else {
            return Ok(None);
        };
        Ok(Some(ApiKeyRecord { key: key(&row)?, digest, owner_live: get(&row, "owner_live")? }))
    }

    async fn list_api_keys(
        &self,
        owner: Option<&OwnerId>,
        after: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>> {
        let statement = match owner {
            Some(OwnerId::User(user)) => self.sql(OF_USER).bind(user.0),
            // An id with a NUL is nobody's: it cannot be stored.
            Some(OwnerId::Client(client)) if client.as_str().contains('\0') => return Ok(vec![]),
            Some(OwnerId::Client(client)) => self.sql(OF_CLIENT).bind(client.as_str()),
            None => self.sql(OF_ALL).bind(None::<&str>),
        };
        let statement = statement.bind(after.map(|key| key.0)).bind(i64::from(limit));
        self.db().read(statement).await?.iter().map(key).collect()
    }

    async fn rehash_api_key(
        &self,
        id: ApiKeyId,
        from: &PepperedDigest,
        to: &PepperedDigest,
    ) -> Result<bool> {
        let statement = self
            .sql(REHASH)
            .bind(id.0)
            .bind(hex(&from.mac))
            .bind(i32::from(from.pepper))
            .bind(hex(&to.mac))
            .bind(i32::from(to.pepper));
        Ok(self.db().write_one(statement).await?.is_some())
    }

    async fn rotate_api_key(
        &self,
        id: ApiKeyId,
        successor: &NewApiKey,
        grace_until: Timestamp,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RotateApiKey> {
        let statement = self
            .changing(ROTATE, now, audit)
            .bind(id.0)
            .at(grace_until)
            .at(horizon::ended_api_key(grace_until));
        let Some(row) = self.db().write_one(bind_key(statement, successor)).await? else {
            return Ok(RotateApiKey::Unknown);
        };
        Ok(match get(&row, "verdict")? {
            "rotated" => RotateApiKey::Rotated,
            "already" => RotateApiKey::AlreadyRotated,
            _ => RotateApiKey::NotLive,
        })
    }

    async fn revoke_api_key(&self, id: ApiKeyId, change: &Change<'_>) -> Result<RevokeApiKey> {
        let statement = self
            .changing(REVOKE, change.now, change.audit)
            .bind(id.0)
            .at(change.not_after)
            .at(horizon::ended_api_key(change.now));
        let rows = self.db().write(statement).await?;
        let Some(row) = rows.first() else { return Ok(RevokeApiKey::Unknown) };
        if !get::<bool>(row, "revoked")? {
            return Ok(RevokeApiKey::AlreadyRevoked);
        }
        self.announce(&rows, change.now)?;
        Ok(RevokeApiKey::Revoked)
    }

    async fn note_api_key_uses(&self, uses: &[ApiKeyUse]) -> Result<()> {
        if uses.is_empty() {
            return Ok(());
        }
        let uses = sum_up(uses);
        let ip = |used: &ApiKeyUse| used.last_ip.map(|ip| ip.to_string());
        let statement = self
            .sql(NOTE_USES)
            .bind(uses.iter().map(|used| used.id.0).collect::<Vec<_>>())
            .bind(uses.iter().map(|used| saturated(used.count)).collect::<Vec<_>>())
            .bind(uses.iter().map(|used| used.last_at.to_chrono()).collect::<Vec<_>>())
            .bind(uses.iter().map(ip).collect::<Vec<_>>());
        self.db().write(statement).await.map(drop)
    }

    async fn count_api_keys_by_pepper(&self, now: Timestamp) -> Result<Vec<(u8, u64)>> {
        let rows = self.db().read(self.sql(COUNT).at(now)).await?;
        let counts = rows.iter().map(|row| {
            let pepper = u8::try_from(get::<i32>(row, "hash_version")?);
            let n = u64::try_from(get::<i64>(row, "n")?);
            Ok((pepper.map_err(|_| unreadable("pepper"))?, n.unwrap_or_default()))
        });
        counts.collect()
    }
}

/// The next fifteen arguments: a new key without its owner.
fn bind_key(statement: Sql, new: &NewApiKey) -> Sql {
    let key = new.fresh();
    let ips = key.allowed_ips.iter().map(IpNet::to_string).collect::<Vec<_>>();
    statement
        .bind(key.id.0)
        .bind(storable(Some(&key.name)))
        .bind(storable(key.description.as_deref()))
        .bind(storable(Some(&key.prefix)))
        .bind(hex(&new.digest.mac))
        .bind(i32::from(new.digest.pepper))
        .bind(key.scope.iter().collect::<Vec<_>>())
        .bind(&key.audiences)
        .bind(key.exchange)
        .bind(Some(ips).filter(|ips| !ips.is_empty()))
        .bind(i32::try_from(key.rate.limit).unwrap_or(i32::MAX))
        .bind(i32::try_from(key.rate.window.as_secs()).unwrap_or(i32::MAX))
        .at(key.created_at)
        .at(key.expires_at)
        .at(horizon::ended_api_key(key.expires_at))
}

fn saturated(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn key(row: &PgRow) -> Result<ApiKey> {
    let client = get::<Option<&str>>(row, "client_id")?.map(ClientId::new);
    let owner = match get::<Option<Uuid>>(row, "user_id")?.map(UserId) {
        Some(user) => Owner::User { user, client },
        None => Owner::Client(client.ok_or_else(|| unreadable("API key's owner"))?),
    };
    let scopes: Vec<String> = get(row, "scopes")?;
    let networks: Option<Vec<String>> = get(row, "allowed_ips")?;
    let networks = networks.iter().flatten().map(|network| network.parse::<IpNet>());
    let last_used_ip = get::<Option<&str>>(row, "last_used_ip")?.map(str::parse::<IpAddr>);
    let created_at = time(row, "created_at")?;
    Ok(ApiKey {
        id: ApiKeyId(get(row, "id")?),
        owner,
        name: get(row, "name")?,
        description: get(row, "description")?,
        prefix: get::<Option<String>>(row, "key_prefix")?.unwrap_or_default(),
        scope: scopes.iter().map(String::as_str).collect(),
        audiences: get(row, "audiences")?,
        exchange: get(row, "exchange")?,
        allowed_ips: networks
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| unreadable("network"))?,
        rate: KeyRate {
            limit: count(row, "rate_limit")?,
            window: Duration::from_secs(u64::from(count(row, "rate_window_s")?)),
        },
        created_at,
        // Without an end, written by hand, it was never good.
        expires_at: time_if(row, "expires_at")?.unwrap_or(created_at),
        last_used_at: time_if(row, "last_used_at")?,
        last_used_ip: last_used_ip.transpose().map_err(|_| unreadable("address"))?,
        usage_count: u64::try_from(get::<i64>(row, "usage_count")?).unwrap_or_default(),
        revoked_at: time_if(row, "revoked_at")?,
        replaced_by: get::<Option<Uuid>>(row, "replaced_by")?.map(ApiKeyId),
        grace_until: time_if(row, "grace_until")?,
    })
}
