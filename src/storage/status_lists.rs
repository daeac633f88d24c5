use std::time::Duration;

use async_trait::async_trait;

use super::Result;
use super::horizon::LEEWAY;
use crate::base::Timestamp;
use crate::model::RevocationKey;

/// Status lists (draft-ietf-oauth-status-list) of one tenant: which there are, who takes which places
/// of them, and which of the places that tokens have are revoked. What a list says follows from the
/// rows of tokens and the revocation log, and is stored nowhere.
#[async_trait]
pub trait StatusLists: Send + Sync {
    /// Takes the next `count` places of a list, which is made if it is not there yet: one statement;
    /// no place is taken twice. None when the list has not so many left.
    async fn take_places(
        &self,
        wanted: &PlacesWanted,
        now: Timestamp,
    ) -> Result<Option<PlacesTaken>>;

    /// The list of this id, as long as its row stands.
    async fn find_status_list(&self, id: &str) -> Result<Option<StatusList>>;

    /// The lists that are kept at `now`, in the order of their ends.
    async fn list_status_lists(&self, now: Timestamp) -> Result<Vec<StatusList>>;

    /// The places of `list` whose tokens the log revokes: by all its entries that are live at `now`,
    /// or only by those `among` them. In no order.
    async fn revoked_places(
        &self,
        list: &str,
        among: Option<&[RevocationKey]>,
        now: Timestamp,
    ) -> Result<Vec<u32>>;
}

/// Places that a node takes, to give them to tokens.
#[derive(Debug, Clone)]
pub struct PlacesWanted {
    /// The list is that of tokens which end in the hour until then …
    pub ends_at: Timestamp,
    /// … and of these the one of this number, from 0 on.
    pub number: u32,
    /// How many places.
    pub count: u32,
    /// How many a list has.
    pub capacity: u32,
    /// Its id, should it be new: 22 letters of base64url.
    pub id: String,
    /// Its seed, should it be new.
    pub seed: [u8; 32],
}

/// Places that were taken: `count` from `first` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacesTaken {
    /// The list.
    pub list: StatusList,
    /// The first of them.
    pub first: u32,
}

/// A status list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusList {
    /// As in its address.
    pub id: String,
    /// From it follows which index is the n-th place.
    pub seed: [u8; 32],
    /// The last moment at which one of its tokens can end.
    pub ends_at: Timestamp,
}

impl StatusList {
    /// Until when it is served, and kept: verifiers' clocks differ.
    pub fn keep_until(&self) -> Timestamp {
        self.ends_at.plus(Self::KEPT)
    }

    const KEPT: Duration = LEEWAY;
}
