use std::collections::HashSet;

use super::super::keys;
use super::super::read::{Item, Section};
use super::super::settings::Resource;
use super::tenant::{ALGORITHMS, FORMATS, grants, rate, scopes_of};
use super::{hours, redirect, seconds, secrets};
use crate::base::{Digest, Secret, base64url};
use crate::model::client::{ApplicationType, AuthMethod, ClientSecret, GrantType, RefreshPolicy};
use crate::model::{Client, ClientId, Scope};

/// What the tenant has that its clients may use.
pub(super) struct Around<'a> {
    pub(super) grants: &'a [GrantType],
    pub(super) scopes: &'a Scope,
    pub(super) resources: &'a [Resource],
    pub(super) issuer: &'a str,
    pub(super) production: bool,
}

/// The clients of a tenant, and those of them whose secret is yet to be made.
pub(super) struct Clients {
    pub(super) clients: Vec<Client>,
    pub(super) generated_secrets: Vec<ClientId>,
}

/// Reads `tenants.<name>.clients`.
pub(super) fn read(tenant: &Section<'_>, around: &Around<'_>) -> Clients {
    let mut all = Clients { clients: Vec::new(), generated_secrets: Vec::new() };
    let mut seen = HashSet::new();
    for entry in tenant.get("clients").map(|item| item.list()).unwrap_or_default() {
        let section = entry.section(&keys::CLIENT);
        let id =
            section.require("client_id", "write `client_id: web-app`").and_then(|item| id(&item));
        if let Some((id, item)) = &id
            && !seen.insert(id.clone())
        {
            item.fault(format!("`{id}` stands twice in this tenant"), "give it another client_id");
        }
        let (client, secret) = client(&section, id.map(|(id, _)| id), around);
        if secret == Credential::Generated {
            all.generated_secrets.push(client.id.clone());
        }
        all.clients.push(client);
    }
    all
}

/// RFC 6749 §A.1: visible characters. Without space, so that logs and lists stay readable.
fn id<'a>(item: &Item<'a>) -> Option<(ClientId, Item<'a>)> {
    let text = item.text()?;
    if text.starts_with("pmp-auth-") {
        item.fault("names that begin with `pmp-auth-` are the server's own", "choose another");
        return None;
    }
    if text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Some((ClientId::new(text), item.clone()));
    }
    item.fault("this is no client_id", "write 1 to 255 printable ASCII characters without space");
    None
}

fn client(
    section: &Section<'_>,
    id: Option<ClientId>,
    around: &Around<'_>,
) -> (Client, Credential) {
    let id = id.unwrap_or_else(|| ClientId::new("?"));
    let auth_method = auth_method(section);
    let public = auth_method == AuthMethod::None;
    let credential = credential(section, public, around.production);
    let grants = own_grants(section, public, around);
    let interactive = grants.contains(&GrantType::AuthorizationCode);
    let for_users = interactive || grants.contains(&GrantType::DeviceCode);
    let scopes = own_scopes(section, for_users, around);
    let default_scopes = match section.get("default_scopes") {
        Some(item) => scopes_of(&item, &scopes, "this client"),
        None if for_users => Scope::default(),
        None => scopes.clone(),
    };
    let cors_origins = redirect::origins(section);
    let redirects = Redirects::read(section, interactive, public && cors_origins.is_empty());
    refuse_unsafe(section, public);
    let lifetime = section.get("access_token_lifetime");
    let cache = section.get("introspection_cache");
    let client = Client {
        name: section.words("name", 1..=100).unwrap_or_else(|| id.to_string()),
        id,
        client_uri: redirect::page(section, "client_uri"),
        policy_uri: redirect::page(section, "policy_uri"),
        tos_uri: redirect::page(section, "tos_uri"),
        auth_method,
        secrets: credential.digests(),
        application_type: redirects.application_type(public),
        redirect_uris: redirects.after_login,
        post_logout_redirect_uris: redirects.after_logout,
        grants,
        scopes,
        default_scopes,
        resources: uris(section, "resources", around, false),
        audiences: uris(section, "audiences", around, true),
        multi_audience: section.boolean("multi_audience", false),
        require_pkce: section.boolean("require_pkce", true),
        require_consent: section.boolean("require_consent", true),
        refresh_tokens: section.one_of(
            "refresh_tokens",
            &[("offline_access", RefreshPolicy::OfflineAccess), ("always", RefreshPolicy::Always)],
            RefreshPolicy::OfflineAccess,
        ),
        access_token_format: section.get("access_token_format").and_then(|i| i.one_of(&FORMATS)),
        id_token_alg: section.get("id_token_alg").and_then(|item| item.one_of(&ALGORITHMS)),
        access_token_ttl: lifetime.and_then(|item| item.duration(seconds(1)..=hours(24))),
        token_rate: rate(section, "token_rate"),
        introspection_rate: rate(section, "introspection_rate"),
        introspection_cache: cache.and_then(|item| item.duration(seconds(0)..=seconds(300))),
        cors_origins,
        enabled: section.boolean("enabled", true),
    };
    (client, credential)
}

/// What no client, or no public client, may switch off.
fn refuse_unsafe(section: &Section<'_>, public: bool) {
    if public && let Some(item) = section.get("require_pkce").filter(|i| i.boolean() == Some(false))
    {
        item.fault("a public client needs PKCE (RFC 9700 §2.1.1)", "remove the line");
    }
    // RFC 9700 §2.2.2: rotation, or tokens bound to a key of the client's.
    if let Some(item) = section.get("refresh_rotation").filter(|i| i.boolean() == Some(false)) {
        let message = if public {
            "refresh tokens of a public client have to be rotated (RFC 9700 §2.2.2)"
        } else {
            "without rotation only sender-constrained tokens are safe, and there are none yet"
        };
        item.fault(message, "remove the line");
    }
}

fn auth_method(section: &Section<'_>) -> AuthMethod {
    let methods = [AuthMethod::ClientSecretBasic, AuthMethod::ClientSecretPost, AuthMethod::None]
        .map(|method| (method.as_str(), method));
    let types = [("confidential", false), ("public", true)];
    let said = section.get("auth_method");
    let method = said.as_ref().and_then(|item| item.one_of(&methods));
    let kind = section.get("type").and_then(|item| item.one_of(&types));
    let Some(public) = kind else { return method.unwrap_or(AuthMethod::ClientSecretBasic) };
    if let (Some(item), Some(method)) = (said, method)
        && public != (method == AuthMethod::None)
    {
        item.fault(
            format!("`{}` does not fit `type: {}`", method.as_str(), types[usize::from(public)].0),
            "a public client has `none`, a confidential one `client_secret_basic` or \
             `client_secret_post`",
        );
    }
    if public { AuthMethod::None } else { method.unwrap_or(AuthMethod::ClientSecretBasic) }
}

const SECRET_KEYS: [&str; 3] = ["client_secret", "client_secret_file", "client_secret_hash"];

/// What a client proves itself with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Credential {
    Nothing,
    Generated,
    Digests(Vec<Digest<ClientSecret>>),
}

impl Credential {
    fn digests(&self) -> Vec<Digest<ClientSecret>> {
        match self {
            Self::Digests(digests) => digests.clone(),
            Self::Nothing | Self::Generated => Vec::new(),
        }
    }
}

fn credential(section: &Section<'_>, public: bool, production: bool) -> Credential {
    let set: Vec<Item<'_>> = SECRET_KEYS.iter().filter_map(|key| section.get(key)).collect();
    match set.as_slice() {
        [] if public => Credential::Nothing,
        [] => {
            section.fault(
                "a confidential client needs a secret",
                "add `client_secret_file: PATH` or `client_secret: generate`; an application that \
                 cannot keep one (in a browser, on a device) has `type: public`",
            );
            Credential::Nothing
        }
        [first, ..] if public => {
            first
                .fault("a public client has no secret", "remove it, or write `type: confidential`");
            Credential::Nothing
        }
        [_, second, ..] => {
            second.fault("the secret is given twice", "keep one of these keys");
            Credential::Nothing
        }
        [only] if only.as_text() == Some("generate") && section.get("client_secret").is_some() => {
            Credential::Generated
        }
        [only] if section.get("client_secret_hash").is_some() => Credential::Digests(hashes(only)),
        [_] => {
            let read = secrets::read(section, "client_secret", "client_secret_file", production);
            let Some(Some((item, secret))) = read else { return Credential::Nothing };
            check_secret(&item, &secret, production);
            Credential::Digests(vec![Digest::of(secret.reveal().as_bytes())])
        }
    }
}

fn check_secret(item: &Item<'_>, secret: &Secret<String>, production: bool) {
    // RFC 6749 §A.2: VSCHAR.
    if !secret.reveal().bytes().all(|b| (0x20..=0x7e).contains(&b)) {
        item.fault("the secret has characters beyond printable ASCII", "make another");
    } else if secret.reveal().len() > 255 {
        item.fault("the secret is longer than 255 characters", "make another");
    } else if production {
        secrets::refuse_weak(item, secret, 22);
    }
}

fn hashes(item: &Item<'_>) -> Vec<Digest<ClientSecret>> {
    let entries = if item.is_list() { item.list() } else { vec![item.clone()] };
    if entries.is_empty() || entries.len() > 2 {
        item.fault("one hash, or two while the secret is changed, can be given", "keep one or two");
    }
    entries.iter().filter_map(hash).collect()
}

fn hash(item: &Item<'_>) -> Option<Digest<ClientSecret>> {
    let text = item.text()?;
    let digest = text
        .strip_prefix("sha256:")
        .and_then(|text| base64url::decode(text).ok())
        .and_then(|bytes| Digest::from_slice(&bytes));
    let Some(digest) = digest else {
        item.fault(
            "this is no hash of a secret",
            "write `sha256:` and the 43 letters of printf %s SECRET | openssl dgst -sha256 -binary \
             | basenc --base64url | tr -d =",
        );
        return None;
    };
    let guessable = ["", "secret", "changeme", "password"];
    if guessable.iter().any(|word| Digest::<ClientSecret>::of(word.as_bytes()) == digest) {
        item.fault("this is the hash of a word that anyone guesses", "make another secret");
        return None;
    }
    Some(digest)
}

fn own_grants(section: &Section<'_>, public: bool, around: &Around<'_>) -> Vec<GrantType> {
    let Some(item) = section.get("grants") else {
        let usual = [GrantType::AuthorizationCode, GrantType::RefreshToken];
        return usual.into_iter().filter(|grant| around.grants.contains(grant)).collect();
    };
    let grants = grants(&item);
    for grant in &grants {
        if !around.grants.contains(grant) {
            item.fault(
                format!("the tenant does not allow `{}`", grant.as_str()),
                "add it to `grants` of the tenant, or remove it here",
            );
        }
    }
    // RFC 6749 §4.4: "The client credentials grant type MUST only be used by confidential clients."
    if public && grants.contains(&GrantType::ClientCredentials) {
        item.fault(
            "a public client cannot use `client_credentials`: anyone can claim to be it",
            "write `type: confidential` and give it a secret, or remove the grant",
        );
    }
    if public && grants.contains(&GrantType::TokenExchange) {
        item.fault(
            "a public client cannot use `token_exchange`: anyone can claim to be it",
            "write `type: confidential` and give it a secret, or remove the grant",
        );
    }
    grants
}

fn own_scopes(section: &Section<'_>, for_users: bool, around: &Around<'_>) -> Scope {
    const STANDARD: [&str; 6] =
        ["openid", "profile", "email", "address", "phone", Scope::OFFLINE_ACCESS];
    match section.get("scopes") {
        Some(item) => {
            // What this server itself offers is there without the tenant's saying so.
            let built_in = [Scope::REVOCATIONS_READ, Scope::API_KEYS].into_iter().collect();
            scopes_of(&item, &around.scopes.union(&built_in), "the tenant")
        }
        None if for_users => around.scopes.filter(|scope| STANDARD.contains(&scope)),
        None => Scope::default(),
    }
}

fn uris(section: &Section<'_>, key: &str, around: &Around<'_>, or_issuer: bool) -> Vec<String> {
    let entries = section.get(key).map(|item| item.list()).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let text = entry.text()?;
            let known = around.resources.iter().any(|resource| resource.uri == text)
                || (or_issuer && text == around.issuer);
            if known {
                return Some(text.to_owned());
            }
            entry.fault(
                format!("`{text}` is not among the tenant's `resources`"),
                "add it there, letter for letter",
            );
            None
        })
        .collect()
}

/// Where a browser may be sent, and what that says about the application.
struct Redirects {
    after_login: Vec<String>,
    after_logout: Vec<String>,
    said: Option<ApplicationType>,
    looks_native: bool,
}

impl Redirects {
    fn read(section: &Section<'_>, interactive: bool, maybe_native: bool) -> Self {
        let types = [
            ("web", ApplicationType::Web),
            ("browser", ApplicationType::Browser),
            ("native", ApplicationType::Native),
        ];
        let said = section.get("application_type").and_then(|item| item.one_of(&types));
        let native = match said {
            Some(kind) => kind == ApplicationType::Native,
            None => maybe_native,
        };
        let after_login = redirect::read(section, "redirect_uris", native);
        if interactive
            && section.get("redirect_uris").is_none_or(|i| i.is_list() && i.list().is_empty())
        {
            section.fault(
                "`redirect_uris` is missing, and `authorization_code` needs one",
                "add `redirect_uris: [https://app.example/callback]`, or name other `grants`",
            );
        }
        // Without codes by redirect it signs in as a device does, and no browser does that.
        let looks_native = maybe_native
            && (!interactive || after_login.iter().any(|uri| redirect::is_native(uri)));
        let after_logout = redirect::read(section, "post_logout_redirect_uris", native);
        Self { after_login, after_logout, said, looks_native }
    }

    fn application_type(&self, public: bool) -> ApplicationType {
        match self.said {
            Some(said) => said,
            None if self.looks_native => ApplicationType::Native,
            None if public => ApplicationType::Browser,
            None => ApplicationType::Web,
        }
    }
}
