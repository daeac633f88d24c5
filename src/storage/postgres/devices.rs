//! Device codes. The lock order is the user's row, the session, the device, the grant.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::codes::bind_opaque;
use super::db::{get, sql, time, unreadable};
use super::redeem::{bind_refresh, first_refresh, head_columns};
use super::rows::{bytes, count, from_json, hash, head, json};
use super::text::audit;
use super::{Postgres, View};
use crate::base::{Digest, Timestamp};
use crate::model::device::{DeviceCode, DeviceRecord, DeviceStatus, UserCodeDigest};
use crate::model::{Audit, ClientId, GrantId, Scope, TenantUid, UserId};
use crate::storage::{
    DecideDevice, DeviceApproval, DeviceCodes, DeviceDirectory, DevicePoll, DeviceRedemption,
    IssueDevice, NewDevice, PollDevice, RedeemDevice, Result, StoreError, horizon, verdict_device,
};

/// The columns of [`record`].
macro_rules! columns {
    () => {
        "client_id, scope, resources, terms::text AS terms, status, user_id, grant_id, poll_interval,
         requested_ip, requested_user_agent, created_at, expires_at"
    };
}

/// The first digest is stored, and guarded by its constraint; `$17` and `$18` are the other ones.
const ISSUE: &str = concat!(
    "WITH dev AS (
       INSERT INTO device_codes (tenant_uid, device_code_hash, user_code_kid, user_code_hash,
         client_id, scope, resources, terms, poll_interval, requested_ip, requested_user_agent,
         created_at, expires_at, keep_until)
       SELECT $1, $7, $8, $9, $10, $11, $12, $13::json, $14, $3, $4, $2, $15, $16
       WHERE NOT EXISTS (
         SELECT 1 FROM unnest($17::smallint[], $18::bytea[]) AS c (kid, mac)
         JOIN device_codes d ON d.tenant_uid = $1 AND d.user_code_kid = c.kid
           AND d.user_code_hash = c.mac)
       ON CONFLICT (tenant_uid, user_code_kid, user_code_hash) DO NOTHING RETURNING 1),
     ev AS (
       SELECT 'device.requested' AS action, NULL::uuid AS user_id, $10 AS client_id,
         NULL::uuid AS session_id, 'device_code' AS resource_type, $19::text AS resource_id,
         true AS success FROM dev), ",
    audit!(),
    " SELECT EXISTS (SELECT 1 FROM dev) AS issued"
);

const FIND: &str = concat!(
    "SELECT device_code_hash, ",
    columns!(),
    " FROM unnest($2::smallint[], $3::bytea[]) WITH ORDINALITY AS c (kid, mac, n)
     JOIN device_codes ON tenant_uid = $1 AND user_code_kid = c.kid AND user_code_hash = c.mac
     ORDER BY c.n LIMIT 1"
);

const PEEK: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM device_codes WHERE tenant_uid = $1 AND device_code_hash = $2"
);

/// The arithmetic is that of `verdict_device::poll`. A lost pace costs one early poll, so nobody
/// waits for the disk: the setting is that of this transaction, and read when it commits.
const POLL: &str = concat!(
    "WITH cur AS MATERIALIZED (
       SELECT ",
    columns!(),
    ", last_polled_at FROM device_codes
       WHERE tenant_uid = $1 AND device_code_hash = $3 AND client_id = $4
       FOR NO KEY UPDATE),
     v AS MATERIALIZED (
       SELECT cur.*, status = 'pending' AND expires_at > $2 AS open, a.asked,
         NOT $6 AND coalesce(last_polled_at + a.asked * interval '1 second' > $2, false) AS early
       FROM cur, LATERAL (SELECT least(poll_interval + $5::bigint, 86400) AS asked) a),
     u AS (
       UPDATE device_codes SET last_polled_at = greatest(device_codes.last_polled_at, $2),
         poll_interval = CASE WHEN v.early THEN least(v.asked + 5, 86400) ELSE v.asked END
       FROM v WHERE tenant_uid = $1 AND device_code_hash = $3 AND v.open
       RETURNING device_codes.poll_interval)
     SELECT v.client_id, v.scope, v.resources, v.terms, v.status, v.user_id, v.grant_id,
       coalesce((SELECT u.poll_interval FROM u), v.poll_interval) AS poll_interval, v.requested_ip,
       v.requested_user_agent, v.created_at, v.expires_at, v.early,
       set_config('synchronous_commit', 'off', true) AS commit
     FROM v"
);

const SLOW: &str = "UPDATE device_codes d
       SET poll_interval = least(d.poll_interval + s.more, 86400)
     FROM (SELECT hash, sum(more)::bigint AS more FROM unnest($2::bytea[], $3::bigint[])
       AS u (hash, more) GROUP BY hash) s
     WHERE d.tenant_uid = $1 AND d.device_code_hash = s.hash AND d.status = 'pending'";

/// The table is that of `verdict_device::decide`.
const APPROVE: &str = concat!(
    "WITH usr AS MATERIALIZED (
       SELECT 1 FROM users WHERE tenant_uid = $1 AND id = $7 AND is_active AND num_nulls(deleted_at) = 1
       FOR SHARE),
     ses AS MATERIALIZED (
       SELECT 1 FROM sessions WHERE tenant_uid = $1 AND session_id = $8 AND user_id = $7
         AND coalesce(status = 'active', false) AND idle_expires_at > $2 AND expires_at > $2
         AND (SELECT count(*) FROM usr) >= 0
       FOR SHARE),
     cur AS MATERIALIZED (
       SELECT status, expires_at, keep_until FROM device_codes
       WHERE tenant_uid = $1 AND device_code_hash = $9 AND client_id = $10
         AND (SELECT count(*) FROM ses) >= 0
       FOR UPDATE),
     v AS MATERIALIZED (
       SELECT cur.*, CASE
         WHEN status <> 'pending' THEN 'already'
         WHEN expires_at <= $2 THEN 'expired'
         WHEN EXISTS (SELECT 1 FROM usr) AND EXISTS (SELECT 1 FROM ses) AND NOT EXISTS (
           SELECT 1 FROM client_states k WHERE k.tenant_uid = $1 AND k.client_id = $10)
           THEN 'decided'
         ELSE 'not live' END AS verdict
       FROM cur),
     grn AS (
       INSERT INTO grants (tenant_uid, id, client_id, user_id, session_id, scope, resources, jkt,
         offline, terms, created_at, idle_exp, abs_exp, keep_until)
       SELECT $1, $11, $10, $7, $12, $13, $14, $15, $16, $17::json, $2, $18, $18, keep_until
       FROM v WHERE verdict = 'decided'),
     dev AS (
       UPDATE device_codes SET status = 'approved', user_id = $7, grant_id = $11, decided_at = $2
       FROM v WHERE tenant_uid = $1 AND device_code_hash = $9 AND v.verdict = 'decided'),
     ev AS (
       SELECT 'device.approved' AS action, $7::uuid AS user_id, $10 AS client_id,
         $8::uuid AS session_id, 'grant' AS resource_type, $11::uuid::text AS resource_id,
         true AS success FROM v WHERE verdict = 'decided'), ",
    audit!(),
    " SELECT verdict FROM v"
);

const DENY: &str = concat!(
    "WITH cur AS MATERIALIZED (
       SELECT client_id, status, expires_at FROM device_codes
       WHERE tenant_uid = $1 AND device_code_hash = $8 FOR UPDATE),
     v AS MATERIALIZED (
       SELECT cur.*, CASE
         WHEN status <> 'pending' THEN 'already'
         WHEN expires_at <= $2 THEN 'expired'
         ELSE 'decided' END AS verdict
       FROM cur),
     dev AS (
       UPDATE device_codes SET status = 'denied', user_id = $7, decided_at = $2
       FROM v WHERE tenant_uid = $1 AND device_code_hash = $8 AND v.verdict = 'decided'),
     ev AS (
       SELECT 'device.denied' AS action, $7::uuid AS user_id, client_id, NULL::uuid AS session_id,
         'device_code' AS resource_type, $9::text AS resource_id, true AS success
       FROM v WHERE verdict = 'decided'), ",
    audit!(),
    " SELECT verdict FROM v"
);

/// The table is that of `verdict_device::refuse`; `$11` to `$16` are those of `first_refresh!`.
const REDEEM: &str = concat!(
    "WITH usr AS MATERIALIZED (
       SELECT is_active FROM users WHERE tenant_uid = $1 AND id = $7 AND num_nulls(deleted_at) = 1
       FOR SHARE),
     cur AS MATERIALIZED (
       SELECT client_id, user_id, grant_id, status, expires_at, keep_until FROM device_codes
       WHERE tenant_uid = $1 AND device_code_hash = $8 AND (SELECT count(*) FROM usr) >= 0
       FOR UPDATE),
     grn AS MATERIALIZED (
       SELECT state, abs_exp FROM grants
       WHERE tenant_uid = $1 AND id = (SELECT grant_id FROM cur)
       FOR UPDATE),
     v AS MATERIALIZED (
       SELECT cur.grant_id, cur.keep_until, CASE
         WHEN client_id <> $9 THEN 'unknown'
         WHEN status = 'redeemed' THEN 'already'
         WHEN status <> 'approved' THEN 'not approved'
         WHEN expires_at <= $2 THEN 'expired'
         WHEN cur.user_id = $7 AND coalesce((SELECT is_active FROM usr), false)
           AND coalesce(grn.state = 'live' AND $2 < grn.abs_exp, false)
           AND NOT EXISTS (SELECT 1 FROM client_states k
             WHERE k.tenant_uid = $1 AND k.client_id = cur.client_id) THEN 'redeemed'
         ELSE 'revoked' END AS verdict
       FROM cur LEFT JOIN grn ON true),
     g AS (
       UPDATE grants SET ",
    first_refresh!(),
    " FROM v WHERE tenant_uid = $1 AND id = v.grant_id AND v.verdict = 'redeemed'
       RETURNING id, client_id, user_id, session_id, abs_exp, v.keep_until AS device_keep_until, ",
    head_columns!(),
    "),
     dev AS (
       UPDATE device_codes SET status = 'redeemed', redeemed_at = $2,
         keep_until = greatest(g.device_keep_until, interval '60 seconds'
           + CASE WHEN $12::bytea IS NULL THEN $11 ELSE greatest($11, g.abs_exp) END)
       FROM g WHERE tenant_uid = $1 AND device_code_hash = $8),
     opq AS (
       INSERT INTO access_tokens (tenant_uid, token_hash, jti, client_id, user_id, grant_id,
         generation, claims, created_at, expires_at)
       SELECT $1, $17, $18, $9, $7, g.id, $19, $20::json, $21, $22 FROM g
       WHERE $17::bytea IS NOT NULL),
     ev AS (
       SELECT $10::text AS action, user_id, client_id, session_id, 'grant' AS resource_type,
         id::text AS resource_id, true AS success FROM g), ",
    audit!(),
    " SELECT v.verdict, g.* FROM v LEFT JOIN g ON true"
);

const DECIDED: &str = "SELECT c.hash FROM unnest($2::bytea[]) AS c (hash)
     LEFT JOIN device_codes d ON d.tenant_uid = $1 AND d.device_code_hash = c.hash
     WHERE d.status IS DISTINCT FROM 'pending'";

const TENANTS: &str = "SELECT DISTINCT d.tenant_uid COLLATE \"C\" AS tenant_uid
     FROM unnest($1::text[], $2::smallint[], $3::bytea[]) AS c (uid, kid, mac)
     JOIN device_codes d ON d.tenant_uid = c.uid AND d.user_code_kid = c.kid
       AND d.user_code_hash = c.mac
     WHERE d.status = 'pending' AND d.expires_at > $4 ORDER BY 1 LIMIT 2";

#[async_trait]
impl DeviceCodes for View {
    async fn issue_device(
        &self,
        device: &NewDevice,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<IssueDevice> {
        let Some((user_code, others)) = device.user_code.split_first() else {
            return Err(StoreError::unavailable("a device without a user code"));
        };
        let (kids, macs) = columns(others);
        let statement = self
            .changing(ISSUE, now, audit)
            .bind(hash(&device.digest))
            .bind(i16::from(user_code.kid))
            .bind(user_code.mac.as_slice())
            .bind(device.client.as_str())
            .bind(device.scope.to_string())
            .bind(&device.resources)
            .bind(json(&device.terms)?)
            .bind(seconds(device.interval))
            .at(device.expires_at)
            .at(horizon::unspent_code(device.expires_at))
            .bind(kids)
            .bind(macs)
            .bind(device.digest.short());
        let row = self.db().decide(statement).await?;
        let issued = get::<bool>(&row, "issued")?;
        Ok(if issued { IssueDevice::Issued } else { IssueDevice::UserCodeTaken })
    }

    async fn find_device(
        &self,
        user_code: &[UserCodeDigest],
    ) -> Result<Option<(Digest<DeviceCode>, DeviceRecord)>> {
        let (kids, macs) = columns(user_code);
        let row = self.db().read_one(self.sql(FIND).bind(kids).bind(macs)).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some((Digest::from_bytes(bytes(&row, "device_code_hash")?), record(&row)?)))
    }

    async fn peek_device(&self, device: &Digest<DeviceCode>) -> Result<Option<DeviceRecord>> {
        let row = self.db().read_one(self.sql(PEEK).bind(hash(device))).await?;
        row.as_ref().map(record).transpose()
    }

    async fn poll_device(&self, poll: &DevicePoll, now: Timestamp) -> Result<PollDevice> {
        let statement = self
            .sql(POLL)
            .at(now)
            .bind(hash(&poll.device))
            .bind(poll.client.as_str())
            .bind(i64::from(seconds(poll.slower)))
            .bind(poll.never_early);
        let Some(row) = self.db().write_one(statement).await? else {
            return Ok(PollDevice::Unknown);
        };
        let device = record(&row)?;
        Ok(match device.status {
            DeviceStatus::Redeemed => PollDevice::Redeemed,
            DeviceStatus::Denied => PollDevice::Denied,
            _ if now >= device.expires_at => PollDevice::Expired,
            DeviceStatus::Approved => PollDevice::Approved(device),
            DeviceStatus::Pending if get(&row, "early")? => PollDevice::TooEarly(device),
            DeviceStatus::Pending => PollDevice::Pending(device),
        })
    }

    async fn slow_devices(&self, slower: &[(Digest<DeviceCode>, Duration)]) -> Result<()> {
        if slower.is_empty() {
            return Ok(());
        }
        let (devices, more): (Vec<_>, Vec<_>) =
            slower.iter().map(|(device, more)| (hash(device), i64::from(seconds(*more)))).unzip();
        self.db().write(self.sql(SLOW).bind(devices).bind(more)).await.map(drop)
    }

    async fn approve_device(
        &self,
        approval: &DeviceApproval,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<DecideDevice> {
        let DeviceApproval { device, session, grant } = approval;
        let statement = self
            .changing(APPROVE, now, audit)
            .bind(grant.user.map(|user| user.0))
            .bind(session.0)
            .bind(hash(device))
            .bind(grant.client.as_str())
            .bind(grant.id.0)
            .bind(grant.session.map(|session| session.0))
            .bind(grant.terms.scope.to_string())
            .bind(&grant.terms.resources)
            .bind(grant.jkt.as_deref())
            .bind(grant.offline)
            .bind(json(&grant.terms)?)
            .at(grant.expires_at);
        self.decided(device, self.db().write_one(statement).await)
    }

    async fn deny_device(
        &self,
        device: &Digest<DeviceCode>,
        user: Option<UserId>,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<DecideDevice> {
        let statement = self
            .changing(DENY, now, audit)
            .bind(user.map(|user| user.0))
            .bind(hash(device))
            .bind(device.short());
        self.decided(device, self.db().write_one(statement).await)
    }

    async fn redeem_device(
        &self,
        redemption: &DeviceRedemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemDevice> {
        let statement = self
            .changing(REDEEM, now, audit)
            .bind(redemption.user.0)
            .bind(hash(&redemption.device))
            .bind(redemption.client.as_str())
            .bind("device.redeemed")
            .at(redemption.access_expires_at);
        let statement = bind_refresh(statement, redemption.refresh.as_ref());
        let opaque = redemption.opaque.as_ref();
        let generation = opaque.and_then(|token| token.claims.generation).map(i64::from);
        let statement = bind_opaque(statement, opaque, |statement| statement.bind(generation))?;
        let Some(row) = self.db().write_one(statement).await? else {
            return Ok(RedeemDevice::Unknown);
        };
        Ok(match get(&row, "verdict")? {
            "redeemed" => RedeemDevice::Redeemed { refresh: head(&row)? },
            "already" => RedeemDevice::AlreadyRedeemed,
            "not approved" => RedeemDevice::NotApproved,
            "expired" => RedeemDevice::Expired,
            "revoked" => RedeemDevice::Revoked,
            _ => RedeemDevice::Unknown,
        })
    }

    async fn decided_devices(
        &self,
        devices: &[Digest<DeviceCode>],
    ) -> Result<Vec<Digest<DeviceCode>>> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<_> = devices.iter().map(hash).collect();
        let rows = self.db().read(self.sql(DECIDED).bind(asked)).await?;
        let decided = rows.iter().map(|row| bytes(row, "hash").map(Digest::from_bytes));
        let decided: HashSet<Digest<DeviceCode>> = decided.collect::<Result<_>>()?;
        Ok(devices.iter().filter(|device| decided.contains(device)).copied().collect())
    }
}

#[async_trait]
impl DeviceDirectory for Postgres {
    async fn tenants_of_user_code(
        &self,
        digests: &[(TenantUid, UserCodeDigest)],
        now: Timestamp,
    ) -> Result<Vec<TenantUid>> {
        let uids: Vec<_> = digests.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let kids: Vec<_> = digests.iter().map(|(_, code)| i16::from(code.kid)).collect();
        let macs: Vec<_> = digests.iter().map(|(_, code)| code.mac.as_slice()).collect();
        let statement = sql(TENANTS).bind(uids).bind(kids).bind(macs).at(now);
        let rows = self.0.db.read(statement).await?;
        rows.iter().map(|row| get(row, "tenant_uid").map(TenantUid::stored)).collect()
    }
}

impl View {
    /// The outcome of a decision; whoever waits for it is told. A lost answer may have been a
    /// decision, so they look.
    fn decided(
        &self,
        device: &Digest<DeviceCode>,
        row: Result<Option<PgRow>>,
    ) -> Result<DecideDevice> {
        if matches!(row, Err(StoreError::Unknown(_))) {
            self.shared.decided(*device);
        }
        let Some(row) = row? else { return Ok(DecideDevice::Unknown) };
        Ok(match get(&row, "verdict")? {
            "decided" => {
                self.shared.decided(*device);
                DecideDevice::Decided
            }
            "already" => DecideDevice::AlreadyDecided,
            "expired" => DecideDevice::Expired,
            _ => DecideDevice::NotLive,
        })
    }
}

/// Ring keys and digests, side by side.
fn columns(codes: &[UserCodeDigest]) -> (Vec<i16>, Vec<&[u8]>) {
    codes.iter().map(|code| (i16::from(code.kid), code.mac.as_slice())).unzip()
}

fn seconds(interval: Duration) -> i32 {
    i32::try_from(verdict_device::interval(interval).as_secs()).unwrap_or(i32::MAX)
}

fn record(row: &PgRow) -> Result<DeviceRecord> {
    Ok(DeviceRecord {
        client: ClientId::new(get(row, "client_id")?),
        scope: Scope::parse(get(row, "scope")?).map_err(|_| unreadable("scope"))?,
        resources: get(row, "resources")?,
        terms: from_json(row, "terms")?,
        status: DeviceStatus::parse(get(row, "status")?)
            .ok_or_else(|| unreadable("device status"))?,
        user: get::<Option<Uuid>>(row, "user_id")?.map(UserId),
        grant: get::<Option<Uuid>>(row, "grant_id")?.map(GrantId),
        interval: Duration::from_secs(u64::from(count(row, "poll_interval")?)),
        requested_ip: get(row, "requested_ip")?,
        requested_user_agent: get(row, "requested_user_agent")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
    })
}
