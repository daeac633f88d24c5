use async_trait::async_trait;

use super::grants;
use super::row::{Columns, to_json};
use super::{SqliteTenant, Tx, sql};
use crate::base::{Digest, Timestamp};
use crate::model::code::{Code, CodeRecord};
use crate::model::{Action, Audit, ClientId, TenantUid};
use crate::storage::{
    Codes, CountVerifier, IssueCode, NewCode, NewGrant, RedeemCode, Redemption, Result, horizon,
};

#[async_trait]
impl Codes for SqliteTenant {
    async fn issue_code(
        &self,
        grant: &NewGrant,
        code: &NewCode,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<IssueCode> {
        let (tenant, grant, code) = (self.tenant.clone(), grant.clone(), code.clone());
        let audit = audit.clone();
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let keep_until = horizon::unspent_code(code.expires_at);
                    if !tx.insert_grant(&tenant, &grant, keep_until, now).await? {
                        return Ok(IssueCode::NotLive);
                    }
                    tx.insert_code(&tenant, &grant, &code, now).await?;
                    let record =
                        grants::audited(&grant.born(now), Action::GrantCreated, now, &audit);
                    tx.audit(&tenant, &record).await?;
                    Ok(IssueCode::Issued)
                })
            })
            .await
    }

    async fn peek_code(&self, code: &Digest<Code>) -> Result<Option<CodeRecord>> {
        let peek = sql!(
            "SELECT c.client_id, c.user_id, c.session_id, c.grant_id, c.terms, c.created_at,
               c.expires_at, g.terms AS grant_terms, g.offline
             FROM authorization_codes c
             JOIN grants g ON g.tenant_uid = c.tenant_uid AND g.id = c.grant_id
             WHERE c.tenant_uid = ?1 AND c.code_hash = ?2",
            &self.tenant,
            code,
        );
        let Some(row) = self.store.row(peek).await? else { return Ok(None) };
        Ok(Some(CodeRecord {
            client: ClientId::new(row.get("client_id")?),
            user: row.id("user_id")?,
            session: row.id_opt("session_id")?,
            grant: row.id("grant_id")?,
            terms: row.json("terms")?,
            grant_terms: row.json("grant_terms")?,
            offline: row.get("offline")?,
            issued_at: row.time("created_at")?,
            expires_at: row.time("expires_at")?,
        }))
    }

    async fn count_wrong_verifier(
        &self,
        code: &Digest<Code>,
        limit: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CountVerifier> {
        let (tenant, code, audit) = (self.tenant.clone(), *code, audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move { tx.count_verifier(&tenant, &code, limit, now, &audit).await })
            })
            .await
    }

    async fn redeem_code(
        &self,
        redemption: &Redemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemCode> {
        let (tenant, redemption, audit) = (self.tenant.clone(), redemption.clone(), audit.clone());
        self.store
            .write(move |tx| {
                Box::pin(async move { tx.redeem(&tenant, &redemption, now, &audit).await })
            })
            .await
    }
}

impl Tx {
    /// Makes a grant, unless its user, client or session is not live.
    pub(super) async fn insert_grant(
        &mut self,
        tenant: &TenantUid,
        grant: &NewGrant,
        keep_until: Timestamp,
        now: Timestamp,
    ) -> Result<bool> {
        let insert = sql!(
            "INSERT INTO grants (tenant_uid, id, client_id, user_id, session_id, scope, resources,
               jkt, offline, terms, created_at, idle_exp, abs_exp, keep_until)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?13
             WHERE EXISTS (SELECT 1 FROM users WHERE tenant_uid = ?1 AND id = ?4
                 AND is_active = 1 AND deleted_at IS NULL)
               AND NOT EXISTS (SELECT 1 FROM client_states WHERE tenant_uid = ?1 AND client_id = ?3)
               AND (?5 IS NULL OR EXISTS (SELECT 1 FROM sessions WHERE tenant_uid = ?1
                 AND session_id = ?5 AND status = 'active' AND expires_at > ?11
                 AND idle_expires_at > ?11))",
            tenant,
            grant.id,
            &grant.client,
            grant.user,
            grant.session,
            &grant.terms.scope,
            to_json(&grant.terms.resources)?,
            grant.jkt.as_ref(),
            grant.offline,
            to_json(&grant.terms)?,
            now,
            grant.expires_at,
            keep_until,
        );
        Ok(self.run(insert).await? == 1)
    }

    async fn insert_code(
        &mut self,
        tenant: &TenantUid,
        grant: &NewGrant,
        code: &NewCode,
        now: Timestamp,
    ) -> Result<()> {
        self.run(sql!(
            "INSERT INTO authorization_codes (tenant_uid, code_hash, client_id, user_id, session_id,
               grant_id, terms, created_at, expires_at, keep_until)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            tenant,
            &code.digest,
            &grant.client,
            grant.user,
            grant.session,
            grant.id,
            to_json(&code.terms)?,
            now,
            code.expires_at,
            horizon::unspent_code(code.expires_at),
        ))
        .await
        .map(drop)
    }

    async fn count_verifier(
        &mut self,
        tenant: &TenantUid,
        code: &Digest<Code>,
        limit: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CountVerifier> {
        let find = sql!(
            "SELECT g.*, c.wrong_verifiers, c.dead_at, c.consumed_at FROM authorization_codes c
             JOIN grants g ON g.tenant_uid = c.tenant_uid AND g.id = c.grant_id
             WHERE c.tenant_uid = ?1 AND c.code_hash = ?2",
            tenant,
            code,
        );
        let Some(row) = self.row(find).await? else { return Ok(CountVerifier::NotLive) };
        if row.time_opt("consumed_at")?.is_some() {
            return Ok(CountVerifier::NotLive);
        }
        if row.time_opt("dead_at")?.is_some() {
            return Ok(CountVerifier::Dead);
        }
        let count = row.number::<u32>("wrong_verifiers")?.saturating_add(1);
        let dies = count >= limit;
        self.run(sql!(
            "UPDATE authorization_codes SET wrong_verifiers = ?3, dead_at = ?4
             WHERE tenant_uid = ?1 AND code_hash = ?2",
            tenant,
            code,
            count,
            dies.then_some(now),
        ))
        .await?;
        if !dies {
            return Ok(CountVerifier::Counted);
        }
        let record = grants::audited(&grants::read(&row)?, Action::CodeKilled, now, audit);
        self.audit(tenant, &record).await?;
        Ok(CountVerifier::Dead)
    }
}
