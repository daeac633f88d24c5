//! How often is too often: counters that all nodes share.

use std::time::Duration;

use crate::base::Timestamp;

/// Marks the digest of what is counted (an account, an address, …); callers hash a purpose, the
/// tenant and the value, so that no counter tells whom it counts.
#[derive(Debug)]
pub enum LimitKey {}

/// The rule of one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRule {
    /// Attempts that cost nothing.
    pub free: u32,
    /// Delay after the first attempt that is not free; doubles with each further one. Zero: none.
    pub first_delay: Duration,
    /// The delay never exceeds this.
    pub max_delay: Duration,
    /// From this many attempts within the window on, none is allowed until the window has passed.
    pub hard: u32,
    /// How long attempts are remembered after the first.
    pub window: Duration,
}

/// The answer to an attempt. An attempt that is not allowed is not counted and not evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Attempt {
    /// Counted: go on and evaluate it. `count` includes it.
    Allowed {
        /// Attempts within the window so far.
        count: u32,
    },
    /// Too early; the next one is allowed then.
    Refused {
        /// When to come back.
        until: Timestamp,
    },
}
