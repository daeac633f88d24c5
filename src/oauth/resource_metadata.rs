//! Protected resource metadata (RFC 9728): what a client learns of an API that it knows by its
//! address alone.
//!
//! The document of a resource belongs to the resource's own host, where only a proxy of the API can
//! bring it; the same document stands below the issuer, which is what challenges point to.

use serde_json::{Map, Value, json};

use super::target;
use crate::base::{Digest, base64url};
use crate::config::settings;

/// Marks the digest of a resource's identifier.
enum ResourceUri {}

/// The identifiers of the resources of a tenant: those of the configuration; the issuer itself where
/// tokens are for it.
pub fn resources(tenant: &settings::Tenant) -> impl Iterator<Item = &str> {
    let own = (tenant.default_audience == tenant.issuer).then_some(tenant.issuer.as_str());
    tenant.resources.iter().map(|resource| resource.uri.as_str()).chain(own)
}

/// The last part of a document's address below the issuer: the same for as long as the resource has
/// this identifier.
pub fn id(resource: &str) -> String {
    base64url::encode(&Digest::<ResourceUri>::of(resource.as_bytes()).as_bytes()[..12])
}

/// The address of a resource's document below the issuer; none of what is no resource of the tenant.
pub fn url(tenant: &settings::Tenant, resource: &str) -> Option<String> {
    let known = resources(tenant).any(|known| known == resource);
    known.then(|| format!("{}/resources/{}", tenant.issuer, id(resource)))
}

/// The list of the tenant's resources, with the addresses of their documents.
pub fn list(tenant: &settings::Tenant) -> Value {
    let each = resources(tenant)
        .map(|resource| json!({"resource": resource, "resource_metadata": url(tenant, resource)}));
    json!({"resources": each.collect::<Vec<_>>()})
}

/// The document of the resource of this [`id`].
pub fn by_id(tenant: &settings::Tenant, wanted: &str) -> Option<Value> {
    resources(tenant).find(|resource| id(resource) == wanted).map(|one| document(tenant, one))
}

/// RFC 9728 §2. There is no `jwks_uri`: it would be of keys of the API's own (§2), not of ours.
fn document(tenant: &settings::Tenant, resource: &str) -> Value {
    let settings = tenant.resources.iter().find(|known| known.uri == resource);
    let all = tenant.scopes.iter().map(|scope| scope.name.as_str());
    let scopes: Vec<&str> = match settings {
        Some(known) if !known.scopes.is_empty() => known.scopes.iter().collect(),
        Some(_) => all.filter(|name| !target::is_about_no_resource(name)).collect(),
        None => all.collect(),
    };
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("resource", resource.into());
    put("authorization_servers", json!([tenant.issuer]));
    put("scopes_supported", json!(scopes));
    put("bearer_methods_supported", json!(["header"]));
    if let Some(name) = settings.and_then(|known| known.name.as_deref()) {
        put("resource_name", name.into());
    }
    Value::Object(members)
}

/// The document that stands at a well-known address of a host (RFC 9728 §3.1): of the one resource
/// whose identifier that is, with `/.well-known/oauth-protected-resource` taken out. A resource that
/// several tenants have is nobody's there: none of them may speak for the others.
///
/// `path` begins with a slash or is empty.
pub fn at_host<'a>(
    tenants: impl Iterator<Item = &'a settings::Tenant>,
    host: &str,
    path: &str,
    query: Option<&str>,
) -> Option<Value> {
    let spellings = spellings(host, path, query);
    let mut found = None;
    for tenant in tenants {
        for resource in resources(tenant) {
            if spellings.iter().any(|spelling| spelling == resource)
                && found.replace((tenant, resource)).is_some()
            {
                return None;
            }
        }
    }
    found.map(|(tenant, resource)| document(tenant, resource))
}

/// The identifiers that such an address can be of. §3.1: a slash after the host is left out.
fn spellings(host: &str, path: &str, query: Option<&str>) -> Vec<String> {
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let mut all = Vec::new();
    for (scheme, port) in [("https", ":443"), ("http", ":80")] {
        let host = host.strip_suffix(port).unwrap_or(host);
        all.push(format!("{scheme}://{host}{path}{query}"));
        if path.is_empty() {
            all.push(format!("{scheme}://{host}/{query}"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scope;
    use crate::oauth::testing;

    fn tenant(issuer: &str, resources: &[&str]) -> settings::Tenant {
        let mut tenant = testing::tenant_settings();
        issuer.clone_into(&mut tenant.issuer);
        let of = |uri: &&str| settings::Resource {
            uri: (*uri).to_owned(),
            name: None,
            scopes: Scope::default(),
        };
        tenant.resources = resources.iter().map(of).collect();
        tenant
    }

    fn found(tenants: &[settings::Tenant], host: &str, path: &str) -> Option<String> {
        let document = at_host(tenants.iter(), host, path, None)?;
        Some(document["resource"].as_str()?.to_owned())
    }

    #[test]
    fn a_resource_is_found_at_the_address_that_the_rfc_gives_it() {
        let all = ["https://api.example/orders", "https://files.example/", "http://localhost:9000"];
        let tenants = [tenant("https://id.example/t/acme", &all)];
        let at = |host: &str, path: &str| found(&tenants, host, path);
        assert_eq!(at("api.example", "/orders").as_deref(), Some(all[0]));
        assert_eq!(at("api.example:443", "/orders").as_deref(), Some(all[0]));
        assert_eq!(at("files.example", "").as_deref(), Some(all[1]));
        assert_eq!(at("localhost:9000", "").as_deref(), Some(all[2]));
        for (host, path) in [
            ("api.example", ""),
            ("api.example", "/orders/"),
            ("api.example:8443", "/orders"),
            ("localhost", ""),
        ] {
            assert_eq!(at(host, path), None, "{host}{path}");
        }
    }

    #[test]
    fn what_two_tenants_have_is_nobodys() {
        let both = ["https://api.example"];
        let tenants =
            [tenant("https://id.example/t/a", &both), tenant("https://id.example/t/b", &both)];
        assert_eq!(found(&tenants, "api.example", ""), None);
        assert_eq!(found(&tenants[..1], "api.example", "").as_deref(), Some(both[0]));
    }

    #[test]
    fn the_issuer_is_a_resource_where_tokens_are_for_it() {
        let mut own = tenant("https://id.example/t/acme", &[]);
        own.default_audience = own.issuer.clone();
        assert!(url(&own, "https://id.example/t/acme").is_some());
        own.default_audience = "https://api.example".into();
        assert_eq!(url(&own, "https://id.example/t/acme"), None);
    }
}
