//! Remembered consent: what a user once allowed a client.

use super::{ClientId, Scope, UserId};
use crate::base::Timestamp;

/// A remembered consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Who allowed it.
    pub user: UserId,
    /// To whom.
    pub client: ClientId,
    /// What.
    pub scope: Scope,
    /// For which resources.
    pub resources: Vec<String>,
    /// When it was last given.
    pub granted_at: Timestamp,
}
