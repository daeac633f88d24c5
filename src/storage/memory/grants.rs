use async_trait::async_trait;

use super::MemoryTenant;
use super::rows::Rows;
use super::state::{Change, Concerned};
use crate::base::Timestamp;
use crate::model::audit::Action;
use crate::model::grant::{Grant, GrantState};
use crate::model::refresh::RefreshHead;
use crate::model::{Audit, GrantId, RevocationKey, UserId};
use crate::storage::verdict::{Decision, Epoch, decide};
use crate::storage::{Grants, RefreshVerdict, Result, RevokeGrant, Rotation, horizon};

#[async_trait]
impl Grants for MemoryTenant {
    async fn find_grant(&self, id: GrantId) -> Result<Option<Grant>> {
        Ok(self.read(|rows| rows.grants.get(&id).map(|row| row.grant.clone())))
    }

    async fn list_grants(&self, user: UserId, now: Timestamp) -> Result<Vec<Grant>> {
        Ok(self.read(|rows| {
            let live = |g: &&Grant| {
                g.user == Some(user) && g.state == GrantState::Live && now < g.expires_at
            };
            let grants = rows.grants.values().map(|row| &row.grant);
            let mut grants: Vec<_> = grants.filter(live).cloned().collect();
            grants.sort_by_key(|grant| std::cmp::Reverse((grant.created_at, grant.id)));
            grants
        }))
    }

    async fn rotate_refresh(
        &self,
        rotation: &Rotation,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RefreshVerdict> {
        let epoch = self.store.epoch();
        Ok(self.change(|rows, change| Rotating { rows, change, rotation, now }.run(epoch, audit)))
    }

    async fn revoke_grant(
        &self,
        id: GrantId,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RevokeGrant> {
        Ok(self.change(|rows, change| {
            let Some(row) = rows.grants.get(&id) else { return RevokeGrant::Unknown };
            if row.grant.state == GrantState::Revoked {
                return RevokeGrant::AlreadyRevoked;
            }
            revoke(rows, change, id, now);
            if let Some(row) = rows.grants.get(&id) {
                change.record(Action::GrantRevoked, now, audit, concerned(&row.grant));
            }
            RevokeGrant::Revoked
        }))
    }

    async fn mark_head_seen(&self, id: GrantId, generation: u32) -> Result<()> {
        self.change(|rows, _| {
            let live = rows.grants.get_mut(&id).filter(|row| row.grant.state == GrantState::Live);
            let refresh = live.and_then(|row| row.grant.refresh.as_mut());
            if let Some(head) = refresh.filter(|head| head.head == generation) {
                head.head_seen = true;
            }
        });
        Ok(())
    }
}

fn concerned(grant: &Grant) -> Concerned {
    Concerned::grant(grant.id, grant.user, &grant.client, grant.session)
}

fn revoke(rows: &mut Rows, change: &mut Change, id: GrantId, now: Timestamp) {
    for (id, horizon) in rows.revoke_grants(|grant| grant.id == id) {
        change.revoke(RevocationKey::Grant(id.to_string()), horizon, now);
    }
}

/// A presentation of a refresh token under the lock.
struct Rotating<'a> {
    rows: &'a mut Rows,
    change: &'a mut Change,
    rotation: &'a Rotation,
    now: Timestamp,
}

impl Rotating<'_> {
    fn run(mut self, epoch: Epoch<'_>, audit: &Audit) -> RefreshVerdict {
        let (id, now) = (self.rotation.presented.grant, self.now);
        let Some(row) = self.rows.grants.get(&id) else { return RefreshVerdict::Unknown };
        let owners_live = self.owners_live(&row.grant);
        let of = concerned(&row.grant);
        let skipped_until = row.keep_until;
        match decide(&row.grant, owners_live, self.rotation, now, epoch) {
            Decision::Rotated(head) => {
                self.change.record(Action::RefreshRotated, now, audit, of);
                RefreshVerdict::Rotated(self.write(head, Some(self.rotation.idle_expires_at)))
            }
            Decision::Repeated(head) => {
                self.change.record(Action::RefreshRepeated, now, audit, of);
                RefreshVerdict::Repeated(self.write(head, None))
            }
            Decision::Replaced { head, skipped } => {
                let key = RevocationKey::head(id, skipped);
                self.change.revoke(key, skipped_until, now);
                self.change.record(Action::RefreshReplaced, now, audit, of);
                RefreshVerdict::Replaced(self.write(head, None))
            }
            Decision::Adopted(head) => {
                self.change.record(Action::RefreshAdopted, now, audit, of);
                RefreshVerdict::Adopted(self.write(head, Some(self.rotation.idle_expires_at)))
            }
            Decision::Kept(head) => {
                let idle =
                    horizon::kept_idle(row.grant.idle_expires_at, self.rotation.idle_expires_at);
                RefreshVerdict::Kept(self.write(head, Some(idle)))
            }
            Decision::Reused => {
                self.change.record(Action::RefreshReused, now, audit, of);
                revoke(self.rows, self.change, id, now);
                RefreshVerdict::Reused
            }
            Decision::Forged => {
                self.change.record(Action::RefreshForged, now, audit, of);
                revoke(self.rows, self.change, id, now);
                RefreshVerdict::Forged
            }
            Decision::Unfit => RefreshVerdict::Unfit,
            Decision::Limited => RefreshVerdict::Limited,
            Decision::Expired => RefreshVerdict::Expired,
            Decision::Revoked => RefreshVerdict::Revoked,
            Decision::Unknown => RefreshVerdict::Unknown,
        }
    }

    fn owners_live(&self, grant: &Grant) -> bool {
        let session_live = |id| self.rows.session_is_live(id, self.now);
        grant.user.is_none_or(|user| self.rows.user_is_live(user))
            && self.rows.client_is_live(&grant.client)
            && (grant.offline || grant.session.is_none_or(session_live))
    }

    /// Writes the head and the access token that goes with it.
    fn write(&mut self, head: RefreshHead, idle_expires_at: Option<Timestamp>) -> RefreshHead {
        if let Some(row) = self.rows.grants.get_mut(&self.rotation.presented.grant) {
            row.grant.refresh = Some(head.clone());
            if let Some(idle) = idle_expires_at {
                row.grant.idle_expires_at = idle;
            }
            row.raise(self.rotation.access_expires_at);
        }
        if let Some(opaque) = &self.rotation.opaque {
            let mut claims = opaque.claims.clone();
            claims.generation = Some(head.head);
            self.rows.add_access_token(opaque.digest, claims);
        }
        head
    }
}
