//! Public clients that every tenant has while `server.demo` is on: this program's own command line,
//! and the demo's television.

use crate::model::client::{ApplicationType, AuthMethod, GrantType, RefreshPolicy};
use crate::model::{Client, ClientId, Scope};

/// The client id of `pmp-auth login`.
pub const CLI: &str = "pmp-auth-cli";
/// The client id of the demo's television.
pub const TV: &str = "pmp-auth-tv";

/// Both, for a tenant that knows the scopes `scopes` and serves the device flow.
pub fn device_clients(scopes: &Scope) -> [Client; 2] {
    [device_client(CLI, "pmp-auth command line", scopes), device_client(TV, "Demo TV", scopes)]
}

fn device_client(id: &str, name: &str, scopes: &Scope) -> Client {
    let wanted = ["openid", "profile", "email", Scope::OFFLINE_ACCESS];
    let scopes = scopes.filter(|token| wanted.contains(&token));
    Client {
        id: ClientId::new(id),
        name: name.to_owned(),
        client_uri: None,
        policy_uri: None,
        tos_uri: None,
        auth_method: AuthMethod::None,
        secrets: Vec::new(),
        application_type: ApplicationType::Native,
        redirect_uris: Vec::new(),
        post_logout_redirect_uris: Vec::new(),
        grants: vec![GrantType::DeviceCode, GrantType::RefreshToken],
        default_scopes: scopes.clone(),
        scopes,
        resources: Vec::new(),
        audiences: Vec::new(),
        multi_audience: false,
        require_pkce: true,
        require_consent: true,
        refresh_tokens: RefreshPolicy::OfflineAccess,
        access_token_format: None,
        id_token_alg: None,
        access_token_ttl: None,
        token_rate: None,
        introspection_rate: None,
        introspection_cache: None,
        cors_origins: Vec::new(),
        enabled: true,
    }
}
