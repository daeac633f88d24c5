//! OAuth 2: authorize, token and its grants, introspect, revoke, metadata.
//!
//! Owns the protocol's decisions. `engine/` is the one folder that knows oxide-auth; storage decides
//! what must happen once; `token/` makes and reads tokens; `http/` speaks HTTP.

pub mod api_keys;
pub mod authorize;
pub mod bearer;
pub mod client;
pub mod device;
pub mod draft;
pub(crate) mod engine;
pub mod error;
mod error_code;
mod grants;
pub mod introspect;
pub mod metadata;
pub mod params;
pub mod resource_metadata;
pub mod revocations;
pub mod revoke;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;
pub mod verify;
pub mod waiting;

use std::net::IpAddr;
use std::sync::Arc;

pub use client::{AuthenticatedClient, Presented};
pub use error::{Cause, ErrorCode, TokenError};
pub use params::{InvalidParams, Params};

use crate::audit::Recorder;
use crate::base::{Entropy, Timestamp};
use crate::keys::{Peppers, Ring};
use crate::limits::Limiter;
use crate::model::Audit;
use crate::revocation::View;
use crate::revocation::status::Statuses;
use crate::storage::Storage;
use crate::tenant::Tenant;
use crate::token::api_key::ApiKeys;

/// What every endpoint needs beside the tenant; one for the whole process.
pub struct Services {
    /// Where randomness comes from.
    pub entropy: Arc<dyn Entropy>,
    /// The key ring.
    pub ring: Arc<Ring>,
    /// This node's view of the revocation log.
    pub revocations: Arc<View>,
    /// Limits of this process.
    pub limiter: Arc<Limiter>,
    /// Audit records of failures.
    pub recorder: Recorder,
    /// The store, for the few questions that are no tenant's.
    pub store: Arc<dyn Storage>,
    /// Which refresh heads were seen in use.
    pub heads: draft::SeenHeads,
    /// Serialised discovery documents.
    pub published: metadata::Published,
    /// Status lists, and places in them.
    pub statuses: Statuses,
    /// Devices that poll and wait.
    pub devices: device::Devices,
    /// Makes and checks API keys.
    pub api_keys: Arc<ApiKeys>,
}

impl Services {
    /// Puts the parts together.
    pub fn new(
        entropy: Arc<dyn Entropy>,
        ring: Arc<Ring>,
        revocations: Arc<View>,
        limiter: Arc<Limiter>,
        recorder: Recorder,
        store: Arc<dyn Storage>,
    ) -> Self {
        let (heads, published) = (draft::SeenHeads::default(), metadata::Published::default());
        let devices = device::Devices::new(store.watch(), revocations.clock());
        let api_keys = ApiKeys::new(Peppers::default());
        let statuses = Statuses::new(Arc::clone(&revocations), Arc::clone(&entropy));
        Self {
            entropy,
            ring,
            revocations,
            limiter,
            recorder,
            store,
            heads,
            published,
            statuses,
            devices,
            api_keys,
        }
    }

    /// The same with API keys under these peppers; without, there are none.
    #[must_use]
    pub fn with_peppers(mut self, peppers: Peppers) -> Self {
        self.api_keys = ApiKeys::new(peppers);
        self
    }
}

/// One request on its way through the protocol: for whom, when, from where.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// What every endpoint needs.
    pub services: &'a Services,
    /// The tenant that is addressed.
    pub tenant: &'a Arc<Tenant>,
    /// The one `now` of the request.
    pub now: Timestamp,
    /// Who and where, for audit records.
    pub audit: &'a Audit,
}

impl Call<'_> {
    /// The peer's address as text; empty when there is none.
    pub fn address(&self) -> &str {
        self.audit.ip.as_deref().unwrap_or("")
    }

    /// The peer's address.
    pub fn peer(&self) -> Option<IpAddr> {
        self.address().parse().ok()
    }
}
