//! Every key that the file may have: the one list from which unknown keys are told, typos are
//! mended and `docs/configuration.md` is written.

mod client;
mod tenant;

pub use client::{CLIENT, USER};
pub use tenant::{BRANDING, DEVICE, LIFETIMES, RESOURCE, SCOPE, SIGNING, STATUS_LISTS, TENANT};

/// A setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it may be, with units and bounds.
    pub kind: &'static str,
    /// What it is when absent; `required` when there is no such thing.
    pub default: &'static str,
    /// A value as one would write it; empty when the section has an example of its own.
    pub example: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
}

const fn key(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    example: &'static str,
    about: &'static str,
) -> Key {
    Key { name, kind, default, example, about }
}

/// A map of settings.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Where it stands; `<…>` is any name, `[]` any entry of a list.
    pub path: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// The whole file.
pub static ROOT: Section = Section {
    path: "",
    keys: &[
        key("server", "section", "all defaults", "", "Listeners, the public address, key ring."),
        key("storage", "section", "memory", "", "Where state lives."),
        key("jobs", "section", "all defaults", "", "What runs by the clock."),
        key(
            "tenants",
            "map of sections, by name",
            "required",
            "",
            "Who is served. A name is 1 to 63 of `a-z`, `0-9`, `-`, `_`, and begins with a letter or digit.",
        ),
    ],
};

/// `server`
pub static SERVER: Section = Section {
    path: "server",
    keys: &[
        key(
            "listen",
            "address:port",
            "127.0.0.1:8080",
            "0.0.0.0:8080",
            "Where the public listener binds. Port 0 takes any free one.",
        ),
        key(
            "admin_listen",
            "address:port",
            "none",
            "127.0.0.1:9090",
            "A listener of its own for `/metrics` and administration. Without it `/metrics` is on the public listener, but only if `public_url` is loopback; otherwise it is not served.",
        ),
        key(
            "public_url",
            "origin",
            "`http://` and `listen`, when that is loopback; otherwise required",
            "https://id.example.com",
            "The origin under which the world reaches the server: no path, no trailing slash, https unless it is loopback.",
        ),
        key(
            "trusted_proxies",
            "list of networks (CIDR)",
            "none",
            "[10.0.0.0/8]",
            "Peers whose `X-Forwarded-For` is believed.",
        ),
        key(
            "secret_keys",
            "list of sections, newest first, or `generate`",
            "a generated file (memory and SQLite); required with Postgres",
            "",
            "The key ring under which signing keys and refresh tokens are protected. `generate` makes `secret-keys` beside the data at first start.",
        ),
        key(
            "api_key_peppers",
            "list of sections like those of `secret_keys`, newest first, or `generate`",
            "a generated file (memory and SQLite); none, and no API keys, with Postgres",
            "",
            "The secrets under which API keys are stored: new ones under the first, the others still count. Give each new one a higher id: a key moves to the first when it is used, never to a lower id. `generate` makes `api-key-pepper` beside the data at first start.",
        ),
        key(
            "tenant_host",
            "host name with `{tenant}` in it",
            "none",
            "\"{tenant}.id.example.com\"",
            "Gives each tenant without `host` a host of its own.",
        ),
        key(
            "demo",
            "true or false",
            "false",
            "true",
            "Serves the demo application at `/demo`; only with a loopback `public_url`.",
        ),
        key(
            "shutdown_grace",
            "duration, 0s to 10m",
            "30s",
            "10s",
            "How long a shutdown waits for requests in flight.",
        ),
        key(
            "hash_memory",
            "size, 64MiB to 64GiB",
            "256MiB",
            "1GiB",
            "Upper bound of the memory for password hashing; one hash takes 46 MiB.",
        ),
    ],
};

/// `server.secret_keys[]`, and of the same shape `server.api_key_peppers[]`
pub static SECRET_KEY: Section = Section {
    path: "server.secret_keys[]",
    keys: &[
        key(
            "id",
            "number, 1 to 255",
            "required",
            "1",
            "Which key this is; never used again for another secret.",
        ),
        key(
            "secret",
            "text of at least 32 bytes",
            "one of `secret`, `secret_file`",
            "",
            "The secret; refused in the file when `public_url` is not loopback.",
        ),
        key(
            "secret_file",
            "path",
            "one of `secret`, `secret_file`",
            "/run/secrets/ring-1",
            "A file that holds the secret.",
        ),
    ],
};

/// `storage`
pub static STORAGE: Section = Section {
    path: "storage",
    keys: &[
        key(
            "type",
            "`memory`, `sqlite` or `postgres`",
            "memory",
            "sqlite",
            "Which engine. Memory forgets everything at the end of the process.",
        ),
        key(
            "connection_string",
            "path or `sqlite://path`; `postgres://…`",
            "required with sqlite and postgres",
            "sqlite://data/pmp-auth.db",
            "Which database.",
        ),
        key(
            "connection_string_file",
            "path",
            "none",
            "/run/secrets/database-url",
            "A file that holds the connection string.",
        ),
        key(
            "listen_connection_string",
            "`postgres://…`",
            "`connection_string`",
            "postgres://db:5432/auth",
            "A direct connection for notifications, past any pooler; Postgres only.",
        ),
        key(
            "listen_connection_string_file",
            "path",
            "none",
            "/run/secrets/listen-url",
            "A file that holds it.",
        ),
        key(
            "migrate",
            "`check`, `auto` or `off`",
            "auto with sqlite, check with postgres",
            "auto",
            "`check` refuses to start on a schema that is not current, `auto` brings it up to date first, `off` does not look.",
        ),
        key(
            "max_connections",
            "number, 1 to 1000",
            "10 with postgres, 4 with sqlite",
            "20",
            "Connections to keep (Postgres), readers (SQLite).",
        ),
    ],
};

/// `jobs`
pub static JOBS: Section = Section {
    path: "jobs",
    keys: &[
        key(
            "cleanup",
            "five-field cron in UTC, or `off`",
            "\"*/10 * * * *\"",
            "\"0 3 * * *\"",
            "When expired data is deleted.",
        ),
        key(
            "cleanup_batch",
            "number, 1 to 100000",
            "1000",
            "5000",
            "Rows of each kind deleted in one batch.",
        ),
    ],
};

/// Every section, in the order of the reference.
pub static ALL: [&Section; 15] = [
    &ROOT,
    &SERVER,
    &SECRET_KEY,
    &STORAGE,
    &JOBS,
    &TENANT,
    &LIFETIMES,
    &DEVICE,
    &STATUS_LISTS,
    &SCOPE,
    &RESOURCE,
    &SIGNING,
    &CLIENT,
    &USER,
    &BRANDING,
];

/// Words that people write for one of our keys and that no count of letters would mend.
const SYNONYMS: [(&str, &str); 13] = [
    ("peppers", "api_key_peppers"),
    ("id", "client_id"),
    ("secret", "client_secret"),
    ("secret", "secret_keys"),
    ("callback_urls", "redirect_uris"),
    ("redirects", "redirect_uris"),
    ("issuer", "public_url"),
    ("url", "public_url"),
    ("port", "listen"),
    ("database_url", "connection_string"),
    ("dsn", "connection_string"),
    ("ttl", "lifetimes"),
    ("mail", "email"),
];

impl Section {
    /// Whether it has `name`.
    pub fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }

    /// The key that `typo` was meant to be.
    pub fn meant_by(&self, typo: &str) -> Option<&'static str> {
        let typo = typo.to_ascii_lowercase().replace('-', "_");
        if let Some((_, name)) =
            SYNONYMS.iter().find(|(word, name)| *word == typo && self.has(name))
        {
            return Some(name);
        }
        self.keys
            .iter()
            .map(|key| (strsim::damerau_levenshtein(&typo, key.name), key.name))
            .min()
            .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
            .map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_mended_and_a_far_one_is_not() {
        assert_eq!(CLIENT.meant_by("redirect_urls"), Some("redirect_uris"));
        assert_eq!(CLIENT.meant_by("id"), Some("client_id"));
        assert_eq!(SERVER.meant_by("Public-URL"), Some("public_url"));
        assert_eq!(SERVER.meant_by("colour"), None);
    }

    #[test]
    fn no_section_has_a_key_twice_and_every_key_is_described() {
        for section in ALL {
            for (i, key) in section.keys.iter().enumerate() {
                let again = section.keys[i + 1..].iter().any(|other| other.name == key.name);
                assert!(!again, "{}.{} twice", section.path, key.name);
                assert!(
                    !key.kind.is_empty() && !key.default.is_empty() && key.about.ends_with('.')
                );
            }
        }
    }
}
