//! What is kept, and why: the one table from which every engine's cleanup follows.

use crate::base::Timestamp;

/// A kind of row that cleanup deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Sessions that ended or expired.
    Sessions,
    /// Codes whose grant is gone.
    AuthorizationCodes,
    /// Grants past their horizon.
    Grants,
    /// Access tokens that have a row.
    AccessTokens,
    /// Status lists.
    StatusLists,
    /// Entries of the revocation log.
    Revocations,
    /// Used identifiers.
    Jtis,
    /// Requests under a one-time id.
    PushedRequests,
    /// Counters.
    Attempts,
    /// Device codes.
    DeviceCodes,
    /// API keys that ended.
    ApiKeys,
    /// Signing keys that left the key set.
    SigningKeys,
    /// Audit records past their retention.
    AuditRecords,
    /// Expired leases.
    Leases,
}

/// When a row may go. Times are columns of the row itself, so that a changed setting never deletes
/// what was issued under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// The kind.
    pub kind: Kind,
    /// Its table on the SQL engines.
    pub table: &'static str,
    /// The SQL condition under which a row may go; `:now` is the time.
    pub condition: &'static str,
    /// Why rows are kept so long.
    pub because: &'static str,
}

impl Kind {
    /// As printed by `pmp-auth cleanup` and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::AuthorizationCodes => "authorization_codes",
            Self::Grants => "grants",
            Self::AccessTokens => "access_tokens",
            Self::StatusLists => "status_lists",
            Self::Revocations => "revocations",
            Self::Jtis => "jtis",
            Self::PushedRequests => "pushed_requests",
            Self::Attempts => "attempts",
            Self::DeviceCodes => "device_codes",
            Self::ApiKeys => "api_keys",
            Self::SigningKeys => "signing_keys",
            Self::AuditRecords => "audit_records",
            Self::Leases => "leases",
        }
    }
}

/// Every kind that is cleaned up, in the order in which it is done.
pub const KINDS: &[Horizon] = &[
    Horizon {
        kind: Kind::AuthorizationCodes,
        table: "authorization_codes",
        condition: "keep_until <= :now",
        because: "a spent code must be known until its grant's horizon, so that a replay revokes; \
                  an unspent one until a day after it expired",
    },
    Horizon {
        kind: Kind::AccessTokens,
        table: "access_tokens",
        condition: "expires_at <= :now",
        because: "an expired token is inactive, row or no row",
    },
    Horizon {
        kind: Kind::StatusLists,
        table: "status_lists",
        condition: "keep_until <= :now",
        because: "until a minute after the last of its tokens can have ended",
    },
    Horizon {
        kind: Kind::Grants,
        table: "grants",
        condition: "keep_until <= :now",
        because: "until the last token that came out of it has ended and its refresh token could \
                  no longer be used, so that reuse is recognised",
    },
    Horizon {
        kind: Kind::Sessions,
        table: "sessions",
        condition: "keep_until <= :now",
        because: "until a day after its end, for audit and logout by `sid`",
    },
    Horizon {
        kind: Kind::Revocations,
        table: "revocations",
        condition: "exp <= :now",
        because: "`exp` is the last `exp` of any token that it can match, plus 60 s",
    },
    Horizon {
        kind: Kind::Jtis,
        table: "jti_replay",
        condition: "expires_at <= :now",
        because: "what it guards has expired",
    },
    Horizon {
        kind: Kind::PushedRequests,
        table: "par_requests",
        condition: "expires_at <= :now",
        because: "it can no longer be taken",
    },
    Horizon {
        kind: Kind::Attempts,
        table: "login_limits",
        condition: "expires_at <= :now",
        because: "its window has passed",
    },
    Horizon {
        kind: Kind::DeviceCodes,
        table: "device_codes",
        condition: "keep_until <= :now",
        because: "until a day after its end, so that late polls get the right answer",
    },
    Horizon {
        kind: Kind::ApiKeys,
        table: "api_keys",
        condition: "keep_until <= :now",
        because: "until 90 days after it ended, so that its owner can see what became of it",
    },
    Horizon {
        kind: Kind::SigningKeys,
        table: "encryption_keys",
        condition: "delete_at <= :now",
        because: "a retired key verifies nothing any more; a compromised one stays known for a year",
    },
    Horizon {
        kind: Kind::AuditRecords,
        table: "audit_logs",
        condition: "delete_at <= :now",
        because: "the retention of its class: 90 days, or 365 for security events",
    },
    Horizon {
        kind: Kind::Leases,
        table: "leases",
        condition: "expires_at <= :now",
        because: "an expired lease is nobody's",
    },
];

/// What a cleanup deleted (or would delete), by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Counts, in the order of [`KINDS`]; kinds with nothing to delete have 0.
    pub counts: Vec<(Kind, u64)>,
    /// Whether a batch was full: there may be more.
    pub more: bool,
    /// For which time it was decided.
    pub at: Option<Timestamp>,
}

impl Cleaned {
    /// The sum over all kinds.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}
