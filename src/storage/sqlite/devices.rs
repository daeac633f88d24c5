use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use sqlx::sqlite::SqliteRow;

use super::audit_log::record;
use super::error::unreadable;
use super::grants;
use super::row::{Columns, to_json};
use super::value::Statement;
use super::{Sqlite, SqliteTenant, Tx, sql};
use crate::base::{Digest, Timestamp, hex};
use crate::model::audit::AuditRecord;
use crate::model::device::{DeviceCode, DeviceRecord, DeviceStatus, UserCodeDigest};
use crate::model::{Action, Audit, ClientId, Scope, TenantUid, UserId};
use crate::storage::verdict_device::{self, LONGEST_INTERVAL};
use crate::storage::{
    DecideDevice, DeviceApproval, DeviceCodes, DeviceDirectory, DevicePoll, DeviceRedemption,
    IssueDevice, NewDevice, PollDevice, RedeemDevice, Result, StoreError, horizon,
};

#[async_trait]
impl DeviceCodes for SqliteTenant {
    async fn issue_device(
        &self,
        device: &NewDevice,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<IssueDevice> {
        let (tenant, device, audit) = (self.tenant.clone(), device.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move { tx.issue_device(&tenant, &device, now, &audit).await })
            })
            .await
    }

    async fn find_device(
        &self,
        user_code: &[UserCodeDigest],
    ) -> Result<Option<(Digest<DeviceCode>, DeviceRecord)>> {
        let find = by_user_code(&self.tenant, user_code);
        let Some(row) = self.store.row(find).await? else { return Ok(None) };
        Ok(Some((Digest::from_bytes(row.bytes("device_code_hash")?), read(&row)?)))
    }

    async fn peek_device(&self, device: &Digest<DeviceCode>) -> Result<Option<DeviceRecord>> {
        let row = self.store.row(by_digest(&self.tenant, device)).await?;
        row.as_ref().map(read).transpose()
    }

    async fn poll_device(&self, poll: &DevicePoll, now: Timestamp) -> Result<PollDevice> {
        let (tenant, poll) = (self.tenant.clone(), poll.clone());
        self.store
            .write(move |tx| Box::pin(async move { tx.poll_device(&tenant, &poll, now).await }))
            .await
    }

    async fn slow_devices(&self, slower: &[(Digest<DeviceCode>, Duration)]) -> Result<()> {
        if slower.is_empty() {
            return Ok(());
        }
        let added = |more: &Duration| seconds(verdict_device::interval(*more));
        let slower: Vec<_> =
            slower.iter().map(|(device, more)| (hex(device.as_bytes()), added(more))).collect();
        let slow = sql!(
            "UPDATE device_codes SET poll_interval = min(poll_interval + s.more, ?3)
             FROM (SELECT unhex(value ->> 0) AS hash, sum(value ->> 1) AS more
               FROM json_each(?2) GROUP BY 1) s
             WHERE tenant_uid = ?1 AND device_code_hash = s.hash AND status = 'pending'",
            &self.tenant,
            to_json(&slower)?,
            seconds(LONGEST_INTERVAL),
        );
        self.store.write(move |tx| Box::pin(async move { tx.run(slow).await.map(drop) })).await
    }

    async fn approve_device(
        &self,
        approval: &DeviceApproval,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<DecideDevice> {
        let (tenant, approval, audit) = (self.tenant.clone(), approval.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move { tx.approve_device(&tenant, &approval, now, &audit).await })
            })
            .await
    }

    async fn deny_device(
        &self,
        device: &Digest<DeviceCode>,
        user: Option<UserId>,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<DecideDevice> {
        let (tenant, device) = (self.tenant.clone(), *device);
        let mut audited = about(&device, Action::DeviceDenied, now, audit);
        audited.user = user;
        self.store
            .write(move |tx| {
                Box::pin(async move { tx.deny_device(&tenant, &device, audited).await })
            })
            .await
    }

    async fn redeem_device(
        &self,
        redemption: &DeviceRedemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemDevice> {
        let (tenant, redemption, audit) = (self.tenant.clone(), redemption.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move { tx.redeem_device(&tenant, &redemption, now, &audit).await })
            })
            .await
    }

    async fn decided_devices(
        &self,
        devices: &[Digest<DeviceCode>],
    ) -> Result<Vec<Digest<DeviceCode>>> {
        if devices.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<_> = devices.iter().map(|device| hex(device.as_bytes())).collect();
        let decided = sql!(
            "SELECT unhex(j.value) AS device_code_hash FROM json_each(?2) j
             LEFT JOIN device_codes d ON d.tenant_uid = ?1 AND d.device_code_hash = unhex(j.value)
             WHERE d.status IS NOT 'pending' ORDER BY j.key",
            &self.tenant,
            to_json(&asked)?,
        );
        let rows = self.store.rows(decided).await?;
        rows.iter().map(|row| row.bytes("device_code_hash").map(Digest::from_bytes)).collect()
    }
}

#[async_trait]
impl DeviceDirectory for Sqlite {
    async fn tenants_of_user_code(
        &self,
        digests: &[(TenantUid, UserCodeDigest)],
        now: Timestamp,
    ) -> Result<Vec<TenantUid>> {
        let asked: Vec<_> = digests
            .iter()
            .map(|(tenant, code)| json!([tenant.as_str(), code.kid, hex(&code.mac)]))
            .collect();
        let waiting = sql!(
            "SELECT DISTINCT d.tenant_uid FROM json_each(?1) j
             JOIN device_codes d ON d.tenant_uid = j.value ->> 0
               AND d.user_code_kid = j.value ->> 1 AND d.user_code_hash = unhex(j.value ->> 2)
             WHERE d.status = 'pending' AND d.expires_at > ?2 ORDER BY d.tenant_uid LIMIT 2",
            to_json(&asked)?,
            now,
        );
        let rows = self.rows(waiting).await?;
        rows.iter().map(|row| row.get("tenant_uid").map(TenantUid::stored)).collect()
    }
}

impl Tx {
    async fn issue_device(
        &mut self,
        tenant: &TenantUid,
        device: &NewDevice,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<IssueDevice> {
        let Some(user_code) = device.user_code.first() else {
            return Err(StoreError::unavailable("a device without a user code"));
        };
        if self.row(by_user_code(tenant, &device.user_code)).await?.is_some() {
            return Ok(IssueDevice::UserCodeTaken);
        }
        self.run(sql!(
            "INSERT INTO device_codes (tenant_uid, device_code_hash, user_code_kid, user_code_hash,
               client_id, scope, resources, terms, poll_interval, requested_ip,
               requested_user_agent, created_at, expires_at, keep_until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            tenant,
            &device.digest,
            user_code.kid,
            &user_code.mac,
            &device.client,
            &device.scope,
            to_json(&device.resources)?,
            to_json(&device.terms)?,
            seconds(verdict_device::interval(device.interval)),
            audit.ip.as_ref(),
            audit.user_agent.as_ref(),
            now,
            device.expires_at,
            horizon::unspent_code(device.expires_at),
        ))
        .await?;
        let mut audited = about(&device.digest, Action::DeviceRequested, now, audit);
        audited.client = Some(device.client.clone());
        self.audit(tenant, &audited).await?;
        Ok(IssueDevice::Issued)
    }

    async fn poll_device(
        &mut self,
        tenant: &TenantUid,
        poll: &DevicePoll,
        now: Timestamp,
    ) -> Result<PollDevice> {
        let Some(row) = self.row(by_digest(tenant, &poll.device)).await? else {
            return Ok(PollDevice::Unknown);
        };
        let last = row.time_opt("last_polled_at")?;
        let (told, pace) = verdict_device::poll(read(&row)?, last, poll, now);
        if let Some(pace) = pace {
            self.run(sql!(
                "UPDATE device_codes SET poll_interval = ?3, last_polled_at = ?4
                 WHERE tenant_uid = ?1 AND device_code_hash = ?2",
                tenant,
                &poll.device,
                seconds(pace.interval),
                pace.last_polled_at,
            ))
            .await?;
        }
        Ok(told)
    }

    async fn approve_device(
        &mut self,
        tenant: &TenantUid,
        approval: &DeviceApproval,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<DecideDevice> {
        let DeviceApproval { device, session, grant } = approval;
        let find = sql!(
            "SELECT d.*, EXISTS (SELECT 1 FROM users u WHERE u.tenant_uid = ?1 AND u.id = ?3
                 AND u.is_active = 1 AND u.deleted_at IS NULL)
               AND EXISTS (SELECT 1 FROM sessions s WHERE s.tenant_uid = ?1 AND s.session_id = ?4
                 AND s.user_id = ?3 AND s.status = 'active' AND s.expires_at > ?5
                 AND s.idle_expires_at > ?5)
               AND NOT EXISTS (SELECT 1 FROM client_states c WHERE c.tenant_uid = ?1
                 AND c.client_id = d.client_id) AS live
             FROM device_codes d WHERE d.tenant_uid = ?1 AND d.device_code_hash = ?2
               AND d.client_id = ?6",
            tenant,
            device,
            grant.user,
            *session,
            now,
            &grant.client,
        );
        let Some(row) = self.row(find).await? else { return Ok(DecideDevice::Unknown) };
        let outcome = verdict_device::decide(&read(&row)?, row.get("live")?, now);
        if outcome != DecideDevice::Decided {
            return Ok(outcome);
        }
        if !self.insert_grant(tenant, grant, row.time("keep_until")?, now).await? {
            return Ok(DecideDevice::NotLive);
        }
        self.run(sql!(
            "UPDATE device_codes SET status = 'approved', user_id = ?3, grant_id = ?4,
               decided_at = ?5
             WHERE tenant_uid = ?1 AND device_code_hash = ?2",
            tenant,
            device,
            grant.user,
            grant.id,
            now,
        ))
        .await?;
        let mut audited = grants::audited(&grant.born(now), Action::DeviceApproved, now, audit);
        audited.session = Some(*session);
        self.audit(tenant, &audited).await?;
        self.note_decided(*device);
        Ok(DecideDevice::Decided)
    }

    /// The time of the decision and the user are those of the record.
    async fn deny_device(
        &mut self,
        tenant: &TenantUid,
        device: &Digest<DeviceCode>,
        mut audited: AuditRecord,
    ) -> Result<DecideDevice> {
        let Some(row) = self.row(by_digest(tenant, device)).await? else {
            return Ok(DecideDevice::Unknown);
        };
        let denied = read(&row)?;
        let outcome = verdict_device::decide(&denied, true, audited.at);
        if outcome != DecideDevice::Decided {
            return Ok(outcome);
        }
        self.run(sql!(
            "UPDATE device_codes SET status = 'denied', user_id = ?3, decided_at = ?4
             WHERE tenant_uid = ?1 AND device_code_hash = ?2",
            tenant,
            device,
            audited.user,
            audited.at,
        ))
        .await?;
        audited.client = Some(denied.client);
        self.audit(tenant, &audited).await?;
        self.note_decided(*device);
        Ok(DecideDevice::Decided)
    }

    async fn redeem_device(
        &mut self,
        tenant: &TenantUid,
        redemption: &DeviceRedemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemDevice> {
        let find = sql!(
            "SELECT d.*, EXISTS (SELECT 1 FROM users u WHERE u.tenant_uid = ?1 AND u.id = ?3
                 AND u.is_active = 1 AND u.deleted_at IS NULL)
               AND NOT EXISTS (SELECT 1 FROM client_states c WHERE c.tenant_uid = ?1
                 AND c.client_id = d.client_id) AS live
             FROM device_codes d WHERE d.tenant_uid = ?1 AND d.device_code_hash = ?2",
            tenant,
            &redemption.device,
            redemption.user,
        );
        let Some(row) = self.row(find).await? else { return Ok(RedeemDevice::Unknown) };
        let device = read(&row)?;
        let grant = match device.grant {
            Some(id) => {
                let find = "SELECT * FROM grants WHERE tenant_uid = ?1 AND id = ?2";
                self.row(sql!(find, tenant, id)).await?
            }
            None => None,
        };
        let keep = grant.as_ref().map(|row| row.time("keep_until")).transpose()?;
        let grant = grant.as_ref().map(grants::read).transpose()?;
        let live = row.get("live")?;
        let refused = verdict_device::refuse(&device, grant.as_ref(), live, redemption, now);
        if let Some(refused) = refused {
            return Ok(refused);
        }
        // It is live, so it is there.
        let (Some(grant), Some(keep)) = (grant, keep) else { return Ok(RedeemDevice::Revoked) };
        let end = redemption.refresh.as_ref().map(|_| grant.expires_at);
        let kept = row.time("keep_until")?;
        self.run(sql!(
            "UPDATE device_codes SET status = 'redeemed', redeemed_at = ?3, keep_until = ?4
             WHERE tenant_uid = ?1 AND device_code_hash = ?2",
            tenant,
            &redemption.device,
            now,
            horizon::spent_code(kept, redemption.access_expires_at, end),
        ))
        .await?;
        let refresh = self.issue_first(tenant, (&grant, keep), &redemption.issue(), now).await?;
        let audited = grants::audited(&grant, Action::DeviceRedeemed, now, audit);
        self.audit(tenant, &audited).await?;
        Ok(RedeemDevice::Redeemed { refresh })
    }
}

fn by_digest(tenant: &TenantUid, device: &Digest<DeviceCode>) -> Statement {
    sql!(
        "SELECT * FROM device_codes WHERE tenant_uid = ?1 AND device_code_hash = ?2",
        tenant,
        device,
    )
}

/// The device that one of these is the user code of.
fn by_user_code(tenant: &TenantUid, codes: &[UserCodeDigest]) -> Statement {
    let codes: Vec<_> = codes.iter().map(|code| json!([code.kid, hex(&code.mac)])).collect();
    sql!(
        "SELECT d.* FROM json_each(?2) j JOIN device_codes d ON d.tenant_uid = ?1
           AND d.user_code_kid = j.value ->> 0 AND d.user_code_hash = unhex(j.value ->> 1)
         ORDER BY j.key LIMIT 1",
        tenant,
        serde_json::Value::from(codes).to_string(),
    )
}

fn seconds(interval: Duration) -> i64 {
    i64::try_from(interval.as_secs()).unwrap_or(i64::MAX)
}

/// A record of something that happened to a device.
fn about(
    device: &Digest<DeviceCode>,
    action: Action,
    now: Timestamp,
    audit: &Audit,
) -> AuditRecord {
    AuditRecord { resource: Some(("device_code", device.short())), ..record(action, now, audit) }
}

fn read(row: &SqliteRow) -> Result<DeviceRecord> {
    Ok(DeviceRecord {
        client: ClientId::new(row.get("client_id")?),
        scope: Scope::parse(row.get("scope")?).map_err(|_| unreadable("scope"))?,
        resources: row.json("resources")?,
        terms: row.json("terms")?,
        status: DeviceStatus::parse(row.get("status")?).ok_or_else(|| unreadable("status"))?,
        user: row.id_opt("user_id")?,
        grant: row.id_opt("grant_id")?,
        interval: Duration::from_secs(row.number("poll_interval")?),
        requested_ip: row.get("requested_ip")?,
        requested_user_agent: row.get("requested_user_agent")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}
