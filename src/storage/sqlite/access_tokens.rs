use async_trait::async_trait;

use super::audit_log::record;
use super::row::{Columns, to_json};
use super::{SqliteTenant, Tx, sql};
use crate::base::Digest;
use crate::model::token::{AccessClaims, OpaqueToken};
use crate::model::{Action, Revocation, RevocationKey, TenantUid};
use crate::storage::{AccessTokens, Change, NewOpaqueToken, OpaqueRecord, Result};

#[async_trait]
impl AccessTokens for SqliteTenant {
    async fn issue_access_token(&self, token: &NewOpaqueToken) -> Result<()> {
        let (tenant, token) = (self.tenant.clone(), token.clone());
        self.store
            .write(move |tx| Box::pin(async move { tx.insert_access_token(&tenant, &token).await }))
            .await
    }

    async fn find_access_token(&self, token: &Digest<OpaqueToken>) -> Result<Option<OpaqueRecord>> {
        let find = sql!(
            "SELECT t.claims, t.grant_id IS NULL OR g.state = 'live' AS grant_live
             FROM access_tokens t
             LEFT JOIN grants g ON g.tenant_uid = t.tenant_uid AND g.id = t.grant_id
             WHERE t.tenant_uid = ?1 AND t.token_hash = ?2",
            &self.tenant,
            token,
        );
        let Some(row) = self.store.row(find).await? else { return Ok(None) };
        let grant_live = row.get::<Option<bool>>("grant_live")?.unwrap_or(false);
        Ok(Some(OpaqueRecord { claims: row.json("claims")?, grant_live }))
    }

    async fn revoke_access_token(&self, claims: &AccessClaims, change: &Change<'_>) -> Result<()> {
        let tenant = self.tenant.clone();
        let mut audited = record(Action::TokenRevoked, change.now, change.audit);
        audited.user = claims.user;
        audited.client = Some(claims.client.clone());
        audited.session = claims.session;
        audited.resource = Some(("token", claims.jti.clone()));
        let revocation = Revocation {
            key: RevocationKey::Jti(claims.jti.clone()),
            audience: Some(claims.audience.clone()),
            not_before: None,
            expires_at: change.not_after,
            at: change.now,
        };
        // Found through the index on `expires_at`: the claims say when the token ends.
        let forget = sql!(
            "DELETE FROM access_tokens
             WHERE tenant_uid = ?1 AND expires_at = ?2 AND jti = ?3 AND status_list IS NULL",
            &self.tenant,
            claims.expires_at,
            &claims.jti,
        );
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    let known = tx.is_revoked(&tenant, &revocation.key).await?;
                    tx.run(forget).await?;
                    if known {
                        return Ok(());
                    }
                    tx.revoke(&tenant, revocation).await?;
                    tx.audit(&tenant, &audited).await
                })
            })
            .await
    }
}

impl Tx {
    /// Writes the row of a token.
    pub(super) async fn insert_access_token(
        &mut self,
        tenant: &TenantUid,
        token: &NewOpaqueToken,
    ) -> Result<()> {
        let claims = &token.claims;
        self.run(sql!(
            "INSERT INTO access_tokens (tenant_uid, token_hash, jti, client_id, user_id, grant_id,
               generation, claims, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            tenant,
            &token.digest,
            &claims.jti,
            &claims.client,
            claims.user,
            claims.grant,
            claims.generation,
            to_json(claims)?,
            claims.issued_at,
            claims.expires_at,
        ))
        .await
        .map(drop)
    }
}
