//! What a token is for: its audience (RFC 8707), and what of the scope makes sense there.

use super::{Cause, Params};
use crate::config::settings;
use crate::model::{Client, Scope};

/// Scopes that are about the user and this issuer, whatever the resource
/// (OpenID Connect Core §5.4, §11).
const IDENTITY: [&str; 8] = [
    "openid",
    "profile",
    "email",
    "address",
    "phone",
    "offline_access",
    Scope::REVOCATIONS_READ,
    Scope::API_KEYS,
];

/// Whether a scope token is about the user or this issuer, not about a resource.
pub fn is_about_no_resource(token: &str) -> bool {
    IDENTITY.contains(&token)
}

/// The audience of a token, and the scope it keeps there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `aud`: one, unless the client is allowed more.
    pub audience: Vec<String>,
    /// The part of the scope that makes sense there.
    pub scope: Scope,
}

/// Whether `client` may ask for tokens for `resource` at all: the tenant's default audience, or one
/// of the client's resources.
pub fn may_ask(tenant: &settings::Tenant, client: &Client, resource: &str) -> bool {
    resource == tenant.default_audience || client.resources.iter().any(|known| known == resource)
}

/// The resources that a request names, each once.
pub fn requested(params: &Params) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for resource in params.all("resource") {
        if all.iter().all(|known| known != resource) {
            all.push(resource.to_owned());
        }
    }
    all
}

/// Resolves what a token request asks for, within what was granted. `granted` is empty where no
/// resource was named when it was granted: then the tenant's default audience is meant.
///
/// One token, one audience, unless the client has `multi_audience` (RFC 8707 §2.2).
pub fn resolve(
    tenant: &settings::Tenant,
    client: &Client,
    granted: &[String],
    requested: &[String],
    scope: &Scope,
) -> Result<Target, Cause> {
    let default = std::slice::from_ref(&tenant.default_audience);
    let granted = if granted.is_empty() { default } else { granted };
    let audience = if requested.is_empty() { granted } else { requested };
    // What the client may ask for can have shrunk since it was granted.
    if !audience.iter().all(|one| granted.contains(one) && may_ask(tenant, client, one)) {
        return Err(Cause::TargetNotAllowed);
    }
    if audience.len() > 1 && !client.multi_audience {
        return Err(Cause::TargetAmbiguous);
    }
    Ok(Target { audience: audience.to_vec(), scope: cut(tenant, audience, scope) })
}

/// The part of `scope` that makes sense at any of `audience`.
pub(in crate::oauth) fn cut(
    tenant: &settings::Tenant,
    audience: &[String],
    scope: &Scope,
) -> Scope {
    scope.filter(|token| {
        IDENTITY.contains(&token) || audience.iter().any(|one| makes_sense_at(tenant, one, token))
    })
}

fn makes_sense_at(tenant: &settings::Tenant, resource: &str, token: &str) -> bool {
    match tenant.resources.iter().find(|known| known.uri == resource) {
        Some(known) => known.scopes.is_empty() || known.scopes.contains(token),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::testing;

    const API: &str = "https://api.example";
    const FILES: &str = "https://files.example";

    fn tenant() -> settings::Tenant {
        let mut tenant = testing::tenant_settings();
        let of = |uri: &str, scopes: &str| settings::Resource {
            uri: uri.into(),
            name: None,
            scopes: Scope::parse(scopes).unwrap(),
        };
        tenant.resources = vec![of(API, "read write"), of(FILES, "files")];
        tenant
    }

    fn client() -> Client {
        let resources = vec![API.to_owned(), FILES.to_owned()];
        Client { resources, ..testing::public_client("app") }
    }

    fn resolved(
        granted: &[&str],
        requested: &[&str],
        scope: &str,
    ) -> Result<(String, String), Cause> {
        let own = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        let scope = Scope::parse(scope).unwrap();
        let target = resolve(&tenant(), &client(), &own(granted), &own(requested), &scope)?;
        Ok((target.audience.join(" "), target.scope.to_string()))
    }

    #[test]
    fn without_a_resource_the_tenants_default_is_meant() {
        let issuer = tenant().default_audience;
        assert_eq!(resolved(&[], &[], "openid read").unwrap(), (issuer, "openid read".into()));
    }

    #[test]
    fn the_scope_is_cut_to_what_makes_sense_at_the_resource() {
        let found = resolved(&[API, FILES], &[FILES], "openid email read files").unwrap();
        assert_eq!(found, (FILES.to_owned(), "openid email files".to_owned()));
    }

    #[test]
    fn only_what_was_granted_and_is_still_the_clients_can_be_a_target() {
        assert!(matches!(resolved(&[API], &[FILES], ""), Err(Cause::TargetNotAllowed)));
        let gone = "https://gone.example";
        assert!(matches!(resolved(&[gone], &[], ""), Err(Cause::TargetNotAllowed)));
        assert!(matches!(resolved(&[], &[API], ""), Err(Cause::TargetNotAllowed)));
    }

    #[test]
    fn more_than_one_audience_is_for_clients_that_are_allowed_it() {
        assert!(matches!(resolved(&[API, FILES], &[], ""), Err(Cause::TargetAmbiguous)));
        let many = Client { multi_audience: true, ..client() };
        let granted = [API.to_owned(), FILES.to_owned()];
        let scope = Scope::parse("read files x").unwrap();
        let target = resolve(&tenant(), &many, &granted, &[], &scope).unwrap();
        assert_eq!(target.audience, granted);
        assert_eq!(target.scope.to_string(), "read files");
    }
}
