//! The version of the schema that this build reads and writes; `migrate/` brings a database there.

/// The newest migration that this build knows.
pub const VERSION: i64 = 4;

/// Why a store is not ready, for the log and for `readyz`.
pub fn mismatch(found: Option<i64>) -> String {
    match found {
        None => "the database has no schema yet: run `pmp-auth migrate up`".to_owned(),
        Some(found) if found < VERSION => {
            format!(
                "the schema is at {found}, this build needs {VERSION}: run `pmp-auth migrate up`"
            )
        }
        Some(found) => format!(
            "the schema is at {found}, this build knows only {VERSION}: run a newer `pmp-auth`"
        ),
    }
}
