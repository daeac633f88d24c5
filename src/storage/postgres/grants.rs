use async_trait::async_trait;

use super::View;
use super::db::{get, time};
use super::rows::grant;
use super::text::{audit, revoke};
use crate::base::Timestamp;
use crate::model::{Audit, Grant, GrantId, UserId};
use crate::storage::{Grants, RefreshVerdict, Result, RevokeGrant, Rotation};

const FIND: &str = "SELECT id, client_id, user_id, session_id, terms::text AS terms, jkt, offline, state, created_at,
       idle_exp, abs_exp, salt, head_kid, head, head_nonce, pred, pred_nonce, rotated_at,
       replaced_at, replacements, head_seen, repeats, rot_fp, differs, streak, epoch
     FROM grants WHERE tenant_uid = $1 AND id = $2";

const LIST: &str = "SELECT id, client_id, user_id, session_id, terms::text AS terms, jkt, offline, state, created_at,
       idle_exp, abs_exp, salt, head_kid, head, head_nonce, pred, pred_nonce, rotated_at,
       replaced_at, replacements, head_seen, repeats, rot_fp, differs, streak, epoch
     FROM grants WHERE tenant_uid = $1 AND user_id = $2 AND state = 'live' AND abs_exp > $3
     ORDER BY created_at DESC, id DESC";

const REVOKE: &str = concat!(
    "WITH cur AS MATERIALIZED (
       SELECT id, client_id, user_id, session_id, state, keep_until FROM grants
       WHERE tenant_uid = $1 AND id = $7 FOR UPDATE),
     n AS MATERIALIZED (SELECT * FROM cur WHERE state = 'live'),
     ug AS (UPDATE grants g SET state = 'revoked', revoked_at = $2
       FROM n WHERE g.tenant_uid = $1 AND g.id = $7),
     rv AS (SELECT 'grant' AS kind, id::text AS key, NULL::timestamptz AS nbf, keep_until AS exp FROM n), ",
    revoke!(),
    ", ev AS (SELECT 'grant.revoked' AS action, user_id, client_id, session_id,
         'grant' AS resource_type, id::text AS resource_id, true AS success FROM n), ",
    audit!(),
    " SELECT state = 'live' AS was_live, keep_until FROM cur"
);

const SEEN: &str = "UPDATE grants SET head_seen = true
     WHERE tenant_uid = $1 AND id = $2 AND head = $3 AND coalesce(state = 'live', false)
       AND NOT head_seen";

#[async_trait]
impl Grants for View {
    async fn find_grant(&self, id: GrantId) -> Result<Option<Grant>> {
        let row = self.db().read_one(self.sql(FIND).bind(id.0)).await?;
        row.as_ref().map(grant).transpose()
    }

    async fn list_grants(&self, user: UserId, now: Timestamp) -> Result<Vec<Grant>> {
        let rows = self.db().read(self.sql(LIST).bind(user.0).at(now)).await?;
        rows.iter().map(grant).collect()
    }

    async fn rotate_refresh(
        &self,
        rotation: &Rotation,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RefreshVerdict> {
        self.rotate(rotation, now, audit).await
    }

    async fn revoke_grant(
        &self,
        id: GrantId,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RevokeGrant> {
        let statement = self.changing(REVOKE, now, audit).bind(id.0);
        let Some(row) = self.db().write_one(statement).await? else {
            return Ok(RevokeGrant::Unknown);
        };
        if !get::<bool>(&row, "was_live")? {
            return Ok(RevokeGrant::AlreadyRevoked);
        }
        self.announce_grant(id, time(&row, "keep_until")?, now);
        Ok(RevokeGrant::Revoked)
    }

    async fn mark_head_seen(&self, id: GrantId, generation: u32) -> Result<()> {
        let statement = self.sql(SEEN).bind(id.0).bind(i64::from(generation));
        self.db().write(statement).await.map(drop)
    }
}
