use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::Mutex;

use super::CAPACITY;
use super::order::Order;
use crate::base::{Entropy, Timestamp, base64url};
use crate::model::TenantUid;
use crate::storage::{PlacesWanted, Result, StoreError};
use crate::tenant::Tenant;

/// Tokens that end within the same hour share a list.
const BUCKET_MILLIS: i64 = 60 * 60 * 1000;
/// So many places are taken at once; a node that stops leaves the rest of them empty.
const BLOCK: u32 = 1_000;
/// A tenant that fills so many lists in an hour has other troubles.
const MOST_LISTS: u32 = 10_000;

/// The places that this node has taken and not yet given.
pub(super) struct Places(Cache<(TenantUid, Timestamp), Arc<Mutex<Bucket>>>);

impl Default for Places {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(100_000).time_to_idle(Duration::from_hours(2)).build())
    }
}

/// Those of tokens that end in one hour.
#[derive(Default)]
struct Bucket {
    /// The list that was taken from last.
    number: u32,
    block: Option<Block>,
}

struct Block {
    list: String,
    order: Order,
    next: u32,
    end: u32,
}

impl Places {
    /// The next place for a token that ends at `expires_at`: list and index.
    pub(super) async fn next(
        &self,
        tenant: &Tenant,
        entropy: &dyn Entropy,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(String, u32)> {
        let ends_at = bucket(expires_at);
        let bucket = self.0.get_with((tenant.uid.clone(), ends_at), Arc::default);
        let mut bucket = bucket.lock().await;
        if let Some(place) = bucket.give() {
            return Ok(place);
        }
        bucket.take(tenant, entropy, ends_at, now).await?;
        bucket.give().ok_or_else(|| StoreError::unavailable("no place in any status list"))
    }
}

impl Bucket {
    fn give(&mut self) -> Option<(String, u32)> {
        let block = self.block.as_mut().filter(|block| block.next < block.end)?;
        let index = block.order.index(block.next);
        block.next += 1;
        Some((block.list.clone(), index))
    }

    /// Takes a block of the newest list that has one.
    async fn take(
        &mut self,
        tenant: &Tenant,
        entropy: &dyn Entropy,
        ends_at: Timestamp,
        now: Timestamp,
    ) -> Result<()> {
        for number in self.number..MOST_LISTS {
            let wanted = PlacesWanted {
                ends_at,
                number,
                count: BLOCK,
                capacity: CAPACITY,
                id: base64url::encode(entropy.bytes::<16>()),
                seed: entropy.bytes(),
            };
            let Some(taken) = tenant.store.take_places(&wanted, now).await? else { continue };
            self.number = number;
            self.block = Some(Block {
                order: Order::new(&taken.list.seed),
                list: taken.list.id,
                next: taken.first,
                end: taken.first + BLOCK,
            });
            return Ok(());
        }
        Ok(())
    }
}

/// The end of the hour in which `expires_at` lies; an end on the hour belongs to the hour before it.
fn bucket(expires_at: Timestamp) -> Timestamp {
    let millis = expires_at.millis();
    let hours = millis.div_euclid(BUCKET_MILLIS) + i64::from(millis.rem_euclid(BUCKET_MILLIS) > 0);
    Timestamp::from_millis(hours.saturating_mul(BUCKET_MILLIS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_with_the_hour_of_its_tokens() {
        let hour = |count: i64| Timestamp::from_seconds(count * 3600);
        assert_eq!(bucket(hour(5)), hour(5));
        assert_eq!(bucket(Timestamp::from_millis(hour(5).millis() + 1)), hour(6));
        assert_eq!(bucket(Timestamp::from_millis(hour(6).millis() - 1)), hour(6));
    }
}
