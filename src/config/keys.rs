//! Every key that the file may have: the one list from which unknown keys are told, typos are
//! mended and `docs/configuration.md` is written.

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
            "A listener of its own for `/metrics` and administration.",
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

/// `server.secret_keys[]`
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

/// `tenants.<name>`
pub static TENANT: Section = Section {
    path: "tenants.<name>",
    keys: &[
        key(
            "name",
            "text, 1 to 100 characters",
            "the tenant's name in the file",
            "Acme Inc.",
            "What users are shown.",
        ),
        key(
            "host",
            "host name",
            "none",
            "login.acme.example",
            "A host of its own; then the tenant is served there only and its issuer is the origin of that host.",
        ),
        key("lifetimes", "section", "all defaults", "", "How long things live."),
        key(
            "grants",
            "list of `authorization_code`, `refresh_token`, `client_credentials`",
            "all of these",
            "[authorization_code, refresh_token]",
            "The grant types that any client of the tenant may have.",
        ),
        key(
            "scopes",
            "list of names, or of `{name, description}`",
            "[openid, profile, email, offline_access]",
            "[openid, {name: orders:read, description: See your orders}]",
            "The scopes that exist.",
        ),
        key(
            "resources",
            "list of addresses, or of sections",
            "none",
            "[https://api.acme.example]",
            "The APIs that tokens can be for (RFC 8707).",
        ),
        key(
            "default_resource",
            "one of `resources`",
            "the issuer",
            "https://api.acme.example",
            "The audience of tokens when a request names no `resource`.",
        ),
        key("signing", "section", "all defaults", "", "Algorithms and key sizes."),
        key(
            "access_token_format",
            "`jwt` or `opaque`",
            "jwt",
            "opaque",
            "What access tokens look like unless the client says otherwise.",
        ),
        key(
            "revocation",
            "`view` or `strict`",
            "view",
            "strict",
            "`view` answers from memory that is at most 1 s old; `strict` asks the database each time.",
        ),
        key(
            "code_retry",
            "duration, 0s to 2s",
            "0s",
            "2s",
            "For how long a network retry of a redeemed code is answered again instead of revoking.",
        ),
        key("clients", "list of sections", "none", "", "The applications."),
        key(
            "users",
            "list of sections",
            "none",
            "",
            "Users to create if absent; never overwritten.",
        ),
        key("branding", "section", "all defaults", "", "How the pages look."),
    ],
};

/// `tenants.<name>.lifetimes`
pub static LIFETIMES: Section = Section {
    path: "tenants.<name>.lifetimes",
    keys: &[
        key("code", "duration, 1s to 10m", "60s", "30s", "Authorization code."),
        key("access_token", "duration, 1s to 24h", "10m", "5m", "Access token."),
        key("id_token", "duration, 1s to 24h", "5m", "5m", "ID token."),
        key(
            "refresh_idle",
            "duration, 1s to 365d",
            "30d",
            "14d",
            "A refresh token that is not used.",
        ),
        key(
            "refresh_absolute",
            "duration, 1s to 730d, not below `refresh_idle`",
            "90d",
            "180d",
            "A grant, however often it is refreshed.",
        ),
        key(
            "refresh_short_window",
            "duration, 0s to 60s",
            "10s",
            "0s",
            "For how long a spent refresh token is answered with its successor again (a lost response, two tabs); 0s switches both windows off.",
        ),
        key(
            "refresh_long_window",
            "duration, 0s to 24h",
            "the access token's lifetime; 0s for browser clients",
            "10m",
            "For how long a successor that never arrived is replaced.",
        ),
        key(
            "refresh_recovery",
            "duration, 0s to 7d",
            "24h",
            "12h",
            "For how long after a restored backup or fail-over newer refresh tokens are adopted.",
        ),
        key(
            "session_idle",
            "duration, 1s to 90d",
            "30m",
            "8h",
            "A browser session that is not used.",
        ),
        key(
            "session_absolute",
            "duration, 1s to 90d, not below `session_idle`",
            "12h",
            "24h",
            "A browser session in any case.",
        ),
    ],
};

/// `tenants.<name>.scopes[]`
pub static SCOPE: Section = Section {
    path: "tenants.<name>.scopes[]",
    keys: &[
        key("name", "scope token (RFC 6749 §3.3)", "required", "orders:read", "The scope."),
        key(
            "description",
            "text, 1 to 200 characters",
            "built-in words for the standard scopes",
            "See your orders",
            "What a consent page says.",
        ),
    ],
};

/// `tenants.<name>.resources[]`
pub static RESOURCE: Section = Section {
    path: "tenants.<name>.resources[]",
    keys: &[
        key(
            "uri",
            "absolute URI without fragment",
            "required",
            "https://api.acme.example",
            "Its identifier; the `aud` of its tokens.",
        ),
        key(
            "name",
            "text, 1 to 100 characters",
            "the URI",
            "Orders API",
            "What consent pages call it.",
        ),
        key(
            "scopes",
            "list of the tenant's scopes",
            "all of them",
            "[orders:read]",
            "The scopes that make sense there.",
        ),
    ],
};

/// `tenants.<name>.signing`
pub static SIGNING: Section = Section {
    path: "tenants.<name>.signing",
    keys: &[
        key(
            "access_token",
            "`ES256`, `RS256`, `PS256` or `EdDSA`",
            "ES256",
            "EdDSA",
            "Algorithm of access tokens.",
        ),
        key(
            "id_token",
            "`ES256`, `RS256`, `PS256` or `EdDSA`",
            "RS256",
            "ES256",
            "Algorithm of ID tokens for clients that register none. Client libraries assume RS256.",
        ),
        key("rsa_bits", "2048, 3072 or 4096", "2048", "3072", "Size of new RSA keys."),
        key(
            "grace",
            "duration, 0s to 90d",
            "24h",
            "48h",
            "How long a replaced key stays published after the last token that it can have signed.",
        ),
    ],
};

/// `tenants.<name>.clients[]`
pub static CLIENT: Section = Section {
    path: "tenants.<name>.clients[]",
    keys: &[
        key(
            "client_id",
            "1 to 255 of printable ASCII without space",
            "required",
            "web-app",
            "Unique within the tenant.",
        ),
        key(
            "name",
            "text, 1 to 100 characters",
            "the client_id",
            "Acme Web",
            "What users are shown.",
        ),
        key(
            "type",
            "`confidential` or `public`",
            "required, unless `auth_method` says it",
            "confidential",
            "Whether the application can keep a secret (RFC 6749 §2.1).",
        ),
        key(
            "auth_method",
            "`client_secret_basic`, `client_secret_post` or `none`",
            "client_secret_basic; none for public clients",
            "client_secret_post",
            "How it authenticates; the one way that is accepted.",
        ),
        key(
            "client_secret",
            "text, or `generate`",
            "one of the three for confidential clients",
            "generate",
            "The secret. `generate` makes one at first start, beside the data. In the file it is refused when `public_url` is not loopback.",
        ),
        key(
            "client_secret_file",
            "path",
            "one of the three for confidential clients",
            "secrets/web-app",
            "A file that holds the secret.",
        ),
        key(
            "client_secret_hash",
            "`sha256:` and 43 letters of base64url, or a list of two",
            "one of the three for confidential clients",
            "",
            "SHA-256 of the secret, of at least 128 random bits; two while it is being changed.",
        ),
        key(
            "application_type",
            "`web`, `browser` or `native`",
            "web when confidential; else native if a redirect URI is loopback or of a private scheme; else browser",
            "native",
            "What kind of program it is.",
        ),
        key(
            "redirect_uris",
            "list of addresses",
            "required for authorization_code",
            "[https://app.example/callback]",
            "Where codes may be sent, compared byte for byte: https, http on loopback (any port), or a private scheme with a dot in it for native applications.",
        ),
        key(
            "post_logout_redirect_uris",
            "list of addresses",
            "none",
            "[https://app.example/]",
            "Where a browser may be sent after logout.",
        ),
        key(
            "grants",
            "list of the tenant's grants",
            "authorization_code and refresh_token, as far as the tenant has them",
            "[client_credentials]",
            "The grant types it may use.",
        ),
        key(
            "scopes",
            "list of the tenant's scopes",
            "the standard OpenID scopes; none without authorization_code",
            "[openid, orders:read]",
            "The scopes it may ask for.",
        ),
        key(
            "default_scopes",
            "list of the client's scopes",
            "none; all of them without authorization_code",
            "[orders:read]",
            "What it gets when it asks for none.",
        ),
        key(
            "resources",
            "list of the tenant's resources",
            "the tenant's default",
            "[https://api.acme.example]",
            "The resources it may ask tokens for.",
        ),
        key(
            "audiences",
            "list of the tenant's resources",
            "none",
            "[https://api.acme.example]",
            "As a resource server: the audiences whose tokens it may introspect.",
        ),
        key(
            "multi_audience",
            "true or false",
            "false",
            "true",
            "Whether one token may have more than one audience.",
        ),
        key(
            "require_pkce",
            "true or false",
            "true",
            "false",
            "Whether authorization requests must carry PKCE; only a confidential client may opt out.",
        ),
        key(
            "require_consent",
            "true or false",
            "true",
            "false",
            "Whether the consent page is shown; false for the tenant's own applications.",
        ),
        key(
            "refresh_tokens",
            "`offline_access` or `always`",
            "offline_access",
            "always",
            "When refresh tokens are issued: when that scope was granted, or with every code.",
        ),
        key(
            "refresh_rotation",
            "true",
            "true",
            "true",
            "Refresh tokens are rotated. Without it only sender-constrained tokens would be safe, and there are none yet: false is refused.",
        ),
        key(
            "access_token_format",
            "`jwt` or `opaque`",
            "the tenant's",
            "opaque",
            "What its access tokens look like.",
        ),
        key(
            "access_token_lifetime",
            "duration, 1s to 24h",
            "the tenant's",
            "5m",
            "How long its access tokens live.",
        ),
        key(
            "id_token_signed_response_alg",
            "`ES256`, `RS256`, `PS256` or `EdDSA`",
            "the tenant's",
            "ES256",
            "Algorithm of its ID tokens.",
        ),
        key(
            "cors_origins",
            "list of origins",
            "none",
            "[https://app.example]",
            "Exact origins that may call token, revoke and userinfo from a browser.",
        ),
        key(
            "client_uri",
            "address",
            "none",
            "https://app.example",
            "Where the application lives, for the consent page.",
        ),
        key("policy_uri", "address", "none", "https://app.example/privacy", "Its privacy policy."),
        key("tos_uri", "address", "none", "https://app.example/terms", "Its terms of service."),
        key(
            "enabled",
            "true or false",
            "true",
            "false",
            "false disables the client and what it was issued.",
        ),
    ],
};

/// `tenants.<name>.users[]`
pub static USER: Section = Section {
    path: "tenants.<name>.users[]",
    keys: &[
        key("email", "e-mail address", "required", "ada@example.com", "Unique within the tenant."),
        key(
            "username",
            "1 to 100 characters without space or `@`",
            "none",
            "ada",
            "Another name to sign in with.",
        ),
        key("name", "text, 1 to 200 characters", "none", "Ada Lovelace", "Full name."),
        key("given_name", "text, 1 to 100 characters", "none", "Ada", "Given name."),
        key("family_name", "text, 1 to 100 characters", "none", "Lovelace", "Family name."),
        key(
            "password",
            "text of 8 to 1024 bytes, or `generate`",
            "generate",
            "generate",
            "The first password. `generate` makes one at first start, beside the data. In the file it is refused when `public_url` is not loopback.",
        ),
        key("password_file", "path", "none", "secrets/ada", "A file that holds the password."),
        key(
            "password_hash",
            "`$argon2id$…` (PHC string)",
            "none",
            "",
            "The hash of a password; at most 1 GiB of memory, 10 passes and 16 lanes.",
        ),
    ],
};

/// `tenants.<name>.branding`
pub static BRANDING: Section = Section {
    path: "tenants.<name>.branding",
    keys: &[
        key(
            "accent",
            "colour as `#rrggbb`",
            "the built-in one",
            "\"#0f766e\"",
            "Colour of buttons and links.",
        ),
        key(
            "logo",
            "path of a .svg, .png, .webp or .jpg file of at most 256 KiB",
            "a monogram",
            "branding/acme.svg",
            "Shown above the forms.",
        ),
    ],
};

/// Every section, in the order of the reference.
pub static ALL: [&Section; 13] = [
    &ROOT,
    &SERVER,
    &SECRET_KEY,
    &STORAGE,
    &JOBS,
    &TENANT,
    &LIFETIMES,
    &SCOPE,
    &RESOURCE,
    &SIGNING,
    &CLIENT,
    &USER,
    &BRANDING,
];

/// Words that people write for one of our keys and that no count of letters would mend.
const SYNONYMS: [(&str, &str); 12] = [
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
