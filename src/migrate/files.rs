use aws_lc_rs::digest;

use crate::base::hex;

/// One migration of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// As in the file's name: `001`.
    pub version: &'static str,
    /// What the version sorts by.
    pub number: i64,
    /// As in the file's name: `initial_schema`.
    pub name: &'static str,
    /// The file, without its folder.
    pub filename: &'static str,
    /// The SQL that applies it.
    pub up: &'static str,
    /// The SQL that undoes it.
    pub down: &'static str,
}

impl Migration {
    /// `001_initial_schema`.
    pub fn title(&self) -> String {
        format!("{}_{}", self.version, self.name)
    }

    /// Of the SQL that applies it.
    pub fn checksum(&self) -> String {
        checksum(self.up)
    }
}

/// SHA-256 of the text without byte-order mark and with line ends of one kind, so that a checkout
/// on another system has the same.
pub(super) fn checksum(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// The part of the first migration that makes the ledger, and that does nothing where it is.
pub(super) fn ledger(first: &'static str) -> &'static str {
    let begin = first.find("-- ledger: begin").unwrap_or(0);
    let end = first.find("-- ledger: end").unwrap_or(begin);
    &first[begin..end]
}

macro_rules! migrations {
    ($engine:literal, $($version:literal $number:literal $name:literal),+ $(,)?) => {
        &[$(Migration {
            version: $version,
            number: $number,
            name: $name,
            filename: concat!($version, "_", $name, ".up.sql"),
            up: include_str!(concat!(
                "../../migrations/", $engine, "/", $version, "_", $name, ".up.sql"
            )),
            down: include_str!(concat!(
                "../../migrations/", $engine, "/", $version, "_", $name, ".down.sql"
            )),
        }),+]
    };
}

/// Those of Postgres, in order.
pub(super) const POSTGRES: &[Migration] = migrations!(
    "postgres", "001" 1 "initial_schema", "002" 2 "cheaper_writes", "003" 3 "api_keys",
    "004" 4 "status_lists",
);

/// Those of SQLite, in order.
pub(super) const SQLITE: &[Migration] = migrations!(
    "sqlite", "001" 1 "initial_schema", "002" 2 "cheaper_writes", "003" 3 "api_keys",
    "004" 4 "status_lists",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_have_the_same_migrations_up_to_the_expected_version() {
        let titles = |all: &[Migration]| all.iter().map(Migration::title).collect::<Vec<_>>();
        assert_eq!(titles(POSTGRES), titles(SQLITE));
        assert_eq!(POSTGRES.last().map(|m| m.number), Some(super::super::expected_version()));
        for pair in POSTGRES.windows(2) {
            assert!(pair[0].number < pair[1].number, "{}", pair[1].title());
        }
    }

    #[test]
    fn every_file_in_the_folder_is_compiled_in() {
        for (engine, all) in [("postgres", POSTGRES), ("sqlite", SQLITE)] {
            let folder = format!("{}/migrations/{engine}", env!("CARGO_MANIFEST_DIR"));
            let mut found: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".up.sql"))
                .collect();
            found.sort();
            assert_eq!(found, all.iter().map(|m| m.filename).collect::<Vec<_>>(), "{engine}");
        }
    }

    #[test]
    fn a_checkout_with_other_line_ends_has_the_same_checksum() {
        assert_eq!(checksum("a\nb\n"), checksum("\u{feff}a\r\nb\r\n"));
        assert_ne!(checksum("a\nb\n"), checksum("a\nb"));
    }

    #[test]
    fn the_ledger_is_a_part_of_the_first_migration() {
        for all in [POSTGRES, SQLITE] {
            let ledger = ledger(all[0].up);
            assert!(ledger.contains("schema_migration_history"), "{ledger}");
            assert!(!ledger.contains("tenants"), "{ledger}");
        }
    }
}
