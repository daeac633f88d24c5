use async_trait::async_trait;

use super::View;
use super::codes::bind_opaque;
use super::db::get;
use super::rows::{from_json, hash};
use super::text::audit;
use crate::base::Digest;
use crate::model::token::{AccessClaims, OpaqueToken};
use crate::storage::{AccessTokens, Change, NewOpaqueToken, OpaqueRecord, Result};

const ISSUE: &str = "INSERT INTO access_tokens (tenant_uid, token_hash, jti, client_id, user_id, grant_id, generation,
       claims, created_at, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8::json, $9, $10)";

const FIND: &str = "SELECT t.claims::text AS claims, t.generation,
       t.grant_id IS NULL OR coalesce((SELECT g.state = 'live' FROM grants g
         WHERE g.tenant_uid = $1 AND g.id = t.grant_id), false) AS grant_live
     FROM access_tokens t
     WHERE t.tenant_uid = $1 AND t.token_hash = $2";

/// The row is found by its end: `jti` has no index of its own, and few tokens end in one second.
const REVOKE: &str = concat!(
    "WITH gone AS (
       DELETE FROM access_tokens
       WHERE tenant_uid = $1 AND expires_at = $8 AND jti = $7 AND status_list IS NULL),
     rev AS (
       INSERT INTO revocations (tenant_uid, kind, key, exp, aud, at)
       SELECT $1, 'jti', $7, $9, $13, $2
       WHERE NOT EXISTS (SELECT 1 FROM revocations
         WHERE tenant_uid = $1 AND kind = 'jti' AND key = $7 AND exp > $2)
       RETURNING kind, key, nbf, exp, aud),
     ev AS (
       SELECT 'token.revoked' AS action, $10::uuid AS user_id, $11 AS client_id,
         $12::uuid AS session_id, 'token' AS resource_type, $7 AS resource_id, true AS success
       FROM rev), ",
    audit!(),
    " SELECT kind, key, nbf, exp, aud FROM rev"
);

#[async_trait]
impl AccessTokens for View {
    async fn issue_access_token(&self, token: &NewOpaqueToken) -> Result<()> {
        let claims = &token.claims;
        let statement = bind_opaque(self.sql(ISSUE), Some(token), |statement| {
            statement
                .bind(claims.client.as_str())
                .bind(claims.user.map(|user| user.0))
                .bind(claims.grant.map(|grant| grant.0))
                .bind(claims.generation.map(i64::from))
        })?;
        self.db().write(statement).await.map(drop)
    }

    async fn find_access_token(&self, token: &Digest<OpaqueToken>) -> Result<Option<OpaqueRecord>> {
        let Some(row) = self.db().read_one(self.sql(FIND).bind(hash(token))).await? else {
            return Ok(None);
        };
        let mut claims: AccessClaims = from_json(&row, "claims")?;
        let generation = get::<Option<i64>>(&row, "generation")?;
        claims.generation = generation.and_then(|generation| u32::try_from(generation).ok());
        Ok(Some(OpaqueRecord { claims, grant_live: get(&row, "grant_live")? }))
    }

    async fn revoke_access_token(&self, claims: &AccessClaims, change: &Change<'_>) -> Result<()> {
        let statement = self
            .changing(REVOKE, change.now, change.audit)
            .bind(claims.jti.as_str())
            .at(claims.expires_at)
            .at(change.not_after)
            .bind(claims.user.map(|user| user.0))
            .bind(claims.client.as_str())
            .bind(claims.session.map(|session| session.0))
            .bind(&claims.audience);
        let rows = self.db().write(statement).await?;
        self.announce(&rows, change.now).map(drop)
    }
}
