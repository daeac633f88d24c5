use std::path::PathBuf;

use url::Url;

use super::super::read::{Item, Section};
use super::super::settings::{MigrateMode, Storage, StorageEngine};
use super::secrets;
use crate::base::Secret;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Memory,
    Sqlite,
    Postgres,
}

const KINDS: [(&str, Kind); 3] =
    [("memory", Kind::Memory), ("sqlite", Kind::Sqlite), ("postgres", Kind::Postgres)];

/// Reads `storage`; memory when it is absent.
pub(super) fn read(section: &Section<'_>, production: bool) -> Storage {
    let kind = match section.get("type") {
        Some(item) => item.one_of(&KINDS),
        None if section.get("connection_string").is_some() => {
            section.fault("`type` is missing", "write `type: sqlite` or `type: postgres`");
            None
        }
        None => Some(Kind::Memory),
    };
    let engine = match kind {
        None => StorageEngine::Memory,
        Some(Kind::Memory) => memory(section),
        Some(Kind::Sqlite) => sqlite(section),
        Some(Kind::Postgres) => postgres(section, production),
    };
    let modes =
        [("check", MigrateMode::Check), ("auto", MigrateMode::Auto), ("off", MigrateMode::Off)];
    let default = if kind == Some(Kind::Postgres) { MigrateMode::Check } else { MigrateMode::Auto };
    let connections = section.get("max_connections").and_then(|item| item.number(1..=1000));
    Storage {
        engine,
        migrate: section.one_of("migrate", &modes, default),
        max_connections: connections.unwrap_or(if kind == Some(Kind::Postgres) { 10 } else { 4 }),
    }
}

const CONNECTIONS: [&str; 4] = [
    "connection_string",
    "connection_string_file",
    "listen_connection_string",
    "listen_connection_string_file",
];

fn memory(section: &Section<'_>) -> StorageEngine {
    refuse(section, &CONNECTIONS, "memory keeps nothing, so it connects to nothing");
    StorageEngine::Memory
}

fn refuse(section: &Section<'_>, keys: &[&str], why: &str) {
    for item in keys.iter().filter_map(|key| section.get(key)) {
        item.fault(why, "remove the line, or choose another `storage.type`");
    }
}

fn sqlite(section: &Section<'_>) -> StorageEngine {
    refuse(
        section,
        &CONNECTIONS[1..],
        "sqlite needs `connection_string`, the path of its file, only",
    );
    let path = section
        .require("connection_string", "name the file, as in `connection_string: data/pmp-auth.db`")
        .and_then(|item| sqlite_path(&item));
    StorageEngine::Sqlite { path: path.unwrap_or_default() }
}

fn sqlite_path(item: &Item<'_>) -> Option<PathBuf> {
    let text = item.text()?;
    let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"));
    let path = path.unwrap_or(text);
    if path.contains(":memory:") {
        item.fault("a database in memory is lost with its connection", "write `type: memory`");
    } else if path.contains("://") || path.contains(['?', '#']) || path.ends_with('/') {
        item.fault(
            format!("`{text}` is no path of a file"),
            "write it like data/pmp-auth.db or sqlite:///var/lib/pmp-auth/pmp-auth.db",
        );
    } else if path.is_empty() {
        item.fault("the path is empty", "write it like data/pmp-auth.db");
    } else {
        return Some(item.source.resolve(path));
    }
    None
}

fn postgres(section: &Section<'_>, production: bool) -> StorageEngine {
    let connection = connection(section, "connection_string", production);
    if connection == Some(None) {
        section.fault(
            "`connection_string` is missing",
            "set it like postgres://pmp_auth@localhost/pmp_auth, or name a file that holds it as \
             `connection_string_file`",
        );
    }
    let listen = connection_of(section, "listen_connection_string", production);
    let text = connection.flatten().unwrap_or_default();
    StorageEngine::Postgres { connection: Secret::new(text), listen: listen.map(Secret::new) }
}

fn connection_of(section: &Section<'_>, key: &str, production: bool) -> Option<String> {
    connection(section, key, production).flatten()
}

#[expect(clippy::option_option, reason = "absent and unusable are two things")]
fn connection(section: &Section<'_>, key: &str, production: bool) -> Option<Option<String>> {
    // A connection string is not a secret as such (no `production` here); its password is.
    let Some((item, text)) = secrets::read(section, key, &format!("{key}_file"), false)? else {
        return Some(None);
    };
    let text = text.reveal();
    let example = "write it like postgres://user@host:5432/database";
    let Ok(url) = Url::parse(text) else {
        item.fault("this is no URL", example);
        return None;
    };
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        item.fault(format!("`{}:` is not Postgres", url.scheme()), example);
        return None;
    }
    let in_file = section.get(key).is_some_and(|item| !item.is_from_environment());
    if production && in_file && url.password().is_some() && section.item.source.world_readable {
        item.fault(
            "every user of this machine can read this file, and a password stands in it",
            format!("chmod 600 the file, or put the connection string into a file of its own and name that as `{key}_file`"),
        );
    }
    Some(Some(text.clone()))
}
