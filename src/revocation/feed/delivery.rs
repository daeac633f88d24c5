use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::Mutex;

use super::super::View;
use super::{Answer, Cursor, Entry, Page, Reader};
use crate::base::Timestamp;
use crate::model::{ClientId, TenantUid};
use crate::storage::Result;

/// Readers that have not asked for so long begin again with what is live.
const IDLE: Duration = Duration::from_hours(1);
const READERS: u64 = 10_000;

/// Where each reader is that acknowledges entry by entry (RFC 8936). In memory: after a restart what
/// is live is delivered again.
pub(in crate::revocation) struct Deliveries(Cache<(TenantUid, ClientId), Arc<Mutex<Delivery>>>);

impl Default for Deliveries {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(READERS).time_to_idle(IDLE).build())
    }
}

#[derive(Default)]
struct Delivery {
    at: Option<Cursor>,
    more: bool,
    /// Delivered, or about to be, and not acknowledged.
    outstanding: Vec<Arc<Entry>>,
}

impl View {
    /// Takes the acknowledgements of `client` and says what it is to get now: what it had and did
    /// not acknowledge first. At most `most` entries, and whether there are more.
    pub async fn deliver(
        &self,
        reader: &Reader,
        client: &ClientId,
        acknowledged: &HashSet<&str>,
        most: usize,
        now: Timestamp,
    ) -> Result<(Vec<Arc<Entry>>, bool)> {
        let key = (reader.tenant.clone(), client.clone());
        let delivery = self.deliveries.0.get_with(key, Arc::default);
        let mut delivery = delivery.lock().await;
        delivery.outstanding.retain(|entry| !acknowledged.contains(entry.id().as_str()));
        while delivery.outstanding.len() < most {
            let room = most - delivery.outstanding.len();
            let answer = match &delivery.at {
                Some(at) => self.since(reader, at, room, now).await?,
                None => Answer::Page(self.snapshot(reader, Some(room), now)),
            };
            let Answer::Page(Page { entries, cursor, more }) = answer else {
                delivery.at = None;
                continue;
            };
            delivery.outstanding.extend(entries);
            delivery.at = Some(cursor);
            delivery.more = more;
            if !more {
                break;
            }
        }
        let more = delivery.more || delivery.outstanding.len() > most;
        Ok((delivery.outstanding.iter().take(most).cloned().collect(), more))
    }
}
