use async_trait::async_trait;

use super::Result;
use crate::base::Timestamp;
use crate::model::consent::Consent;
use crate::model::{Audit, ClientId, UserId};

/// Remembered consents.
#[async_trait]
pub trait Consents: Send + Sync {
    /// What the user once allowed the client.
    async fn find_consent(&self, user: UserId, client: &ClientId) -> Result<Option<Consent>>;

    /// Remembers a consent: its scope is added to what was there for the same set of resources; one
    /// for other resources takes its place ([`Consent::after`]). Audits `consent.remembered`.
    async fn remember_consent(&self, consent: &Consent, audit: &Audit) -> Result<()>;

    /// The consents of a user, by client.
    async fn list_consents(&self, user: UserId) -> Result<Vec<Consent>>;

    /// Forgets the consent and revokes every grant of that user and client (entries expire at their
    /// grant's horizon). Audits `consent.withdrawn`.
    async fn withdraw_consent(
        &self,
        user: UserId,
        client: &ClientId,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<WithdrawConsent>;
}

/// The outcome of [`Consents::withdraw_consent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum WithdrawConsent {
    /// Forgotten, and this many grants were revoked.
    Withdrawn {
        /// Grants revoked now.
        grants: u32,
    },
    /// There was neither consent nor grant.
    Unknown,
}
