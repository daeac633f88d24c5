use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::audit_log::record;
use super::error::unreadable;
use super::grants::of_consent;
use super::row::{Columns, to_json};
use super::{SqliteTenant, Tx, sql};
use crate::base::Timestamp;
use crate::model::consent::Consent;
use crate::model::{Action, Audit, ClientId, Scope, TenantUid, UserId};
use crate::storage::{Consents, Result, WithdrawConsent};

#[async_trait]
impl Consents for SqliteTenant {
    async fn find_consent(&self, user: UserId, client: &ClientId) -> Result<Option<Consent>> {
        let find = sql!(FIND, &self.tenant, user, client);
        self.store.row(find).await?.as_ref().map(read).transpose()
    }

    async fn remember_consent(&self, consent: &Consent, audit: &Audit) -> Result<()> {
        let (tenant, consent) = (self.tenant.clone(), consent.clone());
        let mut audited = record(Action::ConsentRemembered, consent.granted_at, audit);
        audited.user = Some(consent.user);
        audited.client = Some(consent.client.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    tx.add_consent(&tenant, consent).await?;
                    tx.audit(&tenant, &audited).await
                })
            })
            .await
    }

    async fn list_consents(&self, user: UserId) -> Result<Vec<Consent>> {
        let all = sql!(
            "SELECT * FROM consents WHERE tenant_uid = ?1 AND user_id = ?2 ORDER BY client_id",
            &self.tenant,
            user,
        );
        self.store.rows(all).await?.iter().map(read).collect()
    }

    async fn withdraw_consent(
        &self,
        user: UserId,
        client: &ClientId,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<WithdrawConsent> {
        let (tenant, client) = (self.tenant.clone(), client.clone());
        let mut audited = record(Action::ConsentWithdrawn, now, audit);
        audited.user = Some(user);
        audited.client = Some(client.clone());
        self.store.write(move |tx| Box::pin(async move {
                let forget = sql!(
                    "DELETE FROM consents WHERE tenant_uid = ?1 AND user_id = ?2 AND client_id = ?3",
                    &tenant, user, &client,
                );
                let forgotten = tx.run(forget).await? == 1;
                let which = of_consent(&tenant, user, &client, now);
                let grants = tx.revoke_grants(&tenant, which, now, None).await?;
                if !forgotten && grants == 0 {
                    return Ok(WithdrawConsent::Unknown);
                }
                tx.audit(&tenant, &audited).await?;
                Ok(WithdrawConsent::Withdrawn { grants })
            })).await
    }
}

const FIND: &str =
    "SELECT * FROM consents WHERE tenant_uid = ?1 AND user_id = ?2 AND client_id = ?3";

impl Tx {
    async fn add_consent(&mut self, tenant: &TenantUid, mut new: Consent) -> Result<()> {
        if let Some(row) = self.row(sql!(FIND, tenant, new.user, &new.client)).await? {
            new = new.after(&read(&row)?);
        }
        self.run(sql!(
            "INSERT OR REPLACE INTO consents
               (tenant_uid, user_id, client_id, scope, resources, granted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            tenant,
            new.user,
            &new.client,
            &new.scope,
            to_json(&new.resources)?,
            new.granted_at,
        ))
        .await
        .map(drop)
    }
}

fn read(row: &SqliteRow) -> Result<Consent> {
    Ok(Consent {
        user: row.id("user_id")?,
        client: ClientId::new(row.get("client_id")?),
        scope: Scope::parse(row.get("scope")?).map_err(|_| unreadable("scope"))?,
        resources: row.json("resources")?,
        granted_at: row.time("granted_at")?,
    })
}
