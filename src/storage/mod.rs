//! State behind one interface, with three engines: memory, SQLite and Postgres.
//!
//! This module owns the traits and their outcome enums; each engine has a folder of its own. What
//! must happen once is one method that locks, decides and writes, and returns an outcome; `Err`
//! means only that the store could not answer. Storage sees digests, never secrets. `now` and
//! randomness come in as values. Policy (what may be issued to whom) is not decided here.

mod access_tokens;
mod api_keys;
mod attempts;
mod audit_log;
mod cleanup;
mod clients;
mod codes;
mod consents;
mod devices;
mod error;
mod grants;
pub mod horizon;
mod jtis;
mod keys;
pub mod memory;
pub mod postgres;
mod pushed;
mod revocations;
mod ring;
pub mod schema;
mod sessions;
pub mod sqlite;
mod status_lists;
mod tenants;
mod users;
pub mod verdict;
pub mod verdict_device;
mod watch;

use std::ops::Deref;
use std::sync::Arc;

use async_trait::async_trait;

pub use access_tokens::{AccessTokens, NewOpaqueToken, OpaqueRecord};
pub use api_keys::{
    ApiKeyRecord, ApiKeyUse, ApiKeys, CreateApiKey, KnownPepper, NewApiKey, OwnerId, PepperCheck,
    Peppers, RevokeApiKey, RotateApiKey,
};
pub use attempts::Attempts;
pub use audit_log::{AuditLog, resource_kind};
pub use cleanup::{Cleaned, Horizon, KINDS, Kind};
pub use clients::{ClientState, Clients, CreateClient, SetClientState};
pub use codes::{
    Codes, CountVerifier, IssueCode, NewCode, NewGrant, RedeemCode, Redemption, Retry,
};
pub use consents::{Consents, WithdrawConsent};
pub use devices::{
    DecideDevice, DeviceApproval, DeviceCodes, DeviceDirectory, DevicePoll, DeviceRedemption,
    IssueDevice, NewDevice, PollDevice, RedeemDevice,
};
pub use error::{Result, StoreError};
pub use grants::{Grants, NewRefresh, Proof, RefreshVerdict, RevokeGrant, Rotation};
pub use jtis::{Jtis, RememberJti};
pub use keys::{AddKey, RotateKey, SigningKeys};
pub use pushed::{PushedRequest, PushedRequests, TakePushed};
pub use revocations::{LogCursor, LogEntry, LogPage, RevocationLog, Revocations, Tail};
pub use ring::{RingCheck, RingChecks};
pub use sessions::{CreateSession, EndReason, EndSession, NewSession, Sessions};
pub use status_lists::{PlacesTaken, PlacesWanted, StatusList, StatusLists};
pub use tenants::{ChangeTenant, Tenants};
pub use users::{ChangeUser, CreateUser, NewUser, Users};
pub use watch::{Sink, Watch};

use crate::base::Timestamp;
use crate::model::{Audit, TenantUid};

/// Which engine is behind the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// In this process; gone with it.
    Memory,
    /// One file.
    Sqlite,
    /// A PostgreSQL database, shared by any number of nodes.
    Postgres,
}

impl Engine {
    /// As in `storage.type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// A store of state.
#[async_trait]
pub trait Storage:
    DeviceDirectory + Peppers + RevocationLog + RingChecks + Tenants + Send + Sync
{
    /// Which engine this is.
    fn engine(&self) -> Engine;

    /// The view of one tenant. Cheap, no I/O; nothing reached through it sees another tenant.
    fn tenant(&self, tenant: &TenantUid) -> TenantHandle;

    /// Deletes at most `limit` rows of each kind that nothing needs any more at `now` (see
    /// [`KINDS`]), or only counts them when `dry_run`. Safe on many nodes at once.
    async fn cleanup_expired_data(
        &self,
        now: Timestamp,
        limit: u32,
        dry_run: bool,
    ) -> Result<Cleaned>;

    /// Whether the store answers and its schema is the one this build knows.
    async fn ready(&self) -> Result<()>;

    /// The store's own time, where it has one that nodes should be disciplined to (Postgres).
    async fn clock(&self) -> Result<Option<Timestamp>>;

    /// Takes or keeps the lease `name` until `until` for `holder`; whether it is the holder's now.
    /// One leader among nodes; always granted where there is only one process.
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool>;

    /// Hints and the revocation sink of this process.
    fn watch(&self) -> &Watch;

    /// Statements sent to the database so far; for the round-trip budget.
    fn round_trips(&self) -> u64;

    /// Finishes what is under way and lets go of files and connections.
    async fn close(&self);
}

/// When, until when, and for the record: what every change that revokes takes.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The time of the change.
    pub now: Timestamp,
    /// When the last token that the change can kill has ended, plus 60 s: its revocations expire
    /// then.
    pub not_after: Timestamp,
    /// Who and from where.
    pub audit: &'a Audit,
}

/// Everything about one tenant, one narrow trait per aggregate. A function asks for the least it
/// needs: `&dyn Codes`, not `&TenantHandle`.
pub trait TenantStore:
    AccessTokens
    + ApiKeys
    + Attempts
    + AuditLog
    + Clients
    + Codes
    + Consents
    + DeviceCodes
    + Grants
    + Jtis
    + PushedRequests
    + Revocations
    + Sessions
    + SigningKeys
    + StatusLists
    + Users
    + Send
    + Sync
{
}

impl<T> TenantStore for T where
    T: AccessTokens
        + ApiKeys
        + Attempts
        + AuditLog
        + Clients
        + Codes
        + Consents
        + DeviceCodes
        + Grants
        + Jtis
        + PushedRequests
        + Revocations
        + Sessions
        + SigningKeys
        + StatusLists
        + Users
        + Send
        + Sync
{
}

/// One tenant's part of the store.
#[derive(Clone)]
pub struct TenantHandle(Arc<dyn TenantStore>);

impl TenantHandle {
    /// Wraps an engine's view of one tenant.
    pub fn new(store: Arc<dyn TenantStore>) -> Self {
        Self(store)
    }
}

impl Deref for TenantHandle {
    type Target = dyn TenantStore;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
