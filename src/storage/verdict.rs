//! What becomes of a presented refresh token or code: pure decisions, taken under the engine's
//! lock. Memory and SQLite call them; Postgres spells the same table in SQL, and the suite holds
//! the three to the same answers.

use super::{Proof, Redemption, Rotation};
use crate::base::Timestamp;
use crate::model::grant::{Grant, GrantState};
use crate::model::refresh::{Predecessor, RefreshHead};
use crate::model::{ClientId, GrantId};

/// So often may a head be replaced between two rotations.
pub const MAX_REPLACEMENTS: u32 = 3;

/// So many rotations in a row followed by a repeat from elsewhere are theft in lock step.
pub const LOCK_STEP_STREAK: u32 = 3;

/// The timeline of the store, and since when it is this one.
#[derive(Debug, Clone, Copy)]
pub struct Epoch<'a> {
    /// Its name.
    pub current: &'a str,
    /// When storage first recorded it.
    pub since: Timestamp,
}

/// What is to be written about a presented refresh token. Every head is as it is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Head on by one; the idle end moves.
    Rotated(RefreshHead),
    /// Same head; only `repeats` and `differs` changed.
    Repeated(RefreshHead),
    /// A new head; the access tokens of `skipped` get a `head` revocation.
    Replaced {
        /// The new head.
        head: RefreshHead,
        /// The generation that never arrived.
        skipped: u32,
    },
    /// Taken over from a lost timeline; the idle end moves.
    Adopted(RefreshHead),
    /// Nothing but the time of last use.
    Kept(RefreshHead),
    /// Revoke the grant.
    Reused,
    /// Revoke the grant, and raise the alarm.
    Forged,
    /// Nothing: scope or resource do not fit.
    Unfit,
    /// Nothing: too many repeats.
    Limited,
    /// Nothing: its time is over.
    Expired,
    /// Nothing: grant, session, user or client is not live.
    Revoked,
    /// Nothing: no such refresh token for this client.
    Unknown,
}

/// Decides about a presented refresh token whose MAC and binding are good. `owners_live` says
/// whether user, session (unless the grant is offline) and client are.
pub fn decide(
    grant: &Grant,
    owners_live: bool,
    rotation: &Rotation,
    now: Timestamp,
    epoch: Epoch<'_>,
) -> Decision {
    let Some(head) = grant.refresh.as_ref().filter(|_| grant.client == rotation.client) else {
        return Decision::Unknown;
    };
    if grant.state == GrantState::Revoked || !owners_live {
        return Decision::Revoked;
    }
    if now >= grant.idle_expires_at || now >= grant.expires_at {
        return Decision::Expired;
    }
    let verdict = judge(head, rotation, now, epoch);
    let honoured = !matches!(verdict, Decision::Reused | Decision::Forged | Decision::Limited);
    if honoured && !rotation.fits { Decision::Unfit } else { verdict }
}

/// The table itself (see [`RefreshVerdict`](super::RefreshVerdict)).
fn judge(head: &RefreshHead, rotation: &Rotation, now: Timestamp, epoch: Epoch<'_>) -> Decision {
    let presented = &rotation.presented;
    let is_pred = head
        .pred
        .is_some_and(|p| p.generation == presented.generation && p.nonce == presented.nonce);
    if presented.generation == head.head && presented.nonce == head.head_nonce {
        match rotation.proof {
            Proof::Fixed => Decision::Kept(head.clone()),
            Proof::Rotating => rotate(head, rotation, now, epoch),
        }
    } else if is_pred {
        answer_again(head, rotation, now)
    } else if presented.generation > head.head {
        adopt(head, rotation, now, epoch)
    } else {
        Decision::Reused
    }
}

fn rotate(head: &RefreshHead, rotation: &Rotation, now: Timestamp, epoch: Epoch<'_>) -> Decision {
    let streak = if head.differs { head.streak + 1 } else { 0 };
    if streak >= LOCK_STEP_STREAK {
        return Decision::Reused;
    }
    Decision::Rotated(RefreshHead { streak, ..successor(head, rotation, now, epoch) })
}

/// The predecessor again, whose answer may have been lost: in the short window the same head, in
/// the long one a new head, as long as nobody was seen to hold the present one.
fn answer_again(head: &RefreshHead, rotation: &Rotation, now: Timestamp) -> Decision {
    let windows = &rotation.windows;
    if windows.short.is_zero() {
        return Decision::Reused;
    }
    let made_at = head.replaced_at.map_or(head.rotated_at, |at| at.max(head.rotated_at));
    let repeatable = now.since(made_at) <= windows.short;
    let replaceable = !windows.long.is_zero()
        && now.since(head.rotated_at) <= windows.long
        && head.replacements < MAX_REPLACEMENTS
        && !head.head_seen;
    if !repeatable && !replaceable {
        return Decision::Reused;
    }
    if head.repeats.saturating_add(head.replacements) >= rotation.repeat_limit {
        return Decision::Limited;
    }
    let differs = head.differs || differs(head.fingerprint, rotation.fingerprint);
    if repeatable {
        let repeats = head.repeats.saturating_add(1);
        return Decision::Repeated(RefreshHead { repeats, differs, ..head.clone() });
    }
    Decision::Replaced {
        skipped: head.head,
        head: RefreshHead {
            head: head.head.saturating_add(1),
            head_nonce: rotation.nonce,
            kid: rotation.kid,
            replaced_at: Some(now.max(head.rotated_at)),
            replacements: head.replacements + 1,
            head_seen: false,
            differs,
            ..head.clone()
        },
    }
}

/// A generation from the future: the store lost it, or nobody ever issued it.
fn adopt(head: &RefreshHead, rotation: &Rotation, now: Timestamp, epoch: Epoch<'_>) -> Decision {
    let recovery = rotation.windows.recovery;
    let recovering =
        head.epoch != epoch.current && !recovery.is_zero() && now.since(epoch.since) <= recovery;
    if recovering {
        Decision::Adopted(successor(head, rotation, now, epoch))
    } else {
        Decision::Forged
    }
}

/// The head that follows the presented token. `streak` stays.
fn successor(
    head: &RefreshHead,
    rotation: &Rotation,
    now: Timestamp,
    epoch: Epoch<'_>,
) -> RefreshHead {
    let presented = &rotation.presented;
    RefreshHead {
        salt: head.salt,
        kid: rotation.kid,
        head: presented.generation.saturating_add(1),
        head_nonce: rotation.nonce,
        pred: Some(Predecessor { generation: presented.generation, nonce: presented.nonce }),
        // Stored times never move backwards.
        rotated_at: now.max(head.rotated_at),
        replaced_at: None,
        replacements: 0,
        head_seen: false,
        repeats: 0,
        fingerprint: rotation.fingerprint,
        differs: false,
        streak: head.streak,
        epoch: epoch.current.to_owned(),
    }
}

/// Whether both halves (user agent, network) changed. One alone is a browser update or a journey.
fn differs(then: Option<[u8; 16]>, now: Option<[u8; 16]>) -> bool {
    match (then, now) {
        (Some(then), Some(now)) => then[..8] != now[..8] && then[8..] != now[8..],
        _ => false,
    }
}

/// The columns of a code that decide about its redemption.
#[derive(Debug, Clone, Copy)]
pub struct CodeLife<'a> {
    /// Whose it is.
    pub client: &'a ClientId,
    /// The grant that it opens.
    pub grant: GrantId,
    /// It cannot be redeemed from then on.
    pub expires_at: Timestamp,
    /// When it was redeemed first.
    pub redeemed_at: Option<Timestamp>,
    /// [`Retry::fingerprint`](super::Retry) of the first redemption.
    pub retry_fingerprint: Option<[u8; 32]>,
    /// Killed by wrong verifiers.
    pub dead: bool,
}

/// What is to be done about a presented code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CodeDecision {
    /// Spend it and write what comes out of it.
    Redeemed,
    /// Revoke its grant.
    Replayed,
    /// Answer again; only the access token is new.
    Repeated,
    /// Nothing.
    Dead,
    /// Nothing.
    Expired,
    /// Nothing.
    Revoked,
    /// Nothing.
    Unknown,
}

/// Decides about a code that was presented by a request which passed every check. `grant` is none
/// when its row is gone; `owners_live` says whether user, session and client are live (the session
/// counts for an offline grant too: the code belongs to a sign-in that is going on).
pub fn decide_code(
    code: &CodeLife<'_>,
    grant: Option<&Grant>,
    owners_live: bool,
    redemption: &Redemption,
    now: Timestamp,
) -> CodeDecision {
    if *code.client != redemption.client {
        return CodeDecision::Unknown;
    }
    let live =
        owners_live && grant.is_some_and(|g| g.state == GrantState::Live && now < g.expires_at);
    if let Some(redeemed_at) = code.redeemed_at {
        let again = live && may_repeat(code, redeemed_at, grant, redemption, now);
        return if again { CodeDecision::Repeated } else { CodeDecision::Replayed };
    }
    if code.dead {
        CodeDecision::Dead
    } else if now >= code.expires_at {
        CodeDecision::Expired
    } else if live {
        CodeDecision::Redeemed
    } else {
        CodeDecision::Revoked
    }
}

/// The tenant's `code_retry` switch: the same request, at once, and its refresh token unused.
fn may_repeat(
    code: &CodeLife<'_>,
    redeemed_at: Timestamp,
    grant: Option<&Grant>,
    redemption: &Redemption,
    now: Timestamp,
) -> bool {
    let untouched = grant.and_then(|g| g.refresh.as_ref()).is_none_or(|r| r.head == 1);
    redemption.retry.as_ref().is_some_and(|retry| {
        untouched
            && !retry.window.is_zero()
            && now.since(redeemed_at) <= retry.window
            && code.retry_fingerprint == Some(retry.fingerprint)
    })
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
