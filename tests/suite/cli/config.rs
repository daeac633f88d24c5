//! The shipped configuration, and how faults are told.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use pmp_auth::config::keys::{ALL, Section};
use pmp_auth::config::{self, Environment, settings::StorageEngine};

#[test]
fn the_shipped_file_works_as_it_is_and_has_no_secret_in_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml");
    let settings = config::load(&path, &Environment::empty()).unwrap();
    assert!(settings.server.is_loopback() && settings.server.demo);
    assert!(matches!(settings.storage.engine, StorageEngine::Sqlite { .. }));
    assert!(settings.server.secret_keys.is_empty(), "the ring is made at first start");
    assert_eq!(settings.tenants.len(), 2);
    for tenant in settings.tenants.values() {
        let confidential = tenant.clients.iter().filter(|client| !client.is_public());
        assert!(confidential.clone().all(|client| client.secrets.is_empty()));
        assert_eq!(confidential.count(), tenant.generated_secrets.len());
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().count() <= 120, "one can read it at one sitting");
    assert_eq!(config::warnings(&settings), []);
}

#[test]
fn nothing_but_the_storage_changes_on_the_way_to_postgres() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml");
    let environment = Environment::empty()
        .with("PMP_AUTH__STORAGE__TYPE", "postgres")
        .with("PMP_AUTH__STORAGE__CONNECTION_STRING", "postgres://db.example/pmp_auth")
        .with("PMP_AUTH__SERVER__SECRET_KEYS", "generate");
    let settings = config::load(&path, &environment).unwrap();
    assert!(matches!(settings.storage.engine, StorageEngine::Postgres { .. }));
}

/// Every word that differs from `name` by one letter: left out, doubled, exchanged with the next, or
/// another in its place.
fn typos(name: &str) -> BTreeSet<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut all = BTreeSet::new();
    for i in 0..letters.len() {
        let mut typo = letters.clone();
        typo.remove(i);
        all.insert(typo.iter().collect());
        let mut typo = letters.clone();
        typo.insert(i, letters[i]);
        all.insert(typo.iter().collect());
        for other in ['x', '_', '1'] {
            let mut typo = letters.clone();
            typo[i] = other;
            all.insert(typo.iter().collect());
        }
        if i + 1 < letters.len() {
            let mut typo = letters.clone();
            typo.swap(i, i + 1);
            all.insert(typo.iter().collect());
        }
    }
    all
}

/// A file in which `section` holds these keys, one per line.
fn file_with(section: &Section, keys: &BTreeSet<String>) -> String {
    let mut text = String::new();
    let mut indent = 0;
    for part in section.path.split('.').filter(|part| !part.is_empty()) {
        let name = part.trim_end_matches("[]");
        let name = if name == "<name>" { "acme" } else { name };
        let _ = writeln!(text, "{:indent$}{name}:", "");
        indent += 2;
        if part.ends_with("[]") {
            let _ = writeln!(text, "{:indent$}-", "");
            indent += 2;
        }
    }
    for key in keys {
        let _ = writeln!(text, "{:indent$}{key}: 1", "");
    }
    text
}

#[test]
fn every_typo_of_every_key_is_told_with_its_place_and_the_key_that_was_meant() {
    let mut tried = 0;
    for section in ALL {
        for key in section.keys {
            let typos: BTreeSet<String> = typos(key.name)
                .into_iter()
                .filter(|typo| !typo.is_empty() && !section.has(typo))
                // A number is a key of another kind, and `x-` is for anchors.
                .filter(|typo| typo.parse::<u64>().is_err() && typo != "_")
                .collect();
            let text = file_with(section, &typos);
            let faults = config::parse("c", Path::new(""), &text, &Environment::empty());
            let faults = faults.expect_err(&text);
            for typo in &typos {
                let told = faults
                    .iter()
                    .find(|fault| fault.message.starts_with(&format!("unknown key `{typo}`")))
                    .unwrap_or_else(|| panic!("`{typo}` is taken in\n{text}\n{faults}"));
                assert!(told.message.contains("; did you mean `"), "{typo}: {told}");
                let line = text.lines().nth(told.line - 1).unwrap();
                assert_eq!(&line[told.column - 1..told.column - 1 + typo.len()], typo, "{told}");
                tried += 1;
            }
        }
    }
    assert!(tried > 3000, "{tried} typos");
}
