//! Authorization server metadata (RFC 8414): what works here, and nothing else.

use std::sync::Arc;

use moka::sync::Cache;
use serde_json::{Map, Value, json};

use super::resource_metadata;
use crate::config::settings;
use crate::model::TenantUid;
use crate::model::client::{AuthMethod, GrantType, SigningAlg};
use crate::model::token::StatusPlace;
use crate::tenant::Tenant;

/// The members that RFC 8414 §2 and its extensions define, for one tenant.
pub fn members(tenant: &settings::Tenant) -> Map<String, Value> {
    let at = |path: &str| Value::from(format!("{}{path}", tenant.issuer));
    let scopes: Vec<&str> = tenant.scopes.iter().map(|scope| scope.name.as_str()).collect();
    let grants: Vec<&str> = tenant.grants.iter().map(|grant| grant.as_str()).collect();
    let secret =
        [AuthMethod::ClientSecretBasic, AuthMethod::ClientSecretPost].map(AuthMethod::as_str);
    let any = [secret[0], secret[1], AuthMethod::None.as_str()];
    let members = [
        ("issuer", at("")),
        ("authorization_endpoint", at("/authorize")),
        ("token_endpoint", at("/token")),
        ("jwks_uri", at("/jwks.json")),
        ("revocation_endpoint", at("/revoke")),
        ("introspection_endpoint", at("/introspect")),
        ("revocation_feed_endpoint", at("/revocations")),
        ("scopes_supported", json!(scopes)),
        ("response_types_supported", json!(["code"])),
        ("response_modes_supported", json!(["query"])),
        ("grant_types_supported", json!(grants)),
        ("token_endpoint_auth_methods_supported", json!(any)),
        ("revocation_endpoint_auth_methods_supported", json!(any)),
        ("introspection_endpoint_auth_methods_supported", json!(secret)),
        ("code_challenge_methods_supported", json!(["S256"])),
        // RFC 9701 §7.
        ("introspection_signing_alg_values_supported", json!(signing_algs(tenant))),
        // RFC 9728 §4.
        ("protected_resources", json!(resource_metadata::resources(tenant).collect::<Vec<_>>())),
        // RFC 9207 §3.
        ("authorization_response_iss_parameter_supported", json!(true)),
    ];
    // RFC 8628 §4.
    let device = tenant.grants.contains(&GrantType::DeviceCode);
    let device = device.then(|| ("device_authorization_endpoint", at("/device_authorization")));
    // draft-ietf-oauth-status-list §9.1.
    let lists = tenant.status_lists;
    let lists = lists.map(|_| ("status_list_aggregation_endpoint", at(StatusPlace::PATH)));
    members
        .into_iter()
        .chain(device)
        .chain(lists)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The algorithms of what is signed for clients: the tenant's own first, then what its clients can register; RS256 is always among them
/// (OpenID Connect Discovery §3).
pub fn signing_algs(tenant: &settings::Tenant) -> Vec<&'static str> {
    let mut algs = vec![tenant.signing.id_token];
    algs.extend([SigningAlg::RS256, SigningAlg::ES256, SigningAlg::PS256, SigningAlg::EdDSA]);
    let mut names: Vec<&str> = Vec::new();
    for alg in algs {
        if !names.contains(&alg.as_str()) {
            names.push(alg.as_str());
        }
    }
    names
}

/// Serialised documents, made once per tenant and configuration.
pub struct Published(Cache<TenantUid, (Arc<settings::Tenant>, Arc<str>)>);

impl Default for Published {
    fn default() -> Self {
        Self(Cache::new(10_000))
    }
}

impl Published {
    /// The document of `tenant`, written by `write` unless it stands already.
    pub fn document(
        &self,
        tenant: &Tenant,
        write: impl FnOnce(&settings::Tenant) -> Value,
    ) -> Arc<str> {
        match self.0.get(&tenant.uid) {
            Some((settings, document)) if Arc::ptr_eq(&settings, &tenant.settings) => document,
            _ => {
                let document: Arc<str> = write(&tenant.settings).to_string().into();
                let entry = (Arc::clone(&tenant.settings), Arc::clone(&document));
                self.0.insert(tenant.uid.clone(), entry);
                document
            }
        }
    }
}
