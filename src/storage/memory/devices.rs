use std::time::Duration;

use async_trait::async_trait;

use super::rows::{DeviceRow, GrantRow, Rows};
use super::state::{Change, Concerned};
use super::{Memory, MemoryTenant};
use crate::base::{Digest, Timestamp};
use crate::model::audit::Action;
use crate::model::device::{DeviceCode, DeviceRecord, DeviceStatus, UserCodeDigest};
use crate::model::{Audit, TenantUid, UserId};
use crate::storage::{
    DecideDevice, DeviceApproval, DeviceCodes, DeviceDirectory, DevicePoll, DeviceRedemption,
    IssueDevice, NewDevice, PollDevice, RedeemDevice, Result, StoreError, horizon, verdict_device,
};

#[async_trait]
impl DeviceCodes for MemoryTenant {
    async fn issue_device(
        &self,
        device: &NewDevice,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<IssueDevice> {
        let cap = self.store.0.caps.devices;
        self.change(|rows, change| {
            if device.user_code.iter().any(|code| rows.user_codes.contains_key(code)) {
                return Ok(IssueDevice::UserCodeTaken);
            }
            if rows.devices.len() >= cap {
                rows.forget_devices(|row| row.is_of_no_more_use(now));
            }
            if rows.devices.len() >= cap {
                return Err(StoreError::unavailable("too many devices are waiting"));
            }
            let Some(user_code) = device.user_code.first() else {
                return Err(StoreError::unavailable("a device without a user code"));
            };
            if rows.devices.contains_key(&device.digest) {
                return Err(StoreError::unavailable("the device code is there already"));
            }
            rows.user_codes.insert(*user_code, device.digest);
            rows.devices.insert(device.digest, new_row(device, *user_code, now, audit));
            let of = Concerned {
                client: Some(device.client.clone()),
                ..Concerned::resource("device_code", &device.digest.short())
            };
            change.record(Action::DeviceRequested, now, audit, of);
            Ok(IssueDevice::Issued)
        })
    }

    async fn find_device(
        &self,
        user_code: &[UserCodeDigest],
    ) -> Result<Option<(Digest<DeviceCode>, DeviceRecord)>> {
        Ok(self.read(|rows| {
            let digest = user_code.iter().find_map(|code| rows.user_codes.get(code))?;
            Some((*digest, rows.devices.get(digest)?.record.clone()))
        }))
    }

    async fn peek_device(&self, device: &Digest<DeviceCode>) -> Result<Option<DeviceRecord>> {
        Ok(self.read(|rows| rows.devices.get(device).map(|row| row.record.clone())))
    }

    async fn poll_device(&self, poll: &DevicePoll, now: Timestamp) -> Result<PollDevice> {
        Ok(self.change(|rows, _| {
            let Some(row) = rows.devices.get_mut(&poll.device) else { return PollDevice::Unknown };
            let last = row.last_polled_at;
            let (told, pace) = verdict_device::poll(row.record.clone(), last, poll, now);
            if let Some(pace) = pace {
                row.record.interval = pace.interval;
                row.last_polled_at = Some(pace.last_polled_at);
            }
            told
        }))
    }

    async fn slow_devices(&self, slower: &[(Digest<DeviceCode>, Duration)]) -> Result<()> {
        self.change(|rows, _| {
            for (device, more) in slower {
                let row = rows.devices.get_mut(device);
                if let Some(row) = row.filter(|row| row.record.status == DeviceStatus::Pending) {
                    let whole = Duration::from_secs(more.as_secs());
                    let sum = row.record.interval.saturating_add(whole);
                    row.record.interval = verdict_device::interval(sum);
                }
            }
        });
        Ok(())
    }

    async fn approve_device(
        &self,
        approval: &DeviceApproval,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<DecideDevice> {
        let outcome = self.change(|rows, change| approve(rows, change, approval, now, audit))?;
        self.announce(outcome, approval.device);
        Ok(outcome)
    }

    async fn deny_device(
        &self,
        device: &Digest<DeviceCode>,
        user: Option<UserId>,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<DecideDevice> {
        let outcome = self.change(|rows, change| {
            let Some(row) = rows.devices.get_mut(device) else { return DecideDevice::Unknown };
            let outcome = verdict_device::decide(&row.record, true, now);
            if outcome == DecideDevice::Decided {
                row.record.status = DeviceStatus::Denied;
                row.record.user = user;
                let of = Concerned {
                    user,
                    client: Some(row.record.client.clone()),
                    ..Concerned::resource("device_code", &device.short())
                };
                change.record(Action::DeviceDenied, now, audit, of);
            }
            outcome
        });
        self.announce(outcome, *device);
        Ok(outcome)
    }

    async fn redeem_device(
        &self,
        redemption: &DeviceRedemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemDevice> {
        let epoch = self.store.epoch().current;
        Ok(self.change(|rows, change| redeem(rows, change, redemption, (now, epoch), audit)))
    }

    async fn decided_devices(
        &self,
        devices: &[Digest<DeviceCode>],
    ) -> Result<Vec<Digest<DeviceCode>>> {
        let state = self.store.lock();
        let rows = state.existing(&self.uid);
        let pending = |device: &Digest<DeviceCode>| {
            rows.and_then(|rows| rows.devices.get(device))
                .is_some_and(|row| row.record.status == DeviceStatus::Pending)
        };
        Ok(devices.iter().filter(|device| !pending(device)).copied().collect())
    }
}

#[async_trait]
impl DeviceDirectory for Memory {
    async fn tenants_of_user_code(
        &self,
        digests: &[(TenantUid, UserCodeDigest)],
        now: Timestamp,
    ) -> Result<Vec<TenantUid>> {
        let state = self.lock();
        let waits = |tenant: &TenantUid, code: &UserCodeDigest| {
            let rows = state.existing(tenant)?;
            let row = rows.devices.get(rows.user_codes.get(code)?)?;
            let open = row.record.status == DeviceStatus::Pending && now < row.record.expires_at;
            open.then_some(())
        };
        let found = digests.iter().filter(|(tenant, code)| waits(tenant, code).is_some());
        let mut tenants: Vec<_> = found.map(|(tenant, _)| tenant.clone()).collect();
        tenants.sort_unstable();
        tenants.dedup();
        tenants.truncate(2);
        Ok(tenants)
    }
}

impl MemoryTenant {
    /// Tells who waits for a decision that it was taken.
    fn announce(&self, outcome: DecideDevice, device: Digest<DeviceCode>) {
        if outcome == DecideDevice::Decided {
            self.store.0.watch.decided(Some(device));
        }
    }
}

fn new_row(
    device: &NewDevice,
    user_code: UserCodeDigest,
    now: Timestamp,
    audit: &Audit,
) -> DeviceRow {
    DeviceRow {
        record: DeviceRecord {
            client: device.client.clone(),
            scope: device.scope.clone(),
            resources: device.resources.clone(),
            terms: device.terms.clone(),
            status: DeviceStatus::Pending,
            user: None,
            grant: None,
            interval: verdict_device::interval(device.interval),
            requested_ip: audit.ip.clone(),
            requested_user_agent: audit.user_agent.clone(),
            created_at: now,
            expires_at: device.expires_at,
        },
        user_code,
        last_polled_at: None,
        keep_until: horizon::unspent_code(device.expires_at),
    }
}

fn approve(
    rows: &mut Rows,
    change: &mut Change,
    approval: &DeviceApproval,
    now: Timestamp,
    audit: &Audit,
) -> Result<DecideDevice> {
    let DeviceApproval { device, session, grant } = approval;
    let Some(row) = rows.devices.get(device).filter(|row| row.record.client == grant.client) else {
        return Ok(DecideDevice::Unknown);
    };
    let of_user = rows.sessions.get(session).filter(|row| Some(row.session.user) == grant.user);
    let live = grant.user.is_some_and(|user| rows.user_is_live(user))
        && of_user.is_some_and(|row| row.is_live(now))
        && rows.client_is_live(&grant.client);
    let outcome = verdict_device::decide(&row.record, live, now);
    if outcome != DecideDevice::Decided {
        return Ok(outcome);
    }
    if rows.grants.contains_key(&grant.id) {
        return Err(StoreError::unavailable("the grant is there already"));
    }
    let keep_until = row.keep_until;
    rows.grants.insert(grant.id, GrantRow { grant: grant.born(now), keep_until });
    if let Some(row) = rows.devices.get_mut(device) {
        row.record.status = DeviceStatus::Approved;
        row.record.user = grant.user;
        row.record.grant = Some(grant.id);
    }
    let of = Concerned::grant(grant.id, grant.user, &grant.client, Some(*session));
    change.record(Action::DeviceApproved, now, audit, of);
    Ok(DecideDevice::Decided)
}

fn redeem(
    rows: &mut Rows,
    change: &mut Change,
    redemption: &DeviceRedemption,
    (now, epoch): (Timestamp, &str),
    audit: &Audit,
) -> RedeemDevice {
    let Some(row) = rows.devices.get(&redemption.device) else { return RedeemDevice::Unknown };
    let record = &row.record;
    let id = record.grant;
    let grant = id.and_then(|id| rows.grants.get(&id)).map(|row| &row.grant);
    let live = rows.user_is_live(redemption.user) && rows.client_is_live(&record.client);
    if let Some(refused) = verdict_device::refuse(record, grant, live, redemption, now) {
        return refused;
    }
    // It is live, so it is there.
    let (Some(id), Some(grant)) = (id, grant) else { return RedeemDevice::Revoked };
    let of = Concerned::grant(id, grant.user, &grant.client, grant.session);
    let issue = redemption.issue();
    let end = rows.first_refresh(id, &issue, now, epoch);
    if let Some(row) = rows.devices.get_mut(&redemption.device) {
        row.record.status = DeviceStatus::Redeemed;
        row.keep_until = horizon::spent_code(row.keep_until, redemption.access_expires_at, end);
    }
    let refresh = rows.write_access(id, &issue);
    change.record(Action::DeviceRedeemed, now, audit, of);
    RedeemDevice::Redeemed { refresh }
}
