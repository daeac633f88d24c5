use std::collections::HashSet;

use url::Url;

use super::super::keys;
use super::super::read::{Item, Section};
use super::super::settings::{
    Resource, RevocationMode, ScopeSetting, Server, Signing, StatusLists, Tenant,
};
use super::{branding, clients, days, device, host, hours, lifetimes, seconds, users};
use crate::model::client::{AccessTokenFormat, GrantType, SigningAlg};
use crate::model::{Scope, TenantSlug};

/// What a tenant's settings depend on beside themselves.
pub(super) struct Context<'a> {
    pub(super) slug: &'a TenantSlug,
    pub(super) server: &'a Server,
    pub(super) production: bool,
    /// Whether it is the only tenant of the file.
    pub(super) alone: bool,
}

pub(super) const FORMATS: [(&str, AccessTokenFormat); 2] =
    [("jwt", AccessTokenFormat::Jwt), ("opaque", AccessTokenFormat::Opaque)];

pub(super) const ALGORITHMS: [(&str, SigningAlg); 4] = [
    ("ES256", SigningAlg::ES256),
    ("RS256", SigningAlg::RS256),
    ("PS256", SigningAlg::PS256),
    ("EdDSA", SigningAlg::EdDSA),
];

/// The scopes of a tenant that names none; what they say is built in (OpenID Connect Core §5.4).
const STANDARD_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// Reads `tenants.<name>`.
pub(super) fn read(section: &Section<'_>, context: &Context<'_>) -> Tenant {
    let Context { slug, server, production, .. } = context;
    let own_host = section.get("host");
    let host = host::of_tenant(own_host.as_ref(), &section.item, slug, server);
    let issuer = host::issuer(host.as_deref(), slug, &server.public_url);
    let grants =
        section.get("grants").map_or_else(|| ALL_GRANTS[..4].to_vec(), |item| grants(&item));
    let scopes = scopes(section);
    let all_scopes: Scope = scopes.iter().map(|scope| scope.name.as_str()).collect();
    let resources = resources(section, &all_scopes);
    let code_retry = section.duration("code_retry", seconds(0)..=seconds(2), seconds(0));
    let around = clients::Around {
        grants: &grants,
        scopes: &all_scopes,
        resources: &resources,
        issuer: &issuer,
        production: *production,
    };
    let clients::Clients { clients, generated_secrets } = clients::read(section, &around);
    Tenant {
        name: section.words("name", 1..=100).unwrap_or_else(|| slug.to_string()),
        default_audience: default_resource(section, &resources).unwrap_or_else(|| issuer.clone()),
        host,
        lifetimes: lifetimes::read(&section.section("lifetimes", &keys::LIFETIMES)),
        device: device::read(&section.section("device", &keys::DEVICE), context, &issuer),
        signing: signing(&section.section("signing", &keys::SIGNING)),
        access_token_format: section.one_of(
            "access_token_format",
            &FORMATS,
            AccessTokenFormat::Jwt,
        ),
        revocation: section.one_of(
            "revocation",
            &[("view", RevocationMode::View), ("strict", RevocationMode::Strict)],
            RevocationMode::View,
        ),
        status_lists: status_lists(section),
        code_retry: (!code_retry.is_zero()).then_some(code_retry),
        token_rate: rate(section, "token_rate").unwrap_or(20),
        introspection_rate: rate(section, "introspection_rate").unwrap_or(500),
        users: users::read(section, *production),
        branding: branding::read(&section.section("branding", &keys::BRANDING)),
        issuer,
        grants,
        scopes,
        resources,
        clients,
        generated_secrets,
    }
}

/// Reads `status_lists`: a switch, or a section, which switches them on.
fn status_lists(section: &Section<'_>) -> Option<StatusLists> {
    let usual = StatusLists { ttl: seconds(30) };
    let item = section.get("status_lists")?;
    if !item.is_map() {
        return item.boolean().filter(|on| *on).map(|_| usual);
    }
    let section = item.section(&keys::STATUS_LISTS);
    let ttl = section.get("ttl").and_then(|item| {
        let ttl = item.duration(seconds(1)..=hours(1))?;
        if ttl.subsec_nanos() != 0 {
            item.fault("`ttl` is no whole number of seconds", "write it like 30s");
        }
        Some(ttl)
    });
    Some(ttl.map_or(usual, |ttl| StatusLists { ttl }))
}

/// Reads how many times a second; 0 is no limit.
pub(super) fn rate(section: &Section<'_>, key: &str) -> Option<u32> {
    section.get(key)?.number(0..=1_000_000)
}

/// The last one is off unless the tenant names it.
const ALL_GRANTS: [GrantType; 5] = [
    GrantType::AuthorizationCode,
    GrantType::RefreshToken,
    GrantType::ClientCredentials,
    GrantType::DeviceCode,
    GrantType::TokenExchange,
];

/// Reads a list of grant types that we serve.
pub(super) fn grants(item: &Item<'_>) -> Vec<GrantType> {
    let mut grants = Vec::new();
    for entry in item.list() {
        let long = ALL_GRANTS.map(|grant| (grant.as_str(), grant));
        let short =
            [("device_code", GrantType::DeviceCode), ("token_exchange", GrantType::TokenExchange)];
        let words = [&long[..3], &short, &long[3..]].concat();
        match entry.as_text() {
            // RFC 9700 §2.1.2 and §2.4: both show the token or the password to too many eyes.
            Some("implicit" | "password") => entry.fault(
                "this grant is unsafe and not served (RFC 9700)",
                "use authorization_code, which serves every kind of application",
            ),
            _ => match entry.one_of(&words) {
                Some(grant) if grants.contains(&grant) => {
                    entry.fault("it stands twice", "remove one");
                }
                Some(grant) => grants.push(grant),
                None => {}
            },
        }
    }
    grants
}

fn scopes(section: &Section<'_>) -> Vec<ScopeSetting> {
    let Some(list) = section.get("scopes") else {
        let standard = |name: &&str| ScopeSetting { name: (*name).to_owned(), description: None };
        return STANDARD_SCOPES.iter().map(standard).collect();
    };
    let mut seen = HashSet::new();
    list.list()
        .into_iter()
        .filter_map(|entry| {
            let (name, description) = if entry.is_map() {
                let entry = entry.clone().section(&keys::SCOPE);
                let name = entry.require("name", "write `name: orders:read`")?;
                (name, entry.words("description", 1..=200))
            } else {
                (entry.clone(), None)
            };
            let text = scope_token(&name)?;
            if !seen.insert(text.clone()) {
                name.fault(format!("`{text}` stands twice"), "remove one");
            }
            Some(ScopeSetting { name: text, description })
        })
        .collect()
}

fn scope_token(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if Scope::parse(text).is_ok() && !text.contains(' ') && text.len() <= 200 {
        return Some(text.to_owned());
    }
    item.fault(
        format!("`{text}` is no scope (RFC 6749 §3.3)"),
        "write printable ASCII without space, `\"` and `\\`, at most 200 characters",
    );
    None
}

/// Reads a list of scopes that `all` has.
pub(super) fn scopes_of(item: &Item<'_>, all: &Scope, whose: &str) -> Scope {
    let known: Vec<&str> = all.iter().collect();
    let names: Vec<&str> = item
        .list()
        .iter()
        .filter_map(|entry| {
            let text = entry.text()?;
            if all.contains(text) {
                return Some(text);
            }
            let near = known.iter().find(|name| strsim::damerau_levenshtein(text, name) <= 2);
            let near = near.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            entry.fault(
                format!("`{text}` is no scope of {whose}{near}"),
                format!("choose from `{all}`, or add it there"),
            );
            None
        })
        .collect();
    names.into_iter().collect()
}

fn resources(section: &Section<'_>, scopes: &Scope) -> Vec<Resource> {
    let Some(list) = section.get("resources") else { return Vec::new() };
    let mut seen = HashSet::new();
    list.list()
        .into_iter()
        .filter_map(|entry| {
            let (item, name, scopes) = if entry.is_map() {
                let entry = entry.clone().section(&keys::RESOURCE);
                let uri = entry.require("uri", "write `uri: https://api.example.com`")?;
                let own = entry.get("scopes");
                let own = own.map(|item| scopes_of(&item, scopes, "the tenant"));
                (uri, entry.words("name", 1..=100), own.unwrap_or_default())
            } else {
                (entry.clone(), None, Scope::default())
            };
            let uri = resource_uri(&item)?;
            if !seen.insert(uri.clone()) {
                item.fault(format!("`{uri}` stands twice"), "remove one");
            }
            Some(Resource { uri, name, scopes })
        })
        .collect()
}

/// RFC 8707 §2: "an absolute URI …, which MUST NOT include a fragment component".
fn resource_uri(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>' | b'\\');
    if text.len() <= 500 && text.bytes().all(fits) && Url::parse(text).is_ok() {
        return Some(text.to_owned());
    }
    item.fault(
        format!("`{text}` is no absolute URI without fragment"),
        "write it like https://api.example.com or urn:example:api",
    );
    None
}

fn default_resource(section: &Section<'_>, resources: &[Resource]) -> Option<String> {
    let item = section.get("default_resource")?;
    let text = item.text()?;
    if resources.iter().any(|resource| resource.uri == text) {
        return Some(text.to_owned());
    }
    item.fault(format!("`{text}` is not among `resources`"), "add it there");
    None
}

fn signing(section: &Section<'_>) -> Signing {
    let bits = section.get("rsa_bits").and_then(|item| {
        let bits = item.number(0..=u32::MAX)?;
        let fits = u16::try_from(bits).ok().filter(|bits| matches!(bits, 2048 | 3072 | 4096));
        if fits.is_none() {
            item.fault(format!("RSA keys of {bits} bits are not made"), "write 2048, 3072 or 4096");
        }
        fits
    });
    Signing {
        access_token: section.one_of("access_token", &ALGORITHMS, SigningAlg::ES256),
        id_token: section.one_of("id_token", &ALGORITHMS, SigningAlg::RS256),
        rsa_bits: bits.unwrap_or(2048),
        grace: section.duration("grace", seconds(0)..=days(90), hours(24)),
    }
}
