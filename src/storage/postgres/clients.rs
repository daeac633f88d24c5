use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::View;
use super::db::{get, time};
use super::rows::{from_json, json};
use super::text::{audit, revoke};
use crate::base::Timestamp;
use crate::model::{Audit, Client, ClientId};
use crate::storage::{Change, ClientState, Clients, CreateClient, Result, SetClientState, horizon};

const CREATE: &str = concat!(
    "WITH cli AS (
       INSERT INTO clients (tenant_uid, client_id, name, client_type, redirect_uris, grant_types,
         scopes, metadata, created_at, updated_at)
       VALUES ($1, $7, $8, $9, $10, $11, $12, $13::jsonb, $2, $2)
       ON CONFLICT DO NOTHING RETURNING 1),
     ev AS (
       SELECT 'client.created' AS action, NULL::uuid AS user_id, $7 AS client_id,
         NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
         true AS success FROM cli), ",
    audit!(),
    " SELECT EXISTS (SELECT 1 FROM cli) AS created"
);

const FIND: &str =
    "SELECT metadata::text AS metadata FROM clients WHERE tenant_uid = $1 AND client_id = $2";

const LIST: &str = "SELECT metadata::text AS metadata FROM clients WHERE tenant_uid = $1
     ORDER BY client_id COLLATE \"C\"";

const LOCK: &str = "SELECT 1 FROM clients WHERE tenant_uid = $1 AND client_id = $2 FOR UPDATE";

/// Signed tokens outlive the rows: each live grant and each live API key leaves its entry.
const DELETE: &str = concat!(
    "WITH cli AS (DELETE FROM clients WHERE tenant_uid = $1 AND client_id = $7 RETURNING 1),
     g AS (
       DELETE FROM grants WHERE tenant_uid = $1 AND client_id = $7 AND EXISTS (SELECT 1 FROM cli)
       RETURNING id, state, keep_until),
     c AS (
       DELETE FROM authorization_codes WHERE tenant_uid = $1 AND client_id = $7
         AND EXISTS (SELECT 1 FROM cli)),
     d AS (
       DELETE FROM device_codes WHERE tenant_uid = $1 AND client_id = $7
         AND EXISTS (SELECT 1 FROM cli)),
     o AS (
       DELETE FROM consents WHERE tenant_uid = $1 AND client_id = $7 AND EXISTS (SELECT 1 FROM cli)),
     t AS (
       DELETE FROM access_tokens
       WHERE tenant_uid = $1 AND client_id = $7 AND status_list IS NULL
         AND EXISTS (SELECT 1 FROM cli)),
     k AS (
       DELETE FROM api_keys WHERE tenant_uid = $1 AND client_id = $7 AND EXISTS (SELECT 1 FROM cli)
       RETURNING id, audiences, revoked_at, expires_at AS ends_at),
     st AS (
       DELETE FROM client_states WHERE tenant_uid = $1 AND client_id = $7
         AND EXISTS (SELECT 1 FROM cli)),
     rv AS (
       SELECT 'grant' AS kind, id::text AS key, NULL::timestamptz AS nbf, keep_until AS exp,
         NULL::text[] AS aud
       FROM g WHERE state = 'live'
       UNION ALL
       SELECT 'api_key', id::text, NULL, ends_at + interval '60 seconds', nullif(audiences, '{}')
       FROM k WHERE revoked_at IS NULL AND ends_at > $2), ",
    revoke!("rv.aud"),
    ", ev AS (
       SELECT 'client.deleted' AS action, NULL::uuid AS user_id, $7 AS client_id,
         NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
         true AS success FROM cli), ",
    audit!(),
    " SELECT EXISTS (SELECT 1 FROM cli) AS deleted, rev.* FROM (SELECT 1) one LEFT JOIN rev ON true"
);

const DISABLE_LOCK: &str =
    "INSERT INTO client_states (tenant_uid, client_id, disabled_at) VALUES ($1, $2, $3)
     ON CONFLICT DO NOTHING RETURNING 1 AS changed";

/// One `client` entry covers it all. The state was written by the statement before.
const DISABLE: &str = concat!(
    "WITH st AS (SELECT 1 FROM client_states
       WHERE tenant_uid = $1 AND client_id = $7 AND xmin = pg_current_xact_id()::xid),
     g AS (
       UPDATE grants SET state = 'revoked', revoked_at = $2
       WHERE tenant_uid = $1 AND client_id = $7 AND state = 'live' AND EXISTS (SELECT 1 FROM st)),
     rv AS (
       SELECT 'client' AS kind, $7 AS key, $9::timestamptz AS nbf, $8::timestamptz AS exp FROM st), ",
    revoke!(),
    ", ev AS (
       SELECT 'client.disabled' AS action, NULL::uuid AS user_id, $7 AS client_id,
         NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
         true AS success FROM st), ",
    audit!(),
    " SELECT kind, key, nbf, exp, aud FROM rev"
);

const ENABLE: &str = concat!(
    "WITH st AS (
       DELETE FROM client_states WHERE tenant_uid = $1 AND client_id = $7 RETURNING 1),
     ev AS (
       SELECT 'client.enabled' AS action, NULL::uuid AS user_id, $7 AS client_id,
         NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
         true AS success FROM st), ",
    audit!(),
    " SELECT 1 FROM st"
);

#[async_trait]
impl Clients for View {
    async fn create_client(
        &self,
        client: &Client,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CreateClient> {
        let grants: Vec<&str> = client.grants.iter().map(|grant| grant.as_str()).collect();
        let scopes: Vec<&str> = client.scopes.iter().collect();
        let statement = self
            .changing(CREATE, now, audit)
            .bind(client.id.as_str())
            .bind(client.name.as_str())
            .bind(if client.is_public() { "public" } else { "confidential" })
            .bind(&client.redirect_uris)
            .bind(grants)
            .bind(scopes)
            .bind(json(client)?);
        if !get::<bool>(&self.db().decide(statement).await?, "created")? {
            return Ok(CreateClient::Exists);
        }
        self.shared.changed();
        Ok(CreateClient::Created)
    }

    async fn find_client(&self, id: &ClientId) -> Result<Option<Client>> {
        // An id with a NUL is nobody's: it cannot be stored.
        if id.as_str().contains('\0') {
            return Ok(None);
        }
        let row = self.db().read_one(self.sql(FIND).bind(id.as_str())).await?;
        row.as_ref().map(client).transpose()
    }

    async fn list_clients(&self) -> Result<Vec<Client>> {
        self.db().read(self.sql(LIST)).await?.iter().map(client).collect()
    }

    async fn delete_client(&self, id: &ClientId, now: Timestamp, audit: &Audit) -> Result<bool> {
        let lock = self.sql(LOCK).bind(id.as_str());
        let then = self.changing(DELETE, now, audit).bind(id.as_str());
        let (_, rows) = self.db().lock_then(lock, then).await?;
        let deleted = rows.first().map_or(Ok(false), |row| get(row, "deleted"))?;
        if deleted {
            self.announce(&rows, now)?;
            self.shared.changed();
        }
        Ok(deleted)
    }

    async fn set_client_disabled(
        &self,
        id: &ClientId,
        disabled: bool,
        change: &Change<'_>,
    ) -> Result<SetClientState> {
        let rows = if disabled {
            let lock = self.sql(DISABLE_LOCK).bind(id.as_str()).at(change.now);
            let then = self
                .changing(DISABLE, change.now, change.audit)
                .bind(id.as_str())
                .at(change.not_after)
                .at(change.now.plus(horizon::NOT_BEFORE_AHEAD));
            let (_, rows) = self.db().lock_then(lock, then).await?;
            self.announce(&rows, change.now)?;
            rows
        } else {
            let statement = self.changing(ENABLE, change.now, change.audit).bind(id.as_str());
            self.db().write(statement).await?
        };
        if rows.is_empty() {
            return Ok(SetClientState::Unchanged);
        }
        self.shared.changed();
        Ok(SetClientState::Changed)
    }

    async fn client_states(&self) -> Result<Vec<ClientState>> {
        let statement = self.sql(
            "SELECT client_id, disabled_at FROM client_states WHERE tenant_uid = $1
             ORDER BY client_id COLLATE \"C\"",
        );
        let rows = self.db().read(statement).await?;
        rows.iter()
            .map(|row| {
                Ok(ClientState {
                    client: ClientId::new(get(row, "client_id")?),
                    disabled_at: time(row, "disabled_at")?,
                })
            })
            .collect()
    }
}

fn client(row: &PgRow) -> Result<Client> {
    from_json(row, "metadata")
}
