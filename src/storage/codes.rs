use async_trait::async_trait;

use super::{NewOpaqueToken, NewRefresh, Result};
use crate::base::{Digest, Timestamp};
use crate::model::code::{Code, CodeRecord, CodeTerms};
use crate::model::grant::{Grant, GrantState, GrantTerms};
use crate::model::refresh::RefreshHead;
use crate::model::{Audit, ClientId, GrantId, SessionId, UserId};

/// Authorization codes (RFC 6749 §4.1): issued with their grant, peeked at, redeemed once.
#[async_trait]
pub trait Codes: Send + Sync {
    /// Makes a grant and its code, if the user is enabled and the session live (both checked in the
    /// same statement, the user's row read `FOR SHARE`). Audits `grant.created`.
    async fn issue_code(
        &self,
        grant: &NewGrant,
        code: &NewCode,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<IssueCode>;

    /// The immutable terms of a code, spent or not, expired or not, as long as its row stands.
    async fn peek_code(&self, code: &Digest<Code>) -> Result<Option<CodeRecord>>;

    /// Counts a wrong verifier from the right, authenticated confidential client; from the
    /// `limit`-th on the code is dead. Audits `code.killed` when it dies.
    async fn count_wrong_verifier(
        &self,
        code: &Digest<Code>,
        limit: u32,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<CountVerifier>;

    /// Spends a code and writes what comes out of it: one statement that locks the user's row, the
    /// code and the grant, decides, and writes. To be called only after every check of the request
    /// against the code's terms: a second *valid* use revokes the grant.
    async fn redeem_code(
        &self,
        redemption: &Redemption,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<RedeemCode>;
}

/// A grant to be made.
#[derive(Debug, Clone)]
pub struct NewGrant {
    /// Drawn by the caller.
    pub id: GrantId,
    /// For whom.
    pub client: ClientId,
    /// By whom; none for grants without a user.
    pub user: Option<UserId>,
    /// In which session.
    pub session: Option<SessionId>,
    /// What was agreed.
    pub terms: GrantTerms,
    /// Key that refresh tokens will be bound to.
    pub jkt: Option<String>,
    /// Whether it outlives the session.
    pub offline: bool,
    /// Nothing comes out of it after that.
    pub expires_at: Timestamp,
}

impl NewGrant {
    /// The grant as it is stored first: live, without a refresh token.
    pub(super) fn born(&self, now: Timestamp) -> Grant {
        let Self { id, client, user, session, terms, jkt, offline, expires_at } = self.clone();
        Grant {
            id,
            client,
            user,
            session,
            terms,
            jkt,
            offline,
            state: GrantState::Live,
            created_at: now,
            idle_expires_at: expires_at,
            expires_at,
            refresh: None,
        }
    }
}

/// A code to be issued.
#[derive(Debug, Clone)]
pub struct NewCode {
    /// The digest of the code.
    pub digest: Digest<Code>,
    /// What it binds.
    pub terms: CodeTerms,
    /// It cannot be redeemed from then on.
    pub expires_at: Timestamp,
}

/// The outcome of [`Codes::issue_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum IssueCode {
    /// Stored.
    Issued,
    /// The user is disabled or gone, or the session has ended.
    NotLive,
}

/// The outcome of [`Codes::count_wrong_verifier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CountVerifier {
    /// Counted; the code lives.
    Counted,
    /// The code is dead, now or since before.
    Dead,
    /// No such code, or it is spent: nothing was counted.
    NotLive,
}

/// What is to be written when a code is redeemed.
#[derive(Debug, Clone)]
pub struct Redemption {
    /// The code.
    pub code: Digest<Code>,
    /// The client that presents it; checked again under the lock.
    pub client: ClientId,
    /// The user of the peeked terms, whose row is locked first.
    pub user: UserId,
    /// The first refresh token, when one is issued.
    pub refresh: Option<NewRefresh>,
    /// The access token's row, when it has one.
    pub opaque: Option<NewOpaqueToken>,
    /// When the access token ends: raises the grant's horizon.
    pub access_expires_at: Timestamp,
    /// Digest of client authentication and verifier, and how long after the first redemption the
    /// same request is answered again; none when the tenant does not allow it (the default).
    pub retry: Option<Retry>,
}

/// The tenant's `code_retry` switch at work.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Digest over client, authentication and verifier: the same request has the same.
    pub fingerprint: [u8; 32],
    /// At most 2 s.
    pub window: std::time::Duration,
}

/// The outcome of [`Codes::redeem_code`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum RedeemCode {
    /// Spent now, by this call; everything was written. Audits `code.redeemed`.
    Redeemed {
        /// The refresh columns as written, when a refresh token was asked for.
        refresh: Option<RefreshHead>,
    },
    /// It was spent before: the grant is revoked now, with all that came and may yet come out of
    /// it. Audits `code.replayed`.
    Replayed {
        /// The grant that was revoked.
        grant: GrantId,
    },
    /// The same request again within the retry window: the same refresh token (whose generation is
    /// still 1), and a fresh access token, whose row (if opaque) was written.
    Repeated {
        /// The refresh columns as they stand.
        refresh: Option<RefreshHead>,
    },
    /// Killed by wrong verifiers.
    Dead,
    /// Its time was over before it was spent.
    Expired,
    /// Its grant, session, user or client is no longer live.
    Revoked,
    /// No such code for this client.
    Unknown,
}
