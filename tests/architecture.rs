//! The house keeps to its plan: imports follow the order in `lib.rs`, each package lives where it
//! belongs, migrations come in pairs, files stay readable.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate and the only folders (or files) of `src/` that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["http"]),
    ("sqlx", &["storage/sqlite", "storage/postgres", "migrate"]),
    ("oxide_auth", &["oauth/engine"]),
    ("jsonwebtoken", &["keys", "token"]),
    ("argon2", &["identity", "config/check/users.rs"]),
    ("tokio_cron_scheduler", &["jobs"]),
    ("clap", &["cli", "main.rs"]),
    ("serde_yaml", &["config", "http/pages"]),
    ("minijinja", &["http/pages"]),
    ("governor", &["limits"]),
    ("prometheus_client", &["telemetry"]),
    ("rand", &["base"]),
    ("reqwest", &["fetch"]),
    ("flate2", &["revocation"]),
    ("qrcode", &["rp"]),
    ("pmp_auth_verify", &["http/sample_api.rs", "cli/demo.rs"]),
];

const MOST_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(below: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            if !entry.ends_with("node_modules") && !entry.ends_with(".venv") {
                found.extend(files(&entry, ending));
            }
        } else if entry.to_string_lossy().ends_with(ending) {
            found.push(entry);
        }
    }
    found.sort();
    found
}

fn modules() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

/// The module of `src/` that a file belongs to, and its path below `src/`.
fn place(file: &Path) -> (String, String) {
    let below = file.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned();
    let module = below.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
    (module, below)
}

/// Code without comments, as far as these checks need.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// What a file names behind `crate::`, also in a group: `crate::{base::X, model}`.
fn imported(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                    c if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            names.push(name);
        } else {
            names.push(rest.to_owned());
        }
    }
    let first = |name: &String| {
        let name = name.trim();
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        name[..end].to_owned()
    };
    names.iter().map(first).filter(|name| !name.is_empty()).collect()
}

#[test]
fn a_module_imports_only_from_its_left() {
    let order = modules();
    let rank: BTreeMap<&str, usize> =
        order.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let mut faults = Vec::new();
    for file in files(&root().join("src"), ".rs") {
        let (module, below) = place(&file);
        let Some(own) = rank.get(module.as_str()) else { continue };
        for name in imported(&code(&file)) {
            if rank.get(name.as_str()).is_some_and(|other| other > own) {
                faults.push(format!("src/{below} imports crate::{name}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn imports_in_groups_are_seen() {
    let code =
        "use crate::{base::{Clock, Secret}, http};\nuse pmp_crate::x;\nfn f() { crate::cli::x() }";
    assert_eq!(imported(code), ["base", "http", "cli"]);
}

#[test]
fn each_package_lives_in_its_own_place() {
    let mut faults = Vec::new();
    for file in files(&root().join("src"), ".rs") {
        let (_, below) = place(&file);
        let code = code(&file);
        for (package, homes) in HOMES {
            let path = format!("{package}::");
            let named = code.match_indices(&path).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            });
            if named && !homes.iter().any(|home| below.starts_with(home)) {
                faults.push(format!("src/{below} names {package}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn migrations_come_in_pairs_on_both_engines() {
    let names = |engine: &str| -> Vec<String> {
        files(&root().join("migrations").join(engine), ".sql")
            .iter()
            .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
            .collect()
    };
    let postgres = names("postgres");
    assert!(!postgres.is_empty());
    assert_eq!(postgres, names("sqlite"), "the same versions on both engines");
    for up in postgres.iter().filter(|name| name.ends_with(".up.sql")) {
        let down = up.replace(".up.sql", ".down.sql");
        assert!(postgres.contains(&down), "{up} has no {down}");
    }
    assert_eq!(postgres.len() % 2, 0);
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut long = Vec::new();
    for folder in ["src", "tests", "benches", "crates"] {
        for file in files(&root().join(folder), ".rs") {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > MOST_LINES {
                long.push(format!("{} ({lines})", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "over {MOST_LINES} lines: {long:#?}");
}

#[test]
fn each_folder_says_what_it_owns() {
    let mut silent = Vec::new();
    let folders = ["src", "crates"].map(|folder| files(&root().join(folder), "mod.rs"));
    for file in folders.into_iter().flatten() {
        if !fs::read_to_string(&file).unwrap().starts_with("//! ") {
            silent.push(file);
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn every_test_that_the_docs_name_exists() {
    let mut code = String::new();
    for folder in ["src", "tests"] {
        for file in files(&root().join(folder), ".rs") {
            code.push_str(&fs::read_to_string(file).unwrap());
        }
    }
    for page in ["security.md", "device-flow.md"] {
        let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
        // A sentence of four words or more is a test's, too.
        let named: Vec<&str> = text
            .split('`')
            .filter(|word| {
                word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            })
            .filter(|word| {
                word.starts_with("sec_")
                    || word.starts_with("fault_")
                    || word.matches('_').count() > 3
            })
            .collect();
        assert!(named.len() > 10, "docs/{page}");
        let exists = |name: &str| code.contains(&format!("fn {name}("));
        let missing: Vec<&&str> = named.iter().filter(|name| !exists(name)).collect();
        assert!(missing.is_empty(), "docs/{page} names tests that are not there: {missing:?}");
    }
}

/// What an API links in is small, and knows nothing of the server.
#[test]
fn the_verifier_stands_alone_and_has_the_lints_of_the_house() {
    let manifest = fs::read_to_string(root().join("crates/pmp-auth-verify/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    let names: Vec<&str> =
        dependencies.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    assert!(names.contains(&"jsonwebtoken") && names.len() <= 14, "{names:?}");
    for heavy in ["pmp-auth", "sqlx", "axum", "hyper"] {
        assert!(!names.contains(&heavy), "{heavy}");
    }
    assert!(manifest.contains("[lints]\nworkspace = true"));
}
