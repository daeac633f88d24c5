//! What is to be done, from what the ledger says: a pure decision.

use super::{MigrateError, Migration, Report};

/// The checksum of a migration that was run by hand; its file could not know its own.
pub(super) const BY_HAND: &str = "by-hand";

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) version: String,
    pub(super) name: String,
    pub(super) checksum: String,
    pub(super) complete: bool,
}

/// What is there and what is to be done, or why nothing may be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) present: Vec<String>,
    pub(super) by_hand: Vec<&'static Migration>,
    pub(super) pending: Vec<&'static Migration>,
}

impl Plan {
    /// The report before anything was done.
    pub(super) fn report(&self) -> Report {
        Report {
            present: self.present.clone(),
            applied: Vec::new(),
            pending: self.pending.iter().map(|migration| migration.title()).collect(),
        }
    }
}

/// Compares the ledger (in order) with the migrations of this build.
pub(super) fn plan(known: &'static [Migration], ledger: &[Applied]) -> Result<Plan, MigrateError> {
    let mut plan = Plan { present: Vec::new(), by_hand: Vec::new(), pending: Vec::new() };
    for row in ledger {
        let title = format!("{}_{}", row.version, row.name);
        let Some(migration) = known.iter().find(|m| m.version == row.version) else {
            return Err(MigrateError::Newer(title));
        };
        if !row.complete {
            return Err(MigrateError::Incomplete(title));
        }
        if row.checksum == BY_HAND {
            plan.by_hand.push(migration);
        } else if row.checksum != migration.checksum() {
            let (expected, found) = (migration.checksum(), row.checksum.clone());
            return Err(MigrateError::Changed { name: title, expected, found });
        }
        plan.present.push(title);
    }
    let applied = |migration: &Migration| ledger.iter().any(|row| row.version == migration.version);
    plan.pending = known.iter().filter(|migration| !applied(migration)).collect();
    let newest = known.iter().filter(|m| applied(m)).map(|m| m.number).max().unwrap_or(0);
    match plan.pending.iter().find(|migration| migration.number < newest) {
        Some(gap) => Err(MigrateError::Gap(gap.title())),
        None => Ok(plan),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn migration(version: &'static str, number: i64) -> Migration {
        Migration { version, number, name: "x", filename: "", up: "select 1", down: "" }
    }

    const KNOWN: &[Migration] = &[migration("001", 1), migration("002", 2), migration("003", 3)];

    fn row(version: &str) -> Applied {
        Applied {
            version: version.to_owned(),
            name: "x".to_owned(),
            checksum: KNOWN[0].checksum(),
            complete: true,
        }
    }

    #[test]
    fn what_is_not_in_the_ledger_is_pending() {
        let plan = plan(KNOWN, &[row("001")]).unwrap();
        assert_eq!(plan.report().present, ["001_x"]);
        assert_eq!(plan.report().pending, ["002_x", "003_x"]);
    }

    #[test]
    fn a_changed_file_an_unknown_version_and_a_gap_are_refused() {
        let changed = Applied { checksum: "other".to_owned(), ..row("001") };
        assert!(matches!(plan(KNOWN, &[changed]), Err(MigrateError::Changed { .. })));
        let newer = [row("001"), row("004")];
        assert!(matches!(plan(KNOWN, &newer), Err(MigrateError::Newer(name)) if name == "004_x"));
        let gap = [row("001"), row("003")];
        assert!(matches!(plan(KNOWN, &gap), Err(MigrateError::Gap(name)) if name == "002_x"));
        let half = Applied { complete: false, ..row("001") };
        assert!(matches!(plan(KNOWN, &[half]), Err(MigrateError::Incomplete(_))));
    }

    #[test]
    fn a_file_that_was_run_by_hand_is_taken_over() {
        let by_hand = Applied { checksum: BY_HAND.to_owned(), ..row("001") };
        let plan = plan(KNOWN, &[by_hand]).unwrap();
        assert_eq!(plan.by_hand, [&KNOWN[0]]);
        assert_eq!(plan.present, ["001_x"]);
    }
}
