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
    /// For which resources: the default audience by name, too.
    pub resources: Vec<String>,
    /// When it was last given.
    pub granted_at: Timestamp,
}

impl Consent {
    /// What is on record after this was given. For the same resources it adds to the scope that was
    /// allowed; for others it stands alone, since nobody allowed every scope at every resource.
    #[must_use]
    pub fn after(mut self, known: &Self) -> Self {
        let within = |few: &[String], all: &[String]| few.iter().all(|one| all.contains(one));
        if within(&self.resources, &known.resources) && within(&known.resources, &self.resources) {
            self.scope = known.scope.union(&self.scope);
        }
        self.granted_at = self.granted_at.max(known.granted_at);
        self
    }
}
