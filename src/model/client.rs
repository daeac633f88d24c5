//! A client (RFC 6749 §2): an application that asks for tokens. Clients of `config.yaml` are read
//! into memory; run-time clients are rows of the same shape.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Scope;
use crate::base::Digest;

/// `client_id`: 1 to 255 printable ASCII characters, unique within its tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Takes any text: an id that no client has is simply unknown.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Marks the digest of a client secret.
#[derive(Debug)]
pub enum ClientSecret {}

/// How a client proves itself at the token endpoint; one method, pinned (OpenID Connect Core §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// HTTP Basic with the client secret (RFC 6749 §2.3.1).
    ClientSecretBasic,
    /// The client secret in the form body.
    ClientSecretPost,
    /// A public client: it names itself and proves nothing.
    None,
}

impl AuthMethod {
    /// The registered name (`token_endpoint_auth_method`, RFC 7591 §2).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::None => "none",
        }
    }
}

/// What kind of program a client is; decides windows and remembered consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationType {
    /// Runs on a server.
    #[default]
    Web,
    /// Runs in a browser (a single-page application).
    Browser,
    /// Installed on a device; anyone can claim to be it (RFC 8252 §8.6).
    Native,
}

/// A grant type that a client may use (RFC 6749 §1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GrantType {
    /// RFC 6749 §4.1.
    #[serde(rename = "authorization_code")]
    AuthorizationCode,
    /// RFC 6749 §6.
    #[serde(rename = "refresh_token")]
    RefreshToken,
    /// RFC 6749 §4.4.
    #[serde(rename = "client_credentials")]
    ClientCredentials,
    /// RFC 8628.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:device_code", alias = "device_code")]
    DeviceCode,
    /// RFC 8693: an API key for a short-lived JWT.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange", alias = "token_exchange")]
    TokenExchange,
}

impl GrantType {
    /// The value of `grant_type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }
}

/// When a refresh token is issued beside an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshPolicy {
    /// When `offline_access` was granted.
    #[default]
    OfflineAccess,
    /// With every code.
    Always,
}

/// A signing algorithm (RFC 7518 §3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SigningAlg {
    /// ECDSA on P-256.
    ES256,
    /// RSASSA-PKCS1-v1_5; the registration default of OpenID Connect for ID tokens.
    RS256,
    /// RSASSA-PSS.
    PS256,
    /// Ed25519.
    EdDSA,
}

impl SigningAlg {
    /// All that we sign with.
    pub const ALL: [Self; 4] = [Self::ES256, Self::RS256, Self::PS256, Self::EdDSA];

    /// The value of `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
            Self::PS256 => "PS256",
            Self::EdDSA => "EdDSA",
        }
    }

    /// From `alg`, letter for letter.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.as_str() == text)
    }
}

/// What an access token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessTokenFormat {
    /// A signed `at+jwt` (RFC 9068).
    #[default]
    Jwt,
    /// A random reference, known by its digest.
    Opaque,
}

/// Everything that policy needs to know about one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// `client_id`.
    pub id: ClientId,
    /// What the user is shown; falls back to the id.
    pub name: String,
    /// Where the application lives, for the consent page.
    pub client_uri: Option<String>,
    /// A logo address, policy and terms, for the consent page.
    pub policy_uri: Option<String>,
    /// Terms of service.
    pub tos_uri: Option<String>,
    /// How it authenticates; `None` makes it public.
    pub auth_method: AuthMethod,
    /// SHA-256 of each secret that is accepted (two while a secret is being changed).
    #[serde(with = "digests")]
    pub secrets: Vec<Digest<ClientSecret>>,
    /// What kind of program it is.
    pub application_type: ApplicationType,
    /// Where codes may be sent, compared byte for byte (RFC 9700 §4.1.3).
    pub redirect_uris: Vec<String>,
    /// Where a browser may be sent after logout (OpenID Connect RP-Initiated Logout §3).
    pub post_logout_redirect_uris: Vec<String>,
    /// The grant types it may use.
    pub grants: Vec<GrantType>,
    /// The scopes it may ask for.
    pub scopes: Scope,
    /// The scopes it gets when it asks for none.
    pub default_scopes: Scope,
    /// The resources (audiences) it may ask tokens for, beside the tenant's default one.
    pub resources: Vec<String>,
    /// Audiences it may introspect tokens of, as a resource server.
    pub audiences: Vec<String>,
    /// Whether one token may have more than one audience.
    pub multi_audience: bool,
    /// Whether authorization requests must carry PKCE; only a confidential client may opt out.
    pub require_pkce: bool,
    /// Whether the consent page is shown; off for the tenant's own applications.
    pub require_consent: bool,
    /// When refresh tokens are issued.
    pub refresh_tokens: RefreshPolicy,
    /// What its access tokens look like; the tenant's default when absent.
    pub access_token_format: Option<AccessTokenFormat>,
    /// `id_token_signed_response_alg`; the tenant's default when absent.
    pub id_token_alg: Option<SigningAlg>,
    /// Access-token lifetime, where it differs from the tenant's.
    pub access_token_ttl: Option<Duration>,
    /// Token requests a second, where they differ from the tenant's; 0 is no limit.
    #[serde(default)]
    pub token_rate: Option<u32>,
    /// Introspections a second, where they differ from the tenant's; 0 is no limit.
    #[serde(default)]
    pub introspection_rate: Option<u32>,
    /// For how long it may keep what introspection told it; not at all when absent.
    #[serde(default)]
    pub introspection_cache: Option<Duration>,
    /// Exact origins that may call token, revoke and userinfo from a browser.
    pub cors_origins: Vec<String>,
    /// `enabled: false` disables the client.
    pub enabled: bool,
}

impl Client {
    /// Whether anyone can claim to be this client.
    pub fn is_public(&self) -> bool {
        self.auth_method == AuthMethod::None
    }

    /// Whether it may use `grant`.
    pub fn may_use(&self, grant: GrantType) -> bool {
        self.grants.contains(&grant)
    }
}

mod digests {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use super::{ClientSecret, Digest};
    use crate::base::base64url;

    pub(super) fn serialize<S: Serializer>(
        all: &[Digest<ClientSecret>],
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_seq(all.iter().map(|digest| base64url::encode(digest.as_bytes())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Digest<ClientSecret>>, D::Error> {
        Vec::<String>::deserialize(from)?
            .iter()
            .map(|text| base64url::decode(text).ok().and_then(|b| Digest::from_slice(&b)))
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom("a secret digest is not 32 bytes of base64url"))
    }
}
