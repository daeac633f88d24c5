//! Keys of a tenant.

use super::{Section, key};

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
        key("device", "section", "all defaults", "", "The device flow (RFC 8628)."),
        key(
            "grants",
            "list of `authorization_code`, `refresh_token`, `client_credentials`, `device_code`, `token_exchange`",
            "all of these but `token_exchange`",
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
            "status_lists",
            "true, false or section",
            "false",
            "true",
            "Whether signed access tokens have a place in a status list (draft-ietf-oauth-status-list). Each token then costs a row until it ends.",
        ),
        key(
            "code_retry",
            "duration, 0s to 2s",
            "0s",
            "2s",
            "For how long a network retry of a redeemed code is answered again instead of revoking.",
        ),
        key(
            "token_rate",
            "number, 0 to 1000000; 0 is no limit",
            "20",
            "100",
            "Token requests a second that each client may make, on each node; five seconds' worth at once. More are answered 429.",
        ),
        key(
            "introspection_rate",
            "number, 0 to 1000000; 0 is no limit",
            "500",
            "5000",
            "Introspections a second that each client may make, on each node; five seconds' worth at once. More are answered 429.",
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

/// `tenants.<name>.device`
pub static DEVICE: Section = Section {
    path: "tenants.<name>.device",
    keys: &[
        key(
            "code_ttl",
            "duration, 30s to 10m",
            "10m",
            "5m",
            "How long a device waits for its user.",
        ),
        key(
            "interval",
            "duration in whole seconds, 1s to 60s",
            "5s",
            "2s",
            "How long a device waits between polls.",
        ),
        key(
            "short_url",
            "true or false",
            "true when there is one tenant",
            "true",
            "Whether the users of this tenant type their codes at `/device` below `public_url`; tenants that share that address share the space of codes.",
        ),
        key(
            "request_rate",
            "number, 0 to 1000000; 0 is no limit",
            "10",
            "50",
            "Device codes a second that each client may ask for, on each node; five seconds' worth at once. More are answered 429.",
        ),
    ],
};

/// `tenants.<name>.status_lists`
pub static STATUS_LISTS: Section = Section {
    path: "tenants.<name>.status_lists",
    keys: &[key(
        "ttl",
        "duration in whole seconds, 1s to 1h",
        "30s",
        "10s",
        "How long a list may be kept; a revoked token is refused so much later at most, and a second.",
    )],
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
