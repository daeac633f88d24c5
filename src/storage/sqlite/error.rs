use crate::storage::StoreError;

/// Before the commit nothing has happened: no connection, a full disk, a row that cannot be read.
pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::unavailable(error)
}

/// While committing, only SQLite's own refusal is sure to have changed nothing.
pub(super) fn at_commit(error: sqlx::Error) -> StoreError {
    const BUSY: &str = "5";
    const FULL: &str = "13";
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some(BUSY | FULL) => StoreError::unavailable(error),
        _ => StoreError::unknown(error),
    }
}

/// A column holds what no version of ours wrote there.
pub(super) fn unreadable(column: &str) -> StoreError {
    StoreError::unavailable(format!("column `{column}` holds what cannot be read"))
}
