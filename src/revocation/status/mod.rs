//! Status lists (draft-ietf-oauth-status-list): places for new tokens, and lists that say which of
//! them are revoked.
//!
//! A list follows from the rows of tokens and the revocation log, and is stored nowhere: a node makes
//! it by one query when it is first asked for, and then adds what its view of the log learns.

mod list;
mod order;
mod places;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use serde_json::json;
use tokio::sync::Mutex;

use super::View;
use crate::base::{Digest, Entropy, Timestamp};
use crate::config::settings;
use crate::model::TenantUid;
use crate::model::token::{AccessClaims, OpaqueToken, StatusPlace};
use crate::storage::{NewOpaqueToken, Result, StatusList};
use crate::tenant::Tenant;

use list::Held;
pub use list::{ListToken, STATUS_LIST, compress};
use places::Places;

/// How many tokens a list has room for: 128 KiB of bits.
pub const CAPACITY: u32 = 1 << order::BITS;

/// So many lists are held in memory; more are made anew when they are asked for.
const MOST_HELD: u64 = 512;
/// The aggregation is looked up no more often than this.
const AGGREGATION_AGE: Duration = Duration::from_secs(1);

type Slot = Arc<Mutex<Option<Held>>>;

/// The status lists of every tenant that keeps them.
pub struct Statuses {
    view: Arc<View>,
    entropy: Arc<dyn Entropy>,
    places: Places,
    held: Cache<(TenantUid, String), Slot>,
    aggregations: Cache<TenantUid, (Timestamp, Arc<str>)>,
}

impl Statuses {
    /// Nothing taken, nothing held yet.
    pub fn new(view: Arc<View>, entropy: Arc<dyn Entropy>) -> Self {
        let held = Cache::builder().max_capacity(MOST_HELD);
        Self {
            view,
            entropy,
            places: Places::default(),
            held: held.time_to_idle(Duration::from_mins(10)).build(),
            aggregations: Cache::new(10_000),
        }
    }

    /// A place for a signed token that ends at `expires_at`; none unless the tenant keeps lists. No
    /// query but one for every thousand places.
    pub async fn place(
        &self,
        tenant: &Tenant,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<StatusPlace>> {
        if tenant.settings.status_lists.is_none() {
            return Ok(None);
        }
        let signer = tenant.keys.signer(tenant.settings.signing.access_token, now).await?;
        let (list, idx) = self.places.next(tenant, &*self.entropy, expires_at, now).await?;
        Ok(Some(StatusPlace { list, idx, kid: Some(signer.kid().to_owned()) }))
    }

    /// The list of this id as it is now, signed; none when the tenant has no such list, or it is over.
    pub async fn list(
        &self,
        tenant: &Tenant,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<ListToken>>> {
        let Some(settings) = tenant.settings.status_lists else { return Ok(None) };
        let Some(slot) = self.slot(tenant, id).await? else { return Ok(None) };
        let mut slot = slot.lock().await;
        let Some(held) = slot.as_mut().filter(|held| held.is_kept(now)) else { return Ok(None) };
        // What nobody can know is not said: a store that is away is an error.
        if !self.view.is_fresh(now) {
            self.view.sync().await?;
        }
        held.learn(&self.view, tenant, now).await?;
        held.token(tenant, settings, now).await.map(Some)
    }

    async fn slot(&self, tenant: &Tenant, id: &str) -> Result<Option<Slot>> {
        let key = (tenant.uid.clone(), id.to_owned());
        if let Some(slot) = self.held.get(&key) {
            return Ok(Some(slot));
        }
        // Nothing else is looked for, however it is spelt.
        if id.len() != 22 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
            return Ok(None);
        }
        let Some(list) = tenant.store.find_status_list(id).await? else { return Ok(None) };
        let make = || Arc::new(Mutex::new(Some(Held::new(list))));
        Ok(Some(self.held.get_with(key, make)))
    }

    /// The lists of the tenant, as JSON (draft §9.3); none unless it keeps lists.
    pub async fn aggregation(&self, tenant: &Tenant, now: Timestamp) -> Result<Option<Arc<str>>> {
        if tenant.settings.status_lists.is_none() {
            return Ok(None);
        }
        if let Some((at, known)) = self.aggregations.get(&tenant.uid)
            && now >= at
            && now.since(at) < AGGREGATION_AGE
        {
            return Ok(Some(known));
        }
        let lists = tenant.store.list_status_lists(now).await?;
        let uris: Vec<_> = lists.iter().map(|list| uri(tenant, list)).collect();
        let document: Arc<str> = json!({ "status_lists": uris }).to_string().into();
        self.aggregations.insert(tenant.uid.clone(), (now, Arc::clone(&document)));
        Ok(Some(document))
    }
}

/// The address of a list, which is its `sub`.
fn uri(tenant: &Tenant, list: &StatusList) -> String {
    format!("{}{}/{}", tenant.issuer(), StatusPlace::PATH, list.id)
}

/// The row of a signed token with a place. Its digest is that of the place: no token is spelt so.
pub fn row(claims: &AccessClaims) -> Option<NewOpaqueToken> {
    let place = claims.status.as_ref()?;
    let digest: Digest<OpaqueToken> =
        Digest::of(format!("status {} {}", place.list, place.idx).as_bytes());
    Some(NewOpaqueToken { digest, claims: claims.clone() })
}

/// What a tenant wants of its lists.
type Wanted = settings::StatusLists;
