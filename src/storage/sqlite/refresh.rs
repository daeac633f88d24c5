//! Refresh tokens: the grant's row is read, judged and written under the one write lock.

use super::grants::{audited, of_grant, read};
use super::row::Columns;
use super::{Tx, sql};
use crate::base::Timestamp;
use crate::model::grant::Grant;
use crate::model::refresh::RefreshHead;
use crate::model::{Action, Audit, GrantId, Revocation, RevocationKey, TenantUid};
use crate::storage::verdict::{Decision, Epoch, decide};
use crate::storage::{RefreshVerdict, Result, Rotation, horizon};

impl Tx {
    /// [`Grants::rotate_refresh`](crate::storage::Grants::rotate_refresh).
    pub(super) async fn rotate(
        &mut self,
        tenant: &TenantUid,
        rotation: Rotation,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RefreshVerdict> {
        let find = sql!(
            "SELECT g.*,
               (g.user_id IS NULL OR EXISTS (SELECT 1 FROM users u WHERE u.tenant_uid = ?1
                  AND u.id = g.user_id AND u.is_active = 1 AND u.deleted_at IS NULL))
               AND (g.offline = 1 OR g.session_id IS NULL OR EXISTS (SELECT 1 FROM sessions s
                  WHERE s.tenant_uid = ?1 AND s.session_id = g.session_id AND s.status = 'active'
                  AND s.expires_at > ?3 AND s.idle_expires_at > ?3))
               AND NOT EXISTS (SELECT 1 FROM client_states c WHERE c.tenant_uid = ?1
                  AND c.client_id = g.client_id) AS owners_live
             FROM grants g WHERE g.tenant_uid = ?1 AND g.id = ?2",
            tenant,
            rotation.presented.grant,
            now,
        );
        let Some(row) = self.row(find).await? else { return Ok(RefreshVerdict::Unknown) };
        let (grant, keep) = (read(&row)?, row.time("keep_until")?);
        let owners_live = row.get("owners_live")?;
        let store = self.store().clone();
        let epoch = Epoch { current: store.epoch(), since: store.opened_at() };
        let decision = decide(&grant, owners_live, &rotation, now, epoch);
        let mut change = Honour { tx: self, tenant, grant, keep, rotation, now, audit };
        change.carry_out(decision).await
    }

    /// Writes the refresh columns of a grant and its idle end; none of them is indexed.
    pub(super) async fn write_head(
        &mut self,
        tenant: &TenantUid,
        grant: GrantId,
        head: &RefreshHead,
        idle: Timestamp,
    ) -> Result<()> {
        self.run(sql!(
            "UPDATE grants SET idle_exp = ?3, salt = ?4, head_kid = ?5, head = ?6, head_nonce = ?7,
               pred = ?8, pred_nonce = ?9, rotated_at = ?10, replaced_at = ?11, replacements = ?12,
               head_seen = ?13, repeats = ?14, rot_fp = ?15, differs = ?16, streak = ?17, epoch = ?18
             WHERE tenant_uid = ?1 AND id = ?2",
            tenant,
            grant,
            idle,
            &head.salt,
            head.kid,
            head.head,
            &head.head_nonce,
            head.pred.map(|p| p.generation),
            head.pred.as_ref().map(|p| &p.nonce),
            head.rotated_at,
            head.replaced_at,
            head.replacements,
            head.head_seen,
            head.repeats,
            head.fingerprint.as_ref(),
            head.differs,
            head.streak,
            &head.epoch,
        ))
        .await
        .map(drop)
    }

    /// Raises a grant's horizon from `keep`, which is indexed, if it moves.
    pub(super) async fn raise_horizon(
        &mut self,
        tenant: &TenantUid,
        grant: GrantId,
        keep: Timestamp,
        raised: Timestamp,
    ) -> Result<()> {
        if raised <= keep {
            return Ok(());
        }
        let raise = sql!(
            "UPDATE grants SET keep_until = ?3 WHERE tenant_uid = ?1 AND id = ?2",
            tenant,
            grant,
            raised,
        );
        self.run(raise).await.map(drop)
    }
}

/// A decision on its way into the rows.
struct Honour<'a> {
    tx: &'a mut Tx,
    tenant: &'a TenantUid,
    grant: Grant,
    keep: Timestamp,
    rotation: Rotation,
    now: Timestamp,
    audit: &'a Audit,
}

impl Honour<'_> {
    async fn carry_out(&mut self, decision: Decision) -> Result<RefreshVerdict> {
        let (stays, moves) = (self.grant.idle_expires_at, self.rotation.idle_expires_at);
        Ok(match decision {
            Decision::Rotated(head) => {
                self.store(&head, moves, Some(Action::RefreshRotated)).await?;
                RefreshVerdict::Rotated(head)
            }
            Decision::Repeated(head) => {
                self.store(&head, stays, Some(Action::RefreshRepeated)).await?;
                RefreshVerdict::Repeated(head)
            }
            Decision::Replaced { head, skipped } => {
                self.store(&head, stays, Some(Action::RefreshReplaced)).await?;
                self.skip(skipped).await?;
                RefreshVerdict::Replaced(head)
            }
            Decision::Adopted(head) => {
                self.store(&head, moves, Some(Action::RefreshAdopted)).await?;
                RefreshVerdict::Adopted(head)
            }
            Decision::Kept(head) => {
                self.store(&head, horizon::kept_idle(stays, moves), None).await?;
                RefreshVerdict::Kept(head)
            }
            Decision::Reused => {
                self.revoke(Action::RefreshReused).await?;
                RefreshVerdict::Reused
            }
            Decision::Forged => {
                self.revoke(Action::RefreshForged).await?;
                RefreshVerdict::Forged
            }
            Decision::Unfit => RefreshVerdict::Unfit,
            Decision::Limited => RefreshVerdict::Limited,
            Decision::Expired => RefreshVerdict::Expired,
            Decision::Revoked => RefreshVerdict::Revoked,
            Decision::Unknown => RefreshVerdict::Unknown,
        })
    }

    /// Writes head, access token and record.
    async fn store(
        &mut self,
        head: &RefreshHead,
        idle: Timestamp,
        action: Option<Action>,
    ) -> Result<()> {
        let Self { tx, tenant, grant, keep, rotation, now, audit } = self;
        if action.is_some() || idle != grant.idle_expires_at {
            tx.write_head(tenant, grant.id, head, idle).await?;
        }
        let raised =
            horizon::grant(*keep, rotation.access_expires_at, Some(idle), grant.expires_at);
        tx.raise_horizon(tenant, grant.id, *keep, raised).await?;
        if let Some(token) = &mut rotation.opaque {
            token.claims.generation = Some(head.head);
            tx.insert_access_token(tenant, token).await?;
        }
        match action {
            Some(action) => tx.audit(tenant, &audited(grant, action, *now, audit)).await,
            None => Ok(()),
        }
    }

    /// The access tokens of a generation that never arrived die.
    async fn skip(&mut self, generation: u32) -> Result<()> {
        let entry = Revocation {
            key: RevocationKey::head(self.grant.id, generation),
            audience: None,
            not_before: None,
            expires_at: self.keep,
            at: self.now,
        };
        self.tx.revoke(self.tenant, entry).await
    }

    async fn revoke(&mut self, action: Action) -> Result<()> {
        let which = of_grant(self.tenant, self.grant.id, self.now);
        self.tx.revoke_grants(self.tenant, which, self.now, None).await?;
        let record = audited(&self.grant, action, self.now, self.audit);
        self.tx.audit(self.tenant, &record).await
    }
}
