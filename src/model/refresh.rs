//! Refresh tokens: one row (the grant's), one live head.
//!
//! The token carries grant, generation and nonce under a MAC, so that it can be derived again from
//! the row and is never stored. The MAC covers every byte before it.

use std::time::Duration;

use super::GrantId;
use crate::base::Timestamp;

/// What a refresh token says, once its spelling is known to be good. The MAC is not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedRefresh {
    /// The id of the ring key under which the MAC was made.
    pub kid: u8,
    /// The grant it belongs to.
    pub grant: GrantId,
    /// How many rotations came before it, plus one; the first token is generation 1.
    pub generation: u32,
    /// Tells two timelines (a restored backup, a fail-over) apart.
    pub nonce: RefreshNonce,
    /// HMAC-SHA-256 over all that precedes it.
    pub mac: [u8; 32],
}

/// Eight random bytes in each refresh token.
pub type RefreshNonce = [u8; 8];

/// The refresh columns of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshHead {
    /// Salt of the MAC key's derivation; drawn once per grant.
    pub salt: [u8; 16],
    /// Ring key of the head.
    pub kid: u8,
    /// Generation of the one live token.
    pub head: u32,
    /// Its nonce.
    pub head_nonce: RefreshNonce,
    /// The token before it, while it may still be repeated or replaced.
    pub pred: Option<Predecessor>,
    /// When the head was last made by a rotation.
    pub rotated_at: Timestamp,
    /// When the head was last made by a replacement.
    pub replaced_at: Option<Timestamp>,
    /// How often the head was replaced since the last rotation.
    pub replacements: u32,
    /// A hint: a token of the head was seen in use, so its holder has it.
    pub head_seen: bool,
    /// How often the head was handed out again.
    pub repeats: u32,
    /// Keyed digest of user agent and network of the last rotation; for theft in lock step.
    pub fingerprint: Option<[u8; 16]>,
    /// Whether a repeat or replacement since came from elsewhere.
    pub differs: bool,
    /// How many rotations in a row were followed by such.
    pub streak: u32,
    /// The storage epoch of the last rotation.
    pub epoch: String,
}

/// The token that was spent last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// Its generation.
    pub generation: u32,
    /// Its nonce.
    pub nonce: RefreshNonce,
}

/// How long a spent refresh token is still answered; zero matches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshWindows {
    /// The same head again (10 s by default). Zero switches the long one off, too.
    pub short: Duration,
    /// A fresh head in place of one that never arrived.
    pub long: Duration,
    /// How long after a new storage epoch a generation from the future is adopted (24 h).
    pub recovery: Duration,
}
