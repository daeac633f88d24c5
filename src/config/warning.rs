use std::fmt;
use std::net::IpAddr;

use super::settings::{Settings, StorageEngine};

/// Something that works and is worth a second look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key.
    pub path: String,
    /// What one should know.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// What is worth a second look in settings that are valid.
pub fn warnings(settings: &Settings) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |path: &str, message: &str| {
        found.push(Warning { path: path.to_owned(), message: message.to_owned() });
    };
    let server = &settings.server;
    let production = server.is_production();
    let shared = matches!(settings.storage.engine, StorageEngine::Postgres { .. });
    if production && matches!(settings.storage.engine, StorageEngine::Memory) {
        warn(
            "storage",
            "with memory, users, sessions, grants and keys are lost at every restart, and there can \
             be one node only",
        );
    }
    if !production && !is_local(server.listen.ip()) && !server.dev {
        warn(
            "server.listen",
            "other machines can reach the server, and `public_url` names this one only: the rules \
             for production are not applied",
        );
    }
    if production && server.listen.ip().is_unspecified() && server.trusted_proxies.is_empty() {
        warn(
            "server.trusted_proxies",
            "behind a proxy all callers share the proxy's address, and its limits, until the proxy \
             is named here",
        );
    }
    if shared && server.secret_keys.is_empty() {
        warn(
            "server.secret_keys",
            "`generate` makes a key on this node alone; name a key in a file before a second node \
             starts",
        );
    }
    if shared && server.generate_api_key_pepper {
        warn(
            "server.api_key_peppers",
            "`generate` makes a pepper on this node alone; name one in a file before a second node \
             starts",
        );
    }
    for (slug, tenant) in &settings.tenants {
        if shared && !tenant.generated_secrets.is_empty() {
            warn(
                &format!("tenants.{slug}.clients"),
                "`client_secret: generate` makes a secret on this node alone; name a file or a hash \
                 before a second node starts",
            );
        }
        for client in tenant.clients.iter().filter(|client| !client.require_pkce) {
            warn(
                &format!("tenants.{slug}.clients.{}", client.id),
                "without PKCE an injected code is noticed by `nonce` only",
            );
        }
    }
    // Pages of one origin can script one another, whatever their path.
    let branded =
        settings.tenants.values().filter(|t| t.host.is_none() && t.branding.logo.is_some());
    if branded.count() > 1 {
        warn(
            "tenants",
            "several tenants without a `host` of their own bring their own looks; they share one \
             origin, so treat them as one trust domain",
        );
    }
    found
}

fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback()
}
