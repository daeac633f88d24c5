use async_trait::async_trait;

use super::MemoryTenant;
use super::state::Concerned;
use crate::base::Timestamp;
use crate::model::audit::Action;
use crate::model::consent::Consent;
use crate::model::{Audit, ClientId, RevocationKey, UserId};
use crate::storage::{Consents, Result, WithdrawConsent};

#[async_trait]
impl Consents for MemoryTenant {
    async fn find_consent(&self, user: UserId, client: &ClientId) -> Result<Option<Consent>> {
        Ok(self.read(|rows| rows.consents.get(&(user, client.clone())).cloned()))
    }

    async fn remember_consent(&self, consent: &Consent, audit: &Audit) -> Result<()> {
        self.change(|rows, change| {
            let key = (consent.user, consent.client.clone());
            let new = consent.clone();
            let new = match rows.consents.get(&key) {
                Some(known) => new.after(known),
                None => new,
            };
            rows.consents.insert(key, new);
            let of = concerned(consent.user, &consent.client);
            change.record(Action::ConsentRemembered, consent.granted_at, audit, of);
        });
        Ok(())
    }

    async fn list_consents(&self, user: UserId) -> Result<Vec<Consent>> {
        Ok(self.read(|rows| {
            rows.consents.values().filter(|consent| consent.user == user).cloned().collect()
        }))
    }

    async fn withdraw_consent(
        &self,
        user: UserId,
        client: &ClientId,
        now: Timestamp,
        audit: &Audit,
    ) -> Result<WithdrawConsent> {
        Ok(self.change(|rows, change| {
            let known = rows.consents.remove(&(user, client.clone())).is_some();
            let revoked = rows.revoke_grants(|g| g.user == Some(user) && g.client == *client);
            if !known && revoked.is_empty() {
                return WithdrawConsent::Unknown;
            }
            for (id, horizon) in &revoked {
                change.revoke(RevocationKey::Grant(id.to_string()), *horizon, now);
            }
            change.record(Action::ConsentWithdrawn, now, audit, concerned(user, client));
            WithdrawConsent::Withdrawn { grants: u32::try_from(revoked.len()).unwrap_or(u32::MAX) }
        }))
    }
}

fn concerned(user: UserId, client: &ClientId) -> Concerned {
    Concerned { client: Some(client.clone()), ..Concerned::user(user) }
}
