use std::collections::btree_map::Entry;

use async_trait::async_trait;

use super::MemoryTenant;
use super::api_keys::take_api_keys;
use super::state::Concerned;
use crate::base::Timestamp;
use crate::model::audit::Action;
use crate::model::{Audit, Client, ClientId, RevocationKey};
use crate::storage::{Change, ClientState, Clients, CreateClient, Result, SetClientState};

#[async_trait]
impl Clients for MemoryTenant {
    async fn create_client(
        &self,
        client: &Client,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateClient> {
        Ok(self.change(|rows, change| {
            let Entry::Vacant(entry) = rows.clients.entry(client.id.clone()) else {
                return CreateClient::Exists;
            };
            entry.insert(client.clone());
            change.record(Action::ClientCreated, now, audit, Concerned::client(&client.id));
            change.hint();
            CreateClient::Created
        }))
    }

    async fn find_client(&self, id: &ClientId) -> Result<Option<Client>> {
        Ok(self.read(|rows| rows.clients.get(id).cloned()))
    }

    async fn list_clients(&self) -> Result<Vec<Client>> {
        Ok(self.read(|rows| rows.clients.values().cloned().collect()))
    }

    async fn delete_client(&self, id: &ClientId, now: Timestamp, audit: &Audit) -> Result<bool> {
        Ok(self.change(|rows, change| {
            if rows.clients.remove(id).is_none() {
                return false;
            }
            // Its signed tokens outlive its rows: each live grant leaves its entry.
            for (grant, horizon) in rows.revoke_grants(|grant| grant.client == *id) {
                change.revoke(RevocationKey::Grant(grant.to_string()), horizon, now);
            }
            for entry in take_api_keys(rows, id, now) {
                change.append(entry);
            }
            rows.grants.retain(|_, row| row.grant.client != *id);
            rows.codes.retain(|_, row| row.client != *id);
            rows.forget_devices(|row| row.record.client == *id);
            rows.consents.retain(|(_, client), _| client != id);
            rows.access_tokens.retain(|_, claims| claims.client != *id || claims.status.is_some());
            rows.disabled_clients.remove(id);
            change.record(Action::ClientDeleted, now, audit, Concerned::client(id));
            change.hint();
            true
        }))
    }

    async fn set_client_disabled(
        &self,
        id: &ClientId,
        disabled: bool,
        change: &Change<'_>,
    ) -> Result<SetClientState> {
        Ok(self.change(|rows, commit| {
            if rows.disabled_clients.contains_key(id) == disabled {
                return SetClientState::Unchanged;
            }
            let action = if disabled {
                rows.disabled_clients.insert(id.clone(), change.now);
                rows.revoke_grants(|grant| grant.client == *id);
                commit.not_before(RevocationKey::Client(id.to_string()), change);
                Action::ClientDisabled
            } else {
                rows.disabled_clients.remove(id);
                Action::ClientEnabled
            };
            commit.record(action, change.now, change.audit, Concerned::client(id));
            commit.hint();
            SetClientState::Changed
        }))
    }

    async fn client_states(&self) -> Result<Vec<ClientState>> {
        Ok(self.read(|rows| {
            let disabled = rows.disabled_clients.iter();
            disabled
                .map(|(client, at)| ClientState { client: client.clone(), disabled_at: *at })
                .collect()
        }))
    }
}
