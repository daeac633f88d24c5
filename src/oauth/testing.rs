//! Clients and tenants for unit tests.

use std::time::Duration;

use crate::base::Digest;
use crate::config::settings::{self, Branding, Device, Lifetimes, RevocationMode, Signing};
use crate::model::client::{
    AccessTokenFormat, ApplicationType, AuthMethod, GrantType, RefreshPolicy, SigningAlg,
};
use crate::model::{Client, ClientId, Scope};

/// A public client that may use codes and refresh tokens.
pub(crate) fn public_client(id: &str) -> Client {
    Client {
        id: ClientId::new(id),
        name: id.to_owned(),
        client_uri: None,
        policy_uri: None,
        tos_uri: None,
        auth_method: AuthMethod::None,
        secrets: Vec::new(),
        application_type: ApplicationType::Browser,
        redirect_uris: vec!["https://app.example/cb".to_owned()],
        post_logout_redirect_uris: Vec::new(),
        grants: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        scopes: ["openid", "read"].into_iter().collect::<Scope>(),
        default_scopes: Scope::default(),
        resources: Vec::new(),
        audiences: Vec::new(),
        multi_audience: false,
        require_pkce: true,
        require_consent: false,
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

/// A client with a secret, by HTTP Basic.
pub(crate) fn confidential_client(id: &str, secret: &str) -> Client {
    Client {
        auth_method: AuthMethod::ClientSecretBasic,
        secrets: vec![Digest::of(secret.as_bytes())],
        application_type: ApplicationType::Web,
        ..public_client(id)
    }
}

/// A tenant as the defaults make it.
pub(crate) fn tenant_settings() -> settings::Tenant {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let issuer = "https://id.example/t/acme".to_owned();
    settings::Tenant {
        name: "Acme".into(),
        host: None,
        default_audience: issuer.clone(),
        issuer,
        lifetimes: Lifetimes {
            code: minutes(1),
            access_token: minutes(10),
            id_token: minutes(5),
            refresh_idle: minutes(60 * 24 * 30),
            refresh_absolute: minutes(60 * 24 * 90),
            refresh_short_window: Duration::from_secs(10),
            refresh_long_window: None,
            refresh_recovery: minutes(60 * 24),
            session_idle: minutes(30),
            session_absolute: minutes(60 * 12),
        },
        device: Device {
            code_ttl: minutes(10),
            interval: Duration::from_secs(5),
            short_url: true,
            request_rate: 10,
            verification_uri: "https://id.example/device".into(),
        },
        grants: vec![
            GrantType::AuthorizationCode,
            GrantType::RefreshToken,
            GrantType::ClientCredentials,
        ],
        scopes: Vec::new(),
        resources: Vec::new(),
        signing: Signing {
            access_token: SigningAlg::ES256,
            id_token: SigningAlg::RS256,
            rsa_bits: 2048,
            grace: minutes(60),
        },
        access_token_format: AccessTokenFormat::Jwt,
        revocation: RevocationMode::View,
        status_lists: None,
        code_retry: None,
        token_rate: 20,
        introspection_rate: 500,
        clients: Vec::new(),
        generated_secrets: Vec::new(),
        users: Vec::new(),
        branding: Branding::default(),
    }
}
