//! Whether this node's ring is the one that the store's contents were made under.

use thiserror::Error;

use super::Ring;
use crate::base::Timestamp;
use crate::storage::{RingCheck, RingChecks, StoreError};

/// The node must not start.
#[derive(Debug, Error)]
pub enum RingFault {
    /// The store was written under another secret of the same id.
    #[error(
        "server.secret_keys: the key with id {0} is not the one this storage was written under"
    )]
    Mismatch(u8),
    /// The store could not say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Records or compares the check value of every key of the ring. Returns the ids that storage
/// knows and the ring lacks: what needs one of them is answered 503 on this node.
pub async fn ring_checks(
    ring: &Ring,
    store: &(impl RingChecks + ?Sized),
    now: Timestamp,
) -> Result<Vec<u8>, RingFault> {
    for id in ring.ids() {
        let Some(check) = ring.check_value(id) else { continue };
        match store.check_ring_key(id, &check, now).await? {
            RingCheck::Recorded | RingCheck::Matches => {}
            RingCheck::Mismatch => return Err(RingFault::Mismatch(id)),
        }
    }
    let known = store.known_ring_keys().await?;
    Ok(known.into_iter().filter(|id| !ring.knows(*id)).collect())
}
