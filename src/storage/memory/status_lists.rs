use std::collections::HashMap;

use async_trait::async_trait;

use super::MemoryTenant;
use super::rows::StatusListRow;
use crate::base::Timestamp;
use crate::model::token::AccessClaims;
use crate::model::{Revocation, RevocationKey};
use crate::storage::{PlacesTaken, PlacesWanted, Result, StatusList, StatusLists};

#[async_trait]
impl StatusLists for MemoryTenant {
    async fn take_places(
        &self,
        wanted: &PlacesWanted,
        _now: Timestamp,
    ) -> Result<Option<PlacesTaken>> {
        if wanted.count > wanted.capacity {
            return Ok(None);
        }
        Ok(self.change(|rows, _| {
            let key = (wanted.ends_at, wanted.number);
            let row = rows.status_lists.entry(key).or_insert_with(|| StatusListRow {
                list: StatusList {
                    id: wanted.id.clone(),
                    seed: wanted.seed,
                    ends_at: wanted.ends_at,
                },
                taken: 0,
            });
            let first = row.taken;
            let taken = first.saturating_add(wanted.count);
            (taken <= wanted.capacity).then(|| {
                row.taken = taken;
                PlacesTaken { list: row.list.clone(), first }
            })
        }))
    }

    async fn find_status_list(&self, id: &str) -> Result<Option<StatusList>> {
        Ok(self.read(|rows| {
            let lists = rows.status_lists.values().map(|row| &row.list);
            lists.into_iter().find(|list| list.id == id).cloned()
        }))
    }

    async fn list_status_lists(&self, now: Timestamp) -> Result<Vec<StatusList>> {
        Ok(self.read(|rows| {
            let lists = rows.status_lists.values().map(|row| row.list.clone());
            lists.filter(|list| now < list.keep_until()).collect()
        }))
    }

    async fn revoked_places(
        &self,
        list: &str,
        among: Option<&[RevocationKey]>,
        now: Timestamp,
    ) -> Result<Vec<u32>> {
        let state = self.store.lock();
        let mut entries: HashMap<RevocationKey, Vec<Revocation>> = HashMap::new();
        for entry in state.log.live(now) {
            let wanted = among.is_none_or(|keys| keys.contains(&entry.revocation.key));
            if wanted && entry.tenant == self.uid {
                let key = entry.revocation.key.clone();
                entries.entry(key).or_default().push(entry.revocation);
            }
        }
        let Some(rows) = state.existing(&self.uid) else { return Ok(Vec::new()) };
        let place = |claims: &AccessClaims| {
            let place = claims.status.as_ref().filter(|place| place.list == list)?;
            let named = keys_of(claims).into_iter().filter_map(|key| entries.get(&key)).flatten();
            named.into_iter().any(|entry| kills(entry, claims)).then_some(place.idx)
        };
        Ok(rows.access_tokens.values().filter_map(place).collect())
    }
}

/// Everything that can be said in the log about a token with a place.
fn keys_of(claims: &AccessClaims) -> Vec<RevocationKey> {
    let mut keys = vec![
        RevocationKey::Jti(claims.jti.clone()),
        RevocationKey::Tenant,
        RevocationKey::Client(claims.client.to_string()),
    ];
    keys.extend(claims.user.map(|user| RevocationKey::Subject(user.to_string())));
    keys.extend(claims.session.map(|session| RevocationKey::Session(session.to_string())));
    if let Some(grant) = claims.grant {
        keys.push(RevocationKey::Grant(grant.to_string()));
        keys.push(RevocationKey::ApiKey(grant.to_string()));
        keys.extend(claims.generation.map(|generation| RevocationKey::head(grant, generation)));
    }
    let kid = claims.status.as_ref().and_then(|place| place.kid.clone());
    keys.extend(kid.map(RevocationKey::Kid));
    keys
}

fn kills(entry: &Revocation, claims: &AccessClaims) -> bool {
    let covers = |audience: &Vec<String>| audience.iter().any(|aud| claims.audience.contains(aud));
    entry.audience.as_ref().is_none_or(covers)
        && entry.not_before.is_none_or(|not_before| claims.issued_at <= not_before)
}
