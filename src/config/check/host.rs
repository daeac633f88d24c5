use std::collections::HashMap;

use url::Url;

use super::super::read::Item;
use super::super::settings::{Server, Tenant};
use crate::model::TenantSlug;

const PLACE: &str = "{tenant}";

/// Whether `text` is a host name in its usual spelling, with a port or without.
fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    name.len() <= 253
        && name.split('.').all(label)
        && name.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
        && port
            .is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port))
}

/// Reads `server.tenant_host`.
pub(super) fn pattern(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.matches(PLACE).count() == 1 && is_host(&text.replace(PLACE, "a")) {
        return Some(text.to_owned());
    }
    item.fault(
        format!("`{text}` is no host name with `{PLACE}` in it"),
        "write it like \"{tenant}.id.example.com\"",
    );
    None
}

/// The host of a tenant's own: `host`, else by the pattern.
pub(super) fn of_tenant(
    item: Option<&Item<'_>>,
    tenant: &Item<'_>,
    slug: &TenantSlug,
    server: &Server,
) -> Option<String> {
    if let Some(item) = item {
        let text = item.text()?;
        if is_host(text) {
            return Some(text.to_owned());
        }
        item.fault(
            format!("`{text}` is no host name"),
            "write it in lower case like login.acme.example, without https://",
        );
        return None;
    }
    let host = server.tenant_host.as_ref()?.replace(PLACE, slug.as_str());
    if is_host(&host) {
        return Some(host);
    }
    tenant.fault(
        format!("`server.tenant_host` makes `{host}` of this name, which is no host name"),
        "set `host`, or rename the tenant without `_` and without `-` at its ends",
    );
    None
}

/// The issuer: the origin of the tenant's own host, or a path below `public_url`. The scheme, and
/// the port unless the host has one, are those of `public_url`.
pub(super) fn issuer(host: Option<&str>, slug: &TenantSlug, public_url: &Url) -> String {
    let Some(host) = host else {
        return format!("{}/t/{slug}", public_url.origin().ascii_serialization());
    };
    let port = match public_url.port() {
        Some(port) if !host.contains(':') => format!(":{port}"),
        _ => String::new(),
    };
    format!("{}://{host}{port}", public_url.scheme())
}

/// Notes a fault when two tenants, or a tenant and the server, have one host.
pub(super) fn note_unique(
    item: &Item<'_>,
    tenant: &Tenant,
    server: &Server,
    hosts: &mut HashMap<String, String>,
) {
    if tenant.host.is_none() {
        return;
    }
    let name = item.path.to_string();
    let own = server.public_url.origin().ascii_serialization();
    let other = if tenant.issuer == own { Some("server.public_url".to_owned()) } else { None };
    if let Some(other) = other.or_else(|| hosts.insert(tenant.issuer.clone(), name)) {
        item.fault(
            format!("the host of {} is that of `{other}` too", tenant.issuer),
            "give each tenant a host of its own",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_spelling() {
        for good in ["login.acme.example", "acme.localhost:8080", "a", "xn--mnchen-3ya.example"] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            "Acme.example",
            "https://a.example",
            "a.example/",
            "a_b.example",
            "-a.example",
            "a..b",
            "127.0.0.1",
            "a.example:",
            "a.example:080",
            "a.example:99999",
            "*.example",
            "a example",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn an_issuer_is_a_path_or_an_origin() {
        let slug = TenantSlug::parse("acme").unwrap();
        let url = |text| Url::parse(text).unwrap();
        assert_eq!(issuer(None, &slug, &url("https://id.example")), "https://id.example/t/acme");
        assert_eq!(
            issuer(Some("a.example"), &slug, &url("https://id.example")),
            "https://a.example"
        );
        let local = url("http://localhost:8080");
        assert_eq!(issuer(Some("a.localhost"), &slug, &local), "http://a.localhost:8080");
        assert_eq!(issuer(Some("a.localhost:99"), &slug, &local), "http://a.localhost:99");
    }
}
