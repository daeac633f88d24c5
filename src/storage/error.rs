use thiserror::Error;

/// What a storage method returns: an outcome, or the news that there is none.
pub type Result<T> = std::result::Result<T, StoreError>;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The store could not answer. Both kinds become 503, never a protocol error.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Nothing happened: no connection, a timeout before the commit, a lock that was not got, a row
    /// that cannot be read. May be tried again.
    #[error("storage is unavailable: {0}")]
    Unavailable(#[source] Cause),
    /// The connection was lost while committing: it may or may not have happened. Never retried
    /// blindly.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(#[source] Cause),
}

impl StoreError {
    /// Nothing happened, because of `cause`.
    pub fn unavailable(cause: impl Into<Cause>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// It is not known what happened, because of `cause`.
    pub fn unknown(cause: impl Into<Cause>) -> Self {
        Self::Unknown(cause.into())
    }
}
