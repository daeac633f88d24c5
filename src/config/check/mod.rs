//! What each section of the file means, and what may be wrong with it.

mod branding;
mod clients;
mod device;
mod host;
mod jobs;
mod lifetimes;
mod redirect;
mod secrets;
mod server;
mod storage;
mod tenant;
mod users;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::keys;
use super::read::Item;
use super::settings::{Settings, StorageEngine};
use crate::model::client::GrantType;
use crate::model::{Scope, TenantSlug};

/// Reads the whole file. What comes back is meaningful only when no fault was noted.
pub(super) fn settings(root: Item<'_>) -> Settings {
    let root = root.section(&keys::ROOT);
    let storage_section = root.section("storage", &keys::STORAGE);
    let server_section = root.section("server", &keys::SERVER);
    let public_url = server::public_url(&server_section);
    let production = !root.item.source.dev && !super::settings::is_loopback(&public_url.url);
    let storage = storage::read(&storage_section, production);
    let server = server::read(&server_section, &public_url, &storage, production);
    let jobs = jobs::read(&root.section("jobs", &keys::JOBS));

    let mut tenants = BTreeMap::new();
    let mut hosts = HashMap::new();
    let found = root.get("tenants");
    let entries = found.as_ref().map(Item::entries).unwrap_or_default();
    if entries.is_empty() && found.is_none_or(|item| item.is_map()) {
        root.fault("there is no tenant", "add one, as in `tenants: {acme: {…}}`");
    }
    let alone = entries.len() == 1;
    for (name, item) in entries {
        let Ok(slug) = TenantSlug::parse(name) else {
            item.fault(
                format!("`{name}` is no name of a tenant"),
                "use 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit",
            );
            continue;
        };
        let context = tenant::Context { slug: &slug, server: &server, production, alone };
        let tenant = tenant::read(&item.clone().section(&keys::TENANT), &context);
        host::note_unique(&item, &tenant, &server, &mut hosts);
        tenants.insert(slug, tenant);
    }
    let settings = Settings { server, storage, jobs, tenants };
    if !settings.server.has_api_keys()
        && server_section.get("api_key_peppers").is_none()
        && let Some((slug, what)) = uses_api_keys(&settings)
    {
        server_section.fault(
            format!(
                "`api_key_peppers` is missing, and tenant `{slug}` has {what}: with Postgres a \
                 pepper is never made silently"
            ),
            "`openssl rand -base64 32 > pepper-1 && chmod 600 pepper-1`, then \
             `api_key_peppers: [{id: 1, secret_file: pepper-1}]`",
        );
    }
    settings
}

/// A tenant that needs API keys, and by what it shows.
fn uses_api_keys(settings: &Settings) -> Option<(&TenantSlug, &'static str)> {
    settings.tenants.iter().find_map(|(slug, tenant)| {
        if tenant.clients.iter().any(|client| client.scopes.contains(Scope::API_KEYS)) {
            Some((slug, "a client with the scope `api_keys:manage`"))
        } else if tenant.grants.contains(&GrantType::TokenExchange) {
            Some((slug, "the grant token-exchange"))
        } else {
            None
        }
    })
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
const fn minutes(minutes: u64) -> Duration {
    seconds(minutes * 60)
}
const fn hours(hours: u64) -> Duration {
    minutes(hours * 60)
}
const fn days(days: u64) -> Duration {
    hours(days * 24)
}

/// Whether state is kept where several nodes can share it.
fn is_shared(engine: &StorageEngine) -> bool {
    matches!(engine, StorageEngine::Postgres { .. })
}
