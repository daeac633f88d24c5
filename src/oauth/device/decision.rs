use super::user_code_digests;
use crate::base::Digest;
use crate::model::audit::{Action, AuditRecord};
use crate::model::client::{GrantType, RefreshPolicy};
use crate::model::device::{DeviceCode, DeviceRecord, DeviceStatus, UserCode};
use crate::model::grant::GrantTerms;
use crate::model::{Client, GrantId, Scope, Session};
use crate::oauth::Call;
use crate::session::KnownDevice;
use crate::storage::{DecideDevice, DeviceApproval, NewGrant, Result};

/// What a typed code leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A device that waits for a decision.
    Pending(KnownDevice, Box<DeviceRecord>),
    /// Somebody said no to it a moment ago.
    Denied,
    /// Nothing to go on with. The user is not told why, the audit log is.
    Dead(&'static str),
}

/// Looks for the device of a typed code: one query, whatever becomes of it. Text that cannot be a
/// code is no device's.
pub async fn find(call: &Call<'_>, typed: Option<&UserCode>) -> Result<Lookup> {
    let Some(code) = typed else { return Ok(Lookup::Dead("malformed")) };
    let digests = user_code_digests(&call.services.ring, &call.tenant.uid, code);
    let Some((digest, record)) = call.tenant.store.find_device(&digests).await? else {
        return Ok(Lookup::Dead("unknown"));
    };
    Ok(match (record.status, call.now < record.expires_at) {
        (_, false) => Lookup::Dead("expired"),
        (DeviceStatus::Pending, true) => {
            let known = KnownDevice { digest, code: code.clone(), client: record.client.clone() };
            Lookup::Pending(known, Box::new(record))
        }
        (DeviceStatus::Denied, true) => Lookup::Denied,
        (DeviceStatus::Approved | DeviceStatus::Redeemed, true) => Lookup::Dead("used"),
    })
}

/// Where a device that was found stands by now, for this visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It waits for the decision.
    Open(Box<DeviceRecord>),
    /// This user allowed it.
    Allowed,
    /// Somebody denied it.
    Denied,
    /// Its time is over, or somebody else allowed it.
    Gone,
}

/// Where the device stands.
pub async fn standing(
    call: &Call<'_>,
    device: &Digest<DeviceCode>,
    session: Option<&Session>,
) -> Result<Standing> {
    let Some(record) = call.tenant.store.peek_device(device).await? else {
        return Ok(Standing::Gone);
    };
    Ok(match record.status {
        DeviceStatus::Denied => Standing::Denied,
        DeviceStatus::Approved | DeviceStatus::Redeemed => {
            let own = session.is_some_and(|session| record.user == Some(session.user));
            if own { Standing::Allowed } else { Standing::Gone }
        }
        DeviceStatus::Pending if call.now < record.expires_at => Standing::Open(Box::new(record)),
        DeviceStatus::Pending => Standing::Gone,
    })
}

/// The user allows it. The decision page was the consent, for this one device: nothing is
/// remembered.
pub async fn approve(
    call: &Call<'_>,
    device: &Digest<DeviceCode>,
    record: &DeviceRecord,
    client: &Client,
    session: &Session,
) -> Result<DecideDevice> {
    let grant = grant(call, record, client, session);
    let approval = DeviceApproval { device: *device, session: session.id, grant };
    call.tenant.store.approve_device(&approval, call.now, call.audit).await
}

/// Somebody who has the code says no, signed in or not: whoever did not start it ends it.
pub async fn deny(
    call: &Call<'_>,
    device: &Digest<DeviceCode>,
    session: Option<&Session>,
) -> Result<DecideDevice> {
    let user = session.map(|session| session.user);
    call.tenant.store.deny_device(device, user, call.now, call.audit).await
}

/// Records that somebody looks at what a device asks for.
pub fn viewed(call: &Call<'_>, record: &DeviceRecord, session: Option<&Session>) {
    call.services.recorder.record(
        &call.tenant.uid,
        AuditRecord {
            at: call.now,
            action: Action::DeviceViewed,
            user: session.map(|session| session.user),
            client: Some(record.client.clone()),
            session: session.map(|session| session.id),
            resource: None,
            success: true,
            detail: None,
            context: call.audit.clone(),
        },
    );
}

/// The grant of an approval. It has no session: the device is no part of that browser, and signing
/// out there does not sign it out.
fn grant(call: &Call<'_>, record: &DeviceRecord, client: &Client, session: &Session) -> NewGrant {
    let lifetimes = &call.tenant.settings.lifetimes;
    let offline = record.scope.contains(Scope::OFFLINE_ACCESS);
    let refreshes = client.may_use(GrantType::RefreshToken)
        && (offline || client.refresh_tokens == RefreshPolicy::Always);
    let expires_at = match (refreshes, offline) {
        (true, true) => call.now.plus(lifetimes.refresh_absolute),
        // Without offline_access it lasts as long as a sign-in does.
        (true, false) => call.now.plus(lifetimes.refresh_absolute.min(lifetimes.session_absolute)),
        // Nothing comes out of it but what the device code is redeemed for.
        (false, _) => record.expires_at,
    };
    NewGrant {
        id: GrantId(call.services.entropy.uuid()),
        client: record.client.clone(),
        user: Some(session.user),
        session: None,
        terms: GrantTerms {
            version: 1,
            scope: record.scope.clone(),
            resources: record.resources.clone(),
            claims: None,
            acr: session.acr.clone(),
            amr: session.amr.clone(),
            auth_time: session.auth_time,
            session_ends: None,
        },
        jkt: None,
        offline,
        expires_at,
    }
}
