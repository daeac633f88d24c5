use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::View;
use super::db::{get, time, unreadable};
use super::text::{audit, revoke};
use crate::base::Timestamp;
use crate::model::consent::Consent;
use crate::model::{Audit, ClientId, Scope, UserId};
use crate::storage::{Consents, Result, WithdrawConsent};

const FIND: &str = "SELECT user_id, client_id, scope, resources, granted_at FROM consents
     WHERE tenant_uid = $1 AND user_id = $2 AND coalesce(client_id = $3, false)";

const LIST: &str = "SELECT user_id, client_id, scope, resources, granted_at FROM consents
     WHERE tenant_uid = $1 AND user_id = $2 ORDER BY client_id COLLATE \"C\"";

/// `Consent::after`: for the same resources, what is added comes after what was there, each once.
const REMEMBER: &str = concat!(
    "WITH con AS (
       INSERT INTO consents AS c (tenant_uid, user_id, client_id, scope, resources, granted_at)
       VALUES ($1, $7, $8, $9, $10, $2)
       ON CONFLICT (tenant_uid, user_id, client_id) DO UPDATE SET
         scope = CASE WHEN c.resources @> excluded.resources AND c.resources <@ excluded.resources
           THEN (SELECT coalesce(string_agg(token, ' ' ORDER BY n), '') FROM (
           SELECT token, min(n) AS n FROM unnest(
             string_to_array(nullif(c.scope, ''), ' ') || string_to_array(nullif(excluded.scope, ''), ' '))
             WITH ORDINALITY AS t (token, n) GROUP BY token) u)
           ELSE excluded.scope END,
         resources = excluded.resources,
         granted_at = greatest(c.granted_at, excluded.granted_at)),
     ev AS (SELECT 'consent.remembered' AS action, $7::uuid AS user_id, $8 AS client_id,
         NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
         true AS success), ",
    audit!(),
    " SELECT 1"
);

const WITHDRAW_LOCK: &str = "SELECT 1 FROM users WHERE tenant_uid = $1 AND id = $2 FOR UPDATE";

const WITHDRAW: &str = concat!(
    "WITH con AS (
       DELETE FROM consents WHERE tenant_uid = $1 AND user_id = $7 AND client_id = $8 RETURNING 1),
     g AS (
       UPDATE grants SET state = 'revoked', revoked_at = $2
       WHERE tenant_uid = $1 AND user_id = $7 AND client_id = $8 AND state = 'live'
       RETURNING id, keep_until),
     rv AS (SELECT 'grant' AS kind, id::text AS key, NULL::timestamptz AS nbf, keep_until AS exp FROM g), ",
    revoke!(),
    ", ev AS (SELECT 'consent.withdrawn' AS action, $7::uuid AS user_id, $8 AS client_id,
         NULL::uuid AS session_id, NULL::text AS resource_type, NULL::text AS resource_id,
         true AS success WHERE EXISTS (SELECT 1 FROM con) OR EXISTS (SELECT 1 FROM g)), ",
    audit!(),
    " SELECT EXISTS (SELECT 1 FROM con) AS had, rev.* FROM (SELECT 1) one LEFT JOIN rev ON true"
);

#[async_trait]
impl Consents for View {
    async fn find_consent(&self, user: UserId, client: &ClientId) -> Result<Option<Consent>> {
        let statement = self.sql(FIND).bind(user.0).bind(client.as_str());
        self.db().read_one(statement).await?.as_ref().map(consent).transpose()
    }

    async fn remember_consent(&self, consent: &Consent, audit: &Audit) -> Result<()> {
        let statement = self
            .changing(REMEMBER, consent.granted_at, audit)
            .bind(consent.user.0)
            .bind(consent.client.as_str())
            .bind(consent.scope.to_string())
            .bind(&consent.resources);
        self.db().write(statement).await.map(drop)
    }

    async fn list_consents(&self, user: UserId) -> Result<Vec<Consent>> {
        self.db().read(self.sql(LIST).bind(user.0)).await?.iter().map(consent).collect()
    }

    async fn withdraw_consent(
        &self,
        user: UserId,
        client: &ClientId,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<WithdrawConsent> {
        let lock = self.sql(WITHDRAW_LOCK).bind(user.0);
        let then = self.changing(WITHDRAW, now, audit).bind(user.0).bind(client.as_str());
        let (_, rows) = self.db().lock_then(lock, then).await?;
        let had = rows.first().map_or(Ok(false), |row| get(row, "had"))?;
        let grants = self.announce(&rows, now)?.len();
        if !had && grants == 0 {
            return Ok(WithdrawConsent::Unknown);
        }
        Ok(WithdrawConsent::Withdrawn { grants: u32::try_from(grants).unwrap_or(u32::MAX) })
    }
}

fn consent(row: &PgRow) -> Result<Consent> {
    Ok(Consent {
        user: UserId(get(row, "user_id")?),
        client: ClientId::new(get(row, "client_id")?),
        scope: Scope::parse(get(row, "scope")?).map_err(|_| unreadable("scope"))?,
        resources: get(row, "resources")?,
        granted_at: time(row, "granted_at")?,
    })
}
