use async_trait::async_trait;

use super::{DeviceRedemption, NewOpaqueToken, Redemption, Result};
use crate::base::Timestamp;
use crate::model::grant::Grant;
use crate::model::refresh::{PresentedRefresh, RefreshHead, RefreshNonce, RefreshWindows};
use crate::model::{Audit, ClientId, GrantId, UserId};

/// Grants and the refresh tokens in them.
#[async_trait]
pub trait Grants: Send + Sync {
    /// The grant, live or revoked, as long as its row stands.
    async fn find_grant(&self, id: GrantId) -> Result<Option<Grant>>;

    /// The live grants of a user, newest first.
    async fn list_grants(&self, user: UserId, now: Timestamp) -> Result<Vec<Grant>>;

    /// Decides about a refresh token whose MAC, client and binding were checked, and writes the
    /// verdict: one statement that locks the user's row and the grant (also checking session and
    /// client state), decides by the table of [`RefreshVerdict`], and writes.
    async fn rotate_refresh(
        &self,
        rotation: &Rotation,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RefreshVerdict>;

    /// Revokes a grant, with a `grant` entry that expires at the grant's horizon.
    /// Audits `grant.revoked`.
    async fn revoke_grant(&self, id: GrantId, now: Timestamp, audit: &Audit)
    -> Result<RevokeGrant>;

    /// Notes that a token of generation `generation` was seen in use, if that is the head of a live
    /// grant. A hint.
    async fn mark_head_seen(&self, id: GrantId, generation: u32) -> Result<()>;
}

/// The first refresh token of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefresh {
    /// Salt of the MAC key's derivation.
    pub salt: [u8; 16],
    /// The ring key of the token.
    pub kid: u8,
    /// Its nonce.
    pub nonce: RefreshNonce,
    /// Unused until then, it is dead.
    pub idle_expires_at: Timestamp,
    /// Where it was issued to: a keyed digest of the user agent, then one of the network, 8 bytes
    /// each.
    pub fingerprint: Option<[u8; 16]>,
}

impl NewRefresh {
    /// The refresh columns of a grant whose first token this is: generation 1, nothing before it.
    pub(super) fn first_head(&self, now: Timestamp, epoch: &str) -> RefreshHead {
        RefreshHead {
            salt: self.salt,
            kid: self.kid,
            head: 1,
            head_nonce: self.nonce,
            pred: None,
            rotated_at: now,
            replaced_at: None,
            replacements: 0,
            head_seen: false,
            repeats: 0,
            fingerprint: self.fingerprint,
            differs: false,
            streak: 0,
            epoch: epoch.to_owned(),
        }
    }
}

/// What comes out of a grant when its code is spent, whatever kind of code that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Issue<'a> {
    /// The first refresh token, when one is issued.
    pub(super) refresh: Option<&'a NewRefresh>,
    /// The access token's row, when it has one.
    pub(super) opaque: Option<&'a NewOpaqueToken>,
    /// When the access token ends.
    pub(super) access_expires_at: Timestamp,
}

impl Redemption {
    pub(super) fn issue(&self) -> Issue<'_> {
        Issue {
            refresh: self.refresh.as_ref(),
            opaque: self.opaque.as_ref(),
            access_expires_at: self.access_expires_at,
        }
    }
}

impl DeviceRedemption {
    pub(super) fn issue(&self) -> Issue<'_> {
        Issue {
            refresh: self.refresh.as_ref(),
            opaque: self.opaque.as_ref(),
            access_expires_at: self.access_expires_at,
        }
    }
}

/// How the presenter is bound to the token, which decides whether it is rotated at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Rotate: the rule.
    Rotating,
    /// A confidential client with sender-constrained tokens (FAPI): the head stays, last use is
    /// noted at most hourly.
    Fixed,
}

/// A presented refresh token and what may be written about it.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// What was presented, its MAC verified.
    pub presented: PresentedRefresh,
    /// The client, authenticated as far as it can be.
    pub client: ClientId,
    /// The grant's user, whose row is locked first.
    pub user: Option<UserId>,
    /// The nonce of a new head, drawn by the caller.
    pub nonce: RefreshNonce,
    /// The ring key of a new head.
    pub kid: u8,
    /// The windows in force.
    pub windows: RefreshWindows,
    /// The head's new idle end, when it rotates.
    pub idle_expires_at: Timestamp,
    /// Whether the requested scope and resource fit. When not, a verdict of Rotated, Repeated,
    /// Replaced or Adopted commits nothing and is [`RefreshVerdict::Unfit`]; Reused takes effect.
    pub fits: bool,
    /// The access token's row, when it has one; its `generation` is filled in by the verdict.
    pub opaque: Option<NewOpaqueToken>,
    /// When the access token ends: raises the grant's horizon.
    pub access_expires_at: Timestamp,
    /// Keyed digest of the user agent, then of the network, 8 bytes each; both changed means
    /// `differs`.
    pub fingerprint: Option<[u8; 16]>,
    /// Rotating or fixed.
    pub proof: Proof,
    /// Repeats and replacements since the last rotation from which on the answer is
    /// [`RefreshVerdict::Limited`].
    pub repeat_limit: u32,
}

/// What became of a presented refresh token. With `g` = presented generation, `w` = `now` −
/// max(rotated_at, replaced_at):
///
/// | presented | verdict |
/// |---|---|
/// | g = head, its nonce | Rotated (or `streak` reached 3: Reused) |
/// | g = pred, its nonce, w ≤ short | Repeated |
/// | g = pred, its nonce, now − rotated_at ≤ long, replacements < 3, not head_seen, short > 0 | Replaced |
/// | g > head | Adopted within the recovery window after a change of epoch, else Forged |
/// | anything else | Reused |
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum RefreshVerdict {
    /// The head moved on by one. Audits `refresh.rotated`.
    Rotated(RefreshHead),
    /// The same head again. Audits `refresh.repeated`.
    Repeated(RefreshHead),
    /// A new head in place of one that never arrived; the skipped generation got a `head`
    /// revocation. Audits `refresh.replaced`.
    Replaced(RefreshHead),
    /// Taken over from a lost timeline. Audits `refresh.adopted`.
    Adopted(RefreshHead),
    /// [`Proof::Fixed`]: the head stays.
    Kept(RefreshHead),
    /// A spent token: the grant is revoked now, with its `grant` entry. Audits `refresh.reused`.
    Reused,
    /// From a future that never was: revoked as Reused, and an alarm. Audits `refresh.forged`.
    Forged,
    /// It would have been honoured, but scope or resource do not fit: nothing was written.
    Unfit,
    /// Too many repeats: nothing was written; 429.
    Limited,
    /// Idle or absolute end has come: nothing was written.
    Expired,
    /// Grant, session, user or client is no longer live: nothing was written.
    Revoked,
    /// No such grant for this client, or it has no refresh token.
    Unknown,
}

/// The outcome of [`Grants::revoke_grant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RevokeGrant {
    /// Revoked now.
    Revoked,
    /// Was revoked already.
    AlreadyRevoked,
    /// No such grant.
    Unknown,
}
