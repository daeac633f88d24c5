use async_trait::async_trait;

use super::{Change, Result};
use crate::base::Timestamp;
use crate::model::{Audit, Client, ClientId};

/// Run-time clients, and which clients (of YAML too) are disabled.
#[async_trait]
pub trait Clients: Send + Sync {
    /// Stores a run-time client. Audits `client.created`.
    async fn create_client(
        &self,
        client: &Client,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateClient>;

    /// The run-time client of this id.
    async fn find_client(&self, id: &ClientId) -> Result<Option<Client>>;

    /// The run-time clients, by id.
    async fn list_clients(&self) -> Result<Vec<Client>>;

    /// Deletes a run-time client with its grants, codes (of devices, too), consents, opaque tokens and
    /// the API keys that name it; whether there was one. Each live grant leaves a `grant` entry that
    /// expires at its horizon, because signed tokens outlive the rows, and each live key an `api_key`
    /// entry that expires 60 s after the key would have. Audits `client.deleted`.
    async fn delete_client(&self, id: &ClientId, now: Timestamp, audit: &Audit) -> Result<bool>;

    /// Disables (or enables) any client. Disabling writes a `client` not-before of `change.now` + 10 s
    /// that expires at `change.not_after`; the client's grants are revoked. Audits `client.disabled` or
    /// `client.enabled`.
    async fn set_client_disabled(
        &self,
        id: &ClientId,
        disabled: bool,
        change: &Change<'_>,
    ) -> Result<SetClientState>;

    /// The clients that are disabled now.
    async fn client_states(&self) -> Result<Vec<ClientState>>;
}

/// The outcome of [`Clients::create_client`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CreateClient {
    /// Stored.
    Created,
    /// There is one of this id already.
    Exists,
}

/// The outcome of [`Clients::set_client_disabled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum SetClientState {
    /// It is so now.
    Changed,
    /// It was so already.
    Unchanged,
}

/// A client that is disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientState {
    /// Which.
    pub client: ClientId,
    /// Since when.
    pub disabled_at: Timestamp,
}
