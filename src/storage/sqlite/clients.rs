use async_trait::async_trait;

use super::audit_log::record;
use super::grants::of_client;
use super::revocations::not_before;
use super::row::{Columns, to_json};
use super::{SqliteTenant, Tx, sql};
use crate::base::{Timestamp, base64url};
use crate::model::{Action, Audit, Client, ClientId, RevocationKey, TenantUid};
use crate::storage::{Change, ClientState, Clients, CreateClient, Result, SetClientState};

#[async_trait]
impl Clients for SqliteTenant {
    async fn create_client(
        &self,
        client: &Client,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateClient> {
        let scopes: Vec<&str> = client.scopes.iter().collect();
        let create = sql!(
            "INSERT INTO clients (tenant_uid, client_id, name, client_type, client_secret_hash,
               redirect_uris, grant_types, scopes, metadata, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10) ON CONFLICT DO NOTHING",
            &self.tenant,
            &client.id,
            &client.name,
            if client.is_public() { "public" } else { "confidential" },
            client.secrets.first().map(|digest| base64url::encode(digest.as_bytes())),
            to_json(&client.redirect_uris)?,
            to_json(&client.grants)?,
            to_json(&scopes)?,
            to_json(client)?,
            now,
        );
        let tenant = self.tenant.clone();
        let mut audited = record(Action::ClientCreated, now, audit);
        audited.client = Some(client.id.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    if tx.run(create).await? == 0 {
                        return Ok(CreateClient::Exists);
                    }
                    tx.audit(&tenant, &audited).await?;
                    tx.hint();
                    Ok(CreateClient::Created)
                })
            })
            .await
    }

    async fn find_client(&self, id: &ClientId) -> Result<Option<Client>> {
        let find = sql!(
            "SELECT metadata FROM clients WHERE tenant_uid = ?1 AND client_id = ?2",
            &self.tenant,
            id,
        );
        self.store.row(find).await?.map(|row| row.json("metadata")).transpose()
    }

    async fn list_clients(&self) -> Result<Vec<Client>> {
        let all = sql!(
            "SELECT metadata FROM clients WHERE tenant_uid = ?1 ORDER BY client_id",
            &self.tenant,
        );
        self.store.rows(all).await?.iter().map(|row| row.json("metadata")).collect()
    }

    async fn delete_client(&self, id: &ClientId, now: Timestamp, audit: &Audit) -> Result<bool> {
        let (tenant, id) = (self.tenant.clone(), id.clone());
        let mut audited = record(Action::ClientDeleted, now, audit);
        audited.client = Some(id.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    if !tx.delete_client(&tenant, &id, now).await? {
                        return Ok(false);
                    }
                    tx.audit(&tenant, &audited).await?;
                    tx.hint();
                    Ok(true)
                })
            })
            .await
    }

    async fn set_client_disabled(
        &self,
        id: &ClientId,
        disabled: bool,
        change: &Change<'_>,
    ) -> Result<SetClientState> {
        let (tenant, id, now) = (self.tenant.clone(), id.clone(), change.now);
        let key = RevocationKey::Client(id.to_string());
        let entry = not_before(key, now, change.not_after);
        let action = if disabled { Action::ClientDisabled } else { Action::ClientEnabled };
        let mut audited = record(action, now, change.audit);
        audited.client = Some(id.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let set = if disabled {
                        "INSERT INTO client_states (tenant_uid, client_id, disabled_at)
                     VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
                    } else {
                        "DELETE FROM client_states WHERE tenant_uid = ?1 AND client_id = ?2"
                    };
                    if tx.run(sql!(set, &tenant, &id, now)).await? == 0 {
                        return Ok(SetClientState::Unchanged);
                    }
                    if disabled {
                        // The not-before says it all to those who check tokens.
                        tx.rows(of_client(&tenant, &id, now)).await?;
                        tx.revoke(&tenant, entry).await?;
                    }
                    tx.audit(&tenant, &audited).await?;
                    tx.hint();
                    Ok(SetClientState::Changed)
                })
            })
            .await
    }

    async fn client_states(&self) -> Result<Vec<ClientState>> {
        let all = sql!(
            "SELECT client_id, disabled_at FROM client_states WHERE tenant_uid = ?1
             ORDER BY client_id",
            &self.tenant,
        );
        let state = |row: &sqlx::sqlite::SqliteRow| {
            Ok(ClientState {
                client: ClientId::new(row.get("client_id")?),
                disabled_at: row.time("disabled_at")?,
            })
        };
        self.store.rows(all).await?.iter().map(state).collect()
    }
}

impl Tx {
    async fn delete_client(
        &mut self,
        tenant: &TenantUid,
        id: &ClientId,
        now: Timestamp,
    ) -> Result<bool> {
        let delete = "DELETE FROM clients WHERE tenant_uid = ?1 AND client_id = ?2";
        if self.run(sql!(delete, tenant, id)).await? == 0 {
            return Ok(false);
        }
        // Its signed tokens outlive its rows: each live grant leaves its entry.
        self.revoke_grants(tenant, of_client(tenant, id, now), now, None).await?;
        self.revoke_api_keys_of(tenant, id, now).await?;
        for delete in [
            "DELETE FROM grants WHERE tenant_uid = ?1 AND client_id = ?2",
            "DELETE FROM authorization_codes WHERE tenant_uid = ?1 AND client_id = ?2",
            "DELETE FROM device_codes WHERE tenant_uid = ?1 AND client_id = ?2",
            "DELETE FROM access_tokens
             WHERE tenant_uid = ?1 AND client_id = ?2 AND status_list IS NULL",
            "DELETE FROM api_keys WHERE tenant_uid = ?1 AND client_id = ?2",
            "DELETE FROM consents WHERE tenant_uid = ?1 AND client_id = ?2",
            "DELETE FROM client_states WHERE tenant_uid = ?1 AND client_id = ?2",
        ] {
            self.run(sql!(delete, tenant, id)).await?;
        }
        Ok(true)
    }
}
