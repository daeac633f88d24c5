use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use url::Url;

use super::super::keys;
use super::super::read::{Item, Section};
use super::super::settings::{RingKey, Server, Storage, StorageEngine, is_loopback};
use super::{host, is_shared, minutes, seconds, secrets};
use crate::base::Secret;

/// The address for everyone, and the one to bind.
pub(super) struct PublicUrl {
    pub(super) url: Url,
    listen: SocketAddr,
}

/// Reads `listen` and `public_url`, on which much else depends.
pub(super) fn public_url(section: &Section<'_>) -> PublicUrl {
    let listen = section.get("listen").and_then(|item| address(&item));
    let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
    let local = local_url(listen);
    let url = match section.get("public_url") {
        Some(item) => origin(&item, section.item.source.dev),
        None if listen.ip().is_loopback() => None,
        None => {
            section.fault(
                format!("`public_url` is missing, and `listen` ({listen}) is not loopback"),
                "set `server.public_url: https://…`, the address that browsers see",
            );
            None
        }
    };
    PublicUrl { url: url.unwrap_or(local), listen }
}

#[expect(clippy::unwrap_used, reason = "an address and a port always make a URL")]
fn local_url(listen: SocketAddr) -> Url {
    let mut url = Url::parse("http://127.0.0.1").unwrap();
    let _ = url.set_ip_host(listen.ip());
    let _ = url.set_port(Some(listen.port()));
    url
}

/// Reads the rest of `server`.
pub(super) fn read(
    section: &Section<'_>,
    public_url: &PublicUrl,
    storage: &Storage,
    production: bool,
) -> Server {
    let PublicUrl { url, listen } = public_url;
    let demo = section.boolean("demo", false);
    if demo
        && production
        && let Some(item) = section.get("demo")
    {
        item.fault(
            format!("the demo is served on loopback only, and `public_url` is {}", spelt(url)),
            "set `demo: false`",
        );
    }
    let admin_listen = section.get("admin_listen").and_then(|item| {
        let admin = address(&item)?;
        if admin == *listen && admin.port() != 0 {
            item.fault("this is the address of `listen`", "choose another port, or leave it out");
        }
        Some(admin)
    });
    let hash_memory = section
        .get("hash_memory")
        .and_then(|item| item.size(64 << 20..=64 << 30, "write 64MiB to 64GiB, such as 256MiB"));
    Server {
        listen: *listen,
        admin_listen,
        public_url: url.clone(),
        trusted_proxies: trusted_proxies(section),
        secret_keys: secret_keys(section, storage, production),
        api_key_peppers: api_key_peppers(section, production),
        generate_api_key_pepper: match section.get("api_key_peppers") {
            Some(item) => item.as_text() == Some("generate"),
            None => !is_shared(&storage.engine),
        },
        data_dir: data_dir(section, storage),
        tenant_host: section.get("tenant_host").and_then(|item| host::pattern(&item)),
        demo,
        dev: section.item.source.dev,
        shutdown_grace: section.duration("shutdown_grace", seconds(0)..=minutes(10), seconds(30)),
        hash_memory: hash_memory.unwrap_or(256 << 20),
    }
}

fn spelt(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn data_dir(section: &Section<'_>, storage: &Storage) -> PathBuf {
    let beside = match &storage.engine {
        StorageEngine::Sqlite { path } => path.parent().map(PathBuf::from),
        StorageEngine::Memory | StorageEngine::Postgres { .. } => None,
    };
    beside.unwrap_or_else(|| section.item.source.resolve("data"))
}

fn address(item: &Item<'_>) -> Option<SocketAddr> {
    let text = item.text()?;
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let parsed = named.as_deref().unwrap_or(text).parse();
    if parsed.is_err() {
        item.fault(
            format!("`{text}` is no address and port"),
            "write 127.0.0.1:8080, 0.0.0.0:8080 or \"[::1]:8080\"",
        );
    }
    parsed.ok()
}

/// An origin that the world sees: RFC 8414 §2 allows an issuer neither query nor fragment, and
/// clients compare it byte for byte, so there is one spelling.
fn origin(item: &Item<'_>, dev: bool) -> Option<Url> {
    let text = item.text()?;
    let example = "write it like https://id.example.com";
    let Ok(url) = Url::parse(text) else {
        item.fault(format!("`{text}` is no URL"), example);
        return None;
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        item.fault(format!("`{text}` is not an https address"), example);
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        item.fault("a user name or password stands in the address", "remove what is before `@`");
        return None;
    }
    let origin = spelt(&url);
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || text.ends_with('/')
    {
        item.fault(
            format!("`{text}` has a path, query, fragment or trailing slash"),
            format!("write {origin}; tenants are served below it, at /t/NAME"),
        );
        return None;
    }
    if text != origin {
        item.fault(format!("`{text}` is not the usual spelling"), format!("write {origin}"));
        return None;
    }
    if url.scheme() == "http" && !is_loopback(&url) && !dev {
        item.fault(
            format!("`{text}` is plain http beyond this machine"),
            "set `server.public_url: https://…`, and terminate TLS in a proxy in front",
        );
        return None;
    }
    Some(url)
}

fn trusted_proxies(section: &Section<'_>) -> Vec<IpNet> {
    let Some(list) = section.get("trusted_proxies") else { return Vec::new() };
    list.list().iter().filter_map(proxy).collect()
}

fn proxy(item: &Item<'_>) -> Option<IpNet> {
    let text = item.text()?;
    let network =
        text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)));
    let Some(network) = network else {
        item.fault(format!("`{text}` is no network"), "write it like 10.0.0.0/8 or 192.0.2.7");
        return None;
    };
    if network.prefix_len() == 0 {
        item.fault(
            format!("`{text}` trusts everyone to say who they are"),
            "name the networks of your proxies only",
        );
        return None;
    }
    if network != network.trunc() {
        item.fault(
            format!("`{text}` is not the beginning of its network"),
            format!("write {}", network.trunc()),
        );
    }
    Some(network.trunc())
}

fn secret_keys(section: &Section<'_>, storage: &Storage, production: bool) -> Vec<RingKey> {
    let Some(item) = section.get("secret_keys") else {
        // A key that a node made for itself would be unknown to the next node.
        if is_shared(&storage.engine) {
            section.fault(
                "`secret_keys` is missing, and with Postgres a key is never made silently",
                "`openssl rand -base64 32 > ring-1 && chmod 600 ring-1`, then \
                 `secret_keys: [{id: 1, secret_file: ring-1}]`; or `secret_keys: generate` for a \
                 single node",
            );
        }
        return Vec::new();
    };
    ring(&item, production)
}

/// Without peppers a node with Postgres has no API keys; what needs them says so.
fn api_key_peppers(section: &Section<'_>, production: bool) -> Vec<RingKey> {
    section.get("api_key_peppers").map(|item| ring(&item, production)).unwrap_or_default()
}

/// A list of secrets with ids, newest first; empty for `generate`.
fn ring(item: &Item<'_>, production: bool) -> Vec<RingKey> {
    if item.as_text() == Some("generate") {
        return Vec::new();
    }
    let entries = item.list();
    if entries.is_empty() && item.is_list() {
        item.fault("the list is empty", "add a key, or leave it out");
    }
    let mut seen = HashSet::new();
    entries
        .into_iter()
        .filter_map(|entry| {
            let entry = entry.section(&keys::SECRET_KEY);
            let id = entry.require("id", "write `id: 1`, and a new number for each new secret");
            let id = id.and_then(|item| Some((u8::try_from(item.number(1..=255)?).ok()?, item)));
            if let Some((id, item)) = &id
                && !seen.insert(*id)
            {
                item.fault(format!("id {id} stands twice"), "give each key an id of its own");
            }
            let secret = ring_secret(&entry, production)?;
            Some(RingKey { id: id?.0, secret })
        })
        .collect()
}

fn ring_secret(entry: &Section<'_>, production: bool) -> Option<Secret<Vec<u8>>> {
    let Some((item, secret)) = secrets::read(entry, "secret", "secret_file", production)? else {
        entry.fault("the key has no secret", "add `secret_file: PATH`");
        return None;
    };
    secrets::refuse_weak(&item, &secret, 32);
    Some(Secret::new(secret.reveal().clone().into_bytes()))
}
