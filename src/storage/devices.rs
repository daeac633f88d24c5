use std::time::Duration;

use async_trait::async_trait;

use super::{NewGrant, NewOpaqueToken, NewRefresh, Result};
use crate::base::{Digest, Timestamp};
use crate::model::device::{DeviceCode, DeviceRecord, DeviceTerms, UserCodeDigest};
use crate::model::refresh::RefreshHead;
use crate::model::{Audit, ClientId, Scope, SessionId, TenantUid, UserId};

/// Device codes (RFC 8628): asked for, found by their user, decided once, polled, redeemed once.
#[async_trait]
pub trait DeviceCodes: Send + Sync {
    /// Keeps a new pending code, unless one of its user code's digests is known in this tenant
    /// already. Audits `device.requested`.
    async fn issue_device(
        &self,
        device: &NewDevice,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<IssueDevice>;

    /// The device whose user code has one of these digests (one per key of the ring), whatever has
    /// become of it, with the digest of its device code.
    async fn find_device(
        &self,
        user_code: &[UserCodeDigest],
    ) -> Result<Option<(Digest<DeviceCode>, DeviceRecord)>>;

    /// The device, whatever has become of it, as long as its row stands.
    async fn peek_device(&self, device: &Digest<DeviceCode>) -> Result<Option<DeviceRecord>>;

    /// A poll: one statement that reads where the device stands and, while that is pending, keeps
    /// its pace (`last_polled_at` never moves backwards; a slower interval is remembered). Its
    /// commit need not be durable.
    async fn poll_device(&self, poll: &DevicePoll, now: Timestamp) -> Result<PollDevice>;

    /// Adds to stored intervals what only this node's memory knew; before a shutdown.
    async fn slow_devices(&self, slower: &[(Digest<DeviceCode>, Duration)]) -> Result<()>;

    /// The user said yes: if the device is pending and unexpired, the user enabled, the session live
    /// and the client not disabled, makes the grant and marks the device approved by that user, in
    /// one statement (lock order: user, session, device). Audits `device.approved`.
    async fn approve_device(
        &self,
        approval: &DeviceApproval,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<DecideDevice>;

    /// The user said no: if the device is pending and unexpired. Audits `device.denied`.
    async fn deny_device(
        &self,
        device: &Digest<DeviceCode>,
        user: Option<UserId>,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<DecideDevice>;

    /// Issues under an approved device, once: one statement that locks the user's row, the device
    /// and its grant, decides, and writes. To be called only after every check of the request
    /// against the device's terms. Audits `device.redeemed`.
    async fn redeem_device(
        &self,
        redemption: &DeviceRedemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemDevice>;

    /// Those of `devices` that are not pending any more (decided, or gone); one query for many
    /// waiters.
    async fn decided_devices(
        &self,
        devices: &[Digest<DeviceCode>],
    ) -> Result<Vec<Digest<DeviceCode>>>;
}

/// Devices of several tenants, for the one short address that they share.
#[async_trait]
pub trait DeviceDirectory: Send + Sync {
    /// The tenants in which one of their digests is that of a pending, unexpired device; at most
    /// two, since two are as good as none.
    async fn tenants_of_user_code(
        &self,
        digests: &[(TenantUid, UserCodeDigest)],
        now: Timestamp,
    ) -> Result<Vec<TenantUid>>;
}

/// A device code to be kept.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// The digest of the device code.
    pub digest: Digest<DeviceCode>,
    /// The digests of the user code, one for each key of the ring, newest first. The first is
    /// stored; none may be known.
    pub user_code: Vec<UserCodeDigest>,
    /// Who asks.
    pub client: ClientId,
    /// For what.
    pub scope: Scope,
    /// For which resources.
    pub resources: Vec<String>,
    /// What else.
    pub terms: DeviceTerms,
    /// Seconds between polls.
    pub interval: Duration,
    /// The end of its life.
    pub expires_at: Timestamp,
}

/// The outcome of [`DeviceCodes::issue_device`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum IssueDevice {
    /// Kept.
    Issued,
    /// The user code is known already: draw another.
    UserCodeTaken,
}

/// A poll that is not too early as far as this node's memory goes.
#[derive(Debug, Clone)]
pub struct DevicePoll {
    /// The device.
    pub device: Digest<DeviceCode>,
    /// The client that polls, authenticated as far as it can be.
    pub client: ClientId,
    /// What is to be added to the stored interval: polls that this node answered with `slow_down`
    /// by itself.
    pub slower: Duration,
    /// Whether this poll cannot be early, whatever storage remembers: it follows a completed wait.
    pub never_early: bool,
}

/// What a poll meets. Expiry comes before everything but Redeemed and Denied; a device that was
/// approved in time and has expired since is Expired.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum PollDevice {
    /// Nobody decided; the poll was noted.
    Pending(DeviceRecord),
    /// Nobody decided, and it came less than the interval after the last one: noted, and the
    /// interval in the record is 5 s longer from now on. The first poll is never early.
    TooEarly(DeviceRecord),
    /// Redeem it. Never early.
    Approved(DeviceRecord),
    /// The user said no.
    Denied,
    /// Tokens were issued before.
    Redeemed,
    /// Its time is over.
    Expired,
    /// No such device for this client; nothing was written.
    Unknown,
}

/// An approval.
#[derive(Debug, Clone)]
pub struct DeviceApproval {
    /// The device.
    pub device: Digest<DeviceCode>,
    /// The session in which the user says yes; must be live. The grant does not die with it: the
    /// device is no part of that browser.
    pub session: SessionId,
    /// The grant to be made; its client must be the device's, and it has a user.
    pub grant: NewGrant,
}

/// The outcome of [`DeviceCodes::approve_device`] and [`DeviceCodes::deny_device`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum DecideDevice {
    /// Decided now, by this call.
    Decided,
    /// Somebody decided before; nothing was written.
    AlreadyDecided,
    /// Its time is over; nothing was written.
    Expired,
    /// The user, session or client is no longer live; nothing was written.
    NotLive,
    /// No such device.
    Unknown,
}

/// What is to be written when an approved device is redeemed.
#[derive(Debug, Clone)]
pub struct DeviceRedemption {
    /// The device.
    pub device: Digest<DeviceCode>,
    /// The client that polls; checked again under the lock.
    pub client: ClientId,
    /// The user of the polled record, whose row is locked first.
    pub user: UserId,
    /// The first refresh token, when one is issued.
    pub refresh: Option<NewRefresh>,
    /// The access token's row, when it has one.
    pub opaque: Option<NewOpaqueToken>,
    /// When the access token ends: raises the grant's horizon.
    pub access_expires_at: Timestamp,
}

/// The outcome of [`DeviceCodes::redeem_device`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum RedeemDevice {
    /// Spent now, by this call; everything was written.
    Redeemed {
        /// The refresh columns as written, when a refresh token was asked for.
        refresh: Option<RefreshHead>,
    },
    /// It was redeemed before; nothing was written.
    AlreadyRedeemed,
    /// It is not approved.
    NotApproved,
    /// Its time was over before it was redeemed.
    Expired,
    /// Its grant, user or client is no longer live.
    Revoked,
    /// No such device for this client.
    Unknown,
}
