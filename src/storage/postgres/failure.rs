//! What a failed statement means: nothing happened, it may have happened, or it is worth another
//! try.

use std::borrow::Cow;

use sqlx::error::Error;

use crate::storage::StoreError;

/// Whether a statement changes anything: then a lost connection leaves its fate unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only reads, or what it wrote is not committed yet.
    None,
    /// It commits by itself, or is the commit.
    Commits,
}

/// A failed statement.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the caller is told.
    pub(super) error: StoreError,
    /// Two transactions were in each other's way; nothing happened.
    pub(super) retry: bool,
    /// The connection is of no more use.
    pub(super) broken: bool,
    /// The server takes no writes any more.
    pub(super) read_only: bool,
}

impl Failure {
    /// Sorts `error` of a statement with this `effect`.
    pub(super) fn of(error: Error, effect: Effect) -> Self {
        let code = match &error {
            Error::Database(db) => db.code().map(Cow::into_owned),
            _ => return Self::without_code(error, effect),
        };
        let code = code.as_deref().unwrap_or_default();
        // A session that is being ended: the server may have committed, and may only have been
        // waiting for a standby.
        if matches!(code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03") {
            return Self::without_code(error, effect);
        }
        Self {
            retry: matches!(code, "40001" | "40P01"),
            broken: code == "25006",
            read_only: code == "25006",
            error: StoreError::unavailable(error),
        }
    }

    /// No answer in time.
    pub(super) fn timed_out(effect: Effect) -> Self {
        Self::without_code(Error::Io(std::io::ErrorKind::TimedOut.into()), effect)
    }

    fn without_code(error: Error, effect: Effect) -> Self {
        let error = match effect {
            Effect::None => StoreError::unavailable(error),
            Effect::Commits => StoreError::unknown(error),
        };
        Self { error, retry: false, broken: true, read_only: false }
    }
}
