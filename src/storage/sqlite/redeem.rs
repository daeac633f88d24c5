//! Redeeming: code, grant and owners are read in one row, judged and written under the one write
//! lock.

use sqlx::sqlite::SqliteRow;

use super::grants::{self, of_grant};
use super::row::Columns;
use super::{Tx, sql};
use crate::base::Timestamp;
use crate::model::grant::Grant;
use crate::model::refresh::RefreshHead;
use crate::model::{Action, Audit, ClientId, GrantId, TenantUid};
use crate::storage::grants::Issue;
use crate::storage::verdict::{CodeDecision, CodeLife, decide_code};
use crate::storage::{RedeemCode, Redemption, Result, horizon};

/// A code, its grant and its owners as they stand.
struct Standing {
    client: ClientId,
    grant_id: GrantId,
    grant: Option<(Grant, Timestamp)>,
    expires_at: Timestamp,
    redeemed_at: Option<Timestamp>,
    retry_fingerprint: Option<[u8; 32]>,
    dead: bool,
    keep_until: Timestamp,
    owners_live: bool,
}

impl Standing {
    fn read(row: &SqliteRow) -> Result<Self> {
        let grant = match row.get::<Option<&[u8]>>("id")? {
            Some(_) => Some((grants::read(row)?, row.time("keep_until")?)),
            None => None,
        };
        Ok(Self {
            client: ClientId::new(row.get("code_client")?),
            grant_id: row.id("code_grant")?,
            grant,
            expires_at: row.time("code_expires_at")?,
            redeemed_at: row.time_opt("consumed_at")?,
            retry_fingerprint: row.bytes_opt("retry_fp")?,
            dead: row.get::<Option<i64>>("dead_at")?.is_some(),
            keep_until: row.time("code_keep_until")?,
            owners_live: row.get("owners_live")?,
        })
    }

    fn decide(&self, redemption: &Redemption, now: Timestamp) -> CodeDecision {
        let life = CodeLife {
            client: &self.client,
            grant: self.grant_id,
            expires_at: self.expires_at,
            redeemed_at: self.redeemed_at,
            retry_fingerprint: self.retry_fingerprint,
            dead: self.dead,
        };
        let grant = self.grant.as_ref().map(|(grant, _)| grant);
        decide_code(&life, grant, self.owners_live, redemption, now)
    }
}

impl Tx {
    /// [`Codes::redeem_code`](crate::storage::Codes::redeem_code).
    pub(super) async fn redeem(
        &mut self,
        tenant: &TenantUid,
        redemption: &Redemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemCode> {
        // An offline grant outlives its session, but the code belongs to a sign-in that goes on.
        let find = sql!(
            "SELECT c.client_id AS code_client, c.grant_id AS code_grant,
               c.expires_at AS code_expires_at, c.consumed_at, c.retry_fp, c.dead_at,
               c.keep_until AS code_keep_until, g.*,
               EXISTS (SELECT 1 FROM users u WHERE u.tenant_uid = ?1 AND u.id = c.user_id
                 AND u.is_active = 1 AND u.deleted_at IS NULL)
               AND (c.session_id IS NULL OR EXISTS (SELECT 1 FROM sessions s WHERE s.tenant_uid = ?1
                 AND s.session_id = c.session_id AND s.status = 'active' AND s.expires_at > ?3
                 AND s.idle_expires_at > ?3))
               AND NOT EXISTS (SELECT 1 FROM client_states d WHERE d.tenant_uid = ?1
                 AND d.client_id = c.client_id) AS owners_live
             FROM authorization_codes c
             LEFT JOIN grants g ON g.tenant_uid = c.tenant_uid AND g.id = c.grant_id
             WHERE c.tenant_uid = ?1 AND c.code_hash = ?2",
            tenant,
            &redemption.code,
            now,
        );
        let Some(row) = self.row(find).await? else { return Ok(RedeemCode::Unknown) };
        let code = Standing::read(&row)?;
        match (code.decide(redemption, now), &code.grant) {
            (CodeDecision::Redeemed, Some((grant, keep))) => {
                let refresh = self.spend(tenant, redemption, &code, (grant, *keep), now).await?;
                let record = grants::audited(grant, Action::CodeRedeemed, now, audit);
                self.audit(tenant, &record).await?;
                Ok(RedeemCode::Redeemed { refresh })
            }
            (CodeDecision::Repeated, Some((grant, keep))) => {
                self.answer_again(tenant, redemption, grant, *keep).await?;
                Ok(RedeemCode::Repeated { refresh: grant.refresh.clone() })
            }
            (CodeDecision::Replayed, grant) => {
                self.revoke_grants(tenant, of_grant(tenant, code.grant_id, now), now, None).await?;
                if let Some((grant, _)) = grant {
                    let record = grants::audited(grant, Action::CodeReplayed, now, audit);
                    self.audit(tenant, &record).await?;
                }
                Ok(RedeemCode::Replayed { grant: code.grant_id })
            }
            (CodeDecision::Dead, _) => Ok(RedeemCode::Dead),
            (CodeDecision::Expired, _) => Ok(RedeemCode::Expired),
            (CodeDecision::Unknown, _) => Ok(RedeemCode::Unknown),
            (CodeDecision::Revoked | CodeDecision::Redeemed | CodeDecision::Repeated, _) => {
                Ok(RedeemCode::Revoked)
            }
        }
    }

    /// Spends the code and writes what comes out of it.
    async fn spend(
        &mut self,
        tenant: &TenantUid,
        redemption: &Redemption,
        code: &Standing,
        (grant, keep): (&Grant, Timestamp),
        now: Timestamp,
    ) -> Result<Option<RefreshHead>> {
        let access_end = redemption.access_expires_at;
        let grant_end = redemption.refresh.as_ref().map(|_| grant.expires_at);
        self.run(sql!(
            "UPDATE authorization_codes SET consumed_at = ?3, retry_fp = ?4, keep_until = ?5
             WHERE tenant_uid = ?1 AND code_hash = ?2",
            tenant,
            &redemption.code,
            now,
            redemption.retry.as_ref().map(|retry| &retry.fingerprint),
            horizon::spent_code(code.keep_until, access_end, grant_end),
        ))
        .await?;
        self.issue_first(tenant, (grant, keep), &redemption.issue(), now).await
    }

    /// Writes what comes out of a grant when its code is spent: its refresh token's first head, the
    /// access token, and the horizon that follows from them.
    pub(super) async fn issue_first(
        &mut self,
        tenant: &TenantUid,
        (grant, keep): (&Grant, Timestamp),
        issue: &Issue<'_>,
        now: Timestamp,
    ) -> Result<Option<RefreshHead>> {
        let head = issue.refresh.map(|new| new.first_head(now, self.store().epoch()));
        let idle = issue.refresh.map(|new| new.idle_expires_at);
        if let (Some(head), Some(idle)) = (&head, idle) {
            self.write_head(tenant, grant.id, head, idle).await?;
        }
        let raised = horizon::grant(keep, issue.access_expires_at, idle, grant.expires_at);
        self.raise_horizon(tenant, grant.id, keep, raised).await?;
        if let Some(token) = issue.opaque {
            self.insert_access_token(tenant, token).await?;
        }
        Ok(head)
    }

    /// The same request again: only its access token is new.
    async fn answer_again(
        &mut self,
        tenant: &TenantUid,
        redemption: &Redemption,
        grant: &Grant,
        keep: Timestamp,
    ) -> Result<()> {
        let idle = grant.refresh.as_ref().map(|_| grant.idle_expires_at);
        let raised = horizon::grant(keep, redemption.access_expires_at, idle, grant.expires_at);
        self.raise_horizon(tenant, grant.id, keep, raised).await?;
        if let Some(token) = &redemption.opaque {
            self.insert_access_token(tenant, token).await?;
        }
        Ok(())
    }
}
