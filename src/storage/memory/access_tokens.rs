use async_trait::async_trait;

use super::MemoryTenant;
use super::state::Concerned;
use crate::base::Digest;
use crate::model::audit::Action;
use crate::model::grant::GrantState;
use crate::model::token::{AccessClaims, OpaqueToken};
use crate::model::{Revocation, RevocationKey};
use crate::storage::{AccessTokens, Change, NewOpaqueToken, OpaqueRecord, Result, StoreError};

#[async_trait]
impl AccessTokens for MemoryTenant {
    async fn issue_access_token(&self, token: &NewOpaqueToken) -> Result<()> {
        self.change(|rows, _| {
            if rows.access_tokens.contains_key(&token.digest) {
                return Err(StoreError::unavailable("the token is there already"));
            }
            rows.add_access_token(token.digest, token.claims.clone());
            Ok(())
        })
    }

    async fn find_access_token(&self, token: &Digest<OpaqueToken>) -> Result<Option<OpaqueRecord>> {
        Ok(self.read(|rows| {
            let claims = rows.access_tokens.get(token)?.clone();
            let grant_live = claims.grant.is_none_or(|id| {
                rows.grants.get(&id).is_some_and(|row| row.grant.state == GrantState::Live)
            });
            Some(OpaqueRecord { claims, grant_live })
        }))
    }

    async fn revoke_access_token(&self, claims: &AccessClaims, change: &Change<'_>) -> Result<()> {
        let key = RevocationKey::Jti(claims.jti.clone());
        self.store.change(&self.uid, |rows, log, commit| {
            let entries = log.matching(&self.uid, &key);
            let known = entries.iter().any(|entry| change.now < entry.expires_at);
            let found = rows.token_jtis.get(&claims.jti).copied();
            // One that has a place stays: its list goes by it.
            let row = found.and_then(|digest| Some((digest, rows.access_tokens.get(&digest)?)));
            if let Some((digest, row)) = row
                && row.status.is_none()
            {
                rows.remove_access_token(&digest);
            }
            if known {
                return;
            }
            commit.append(Revocation {
                key,
                audience: Some(claims.audience.clone()),
                not_before: None,
                expires_at: change.not_after,
                at: change.now,
            });
            let of = Concerned {
                user: claims.user,
                client: Some(claims.client.clone()),
                session: claims.session,
                ..Concerned::resource("token", &claims.jti)
            };
            commit.record(Action::TokenRevoked, change.now, change.audit, of);
        });
        Ok(())
    }
}
