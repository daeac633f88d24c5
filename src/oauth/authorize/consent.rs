use super::steps::Decision;
use crate::model::client::ApplicationType;
use crate::model::consent::Consent;
use crate::model::{Client, Session};
use crate::session::PendingAuthorization;
use crate::storage::Result;
use crate::tenant::Tenant;

/// Whether an answer of the user may stand for the next time. A native application without a
/// secret is whoever says so, so its users are asked each time (RFC 8252 §8.6).
pub fn is_remembered(client: &Client) -> bool {
    !(client.is_public() && client.application_type == ApplicationType::Native)
}

/// What is on record for this request.
pub(super) async fn on_record(
    tenant: &Tenant,
    client: &Client,
    pending: &PendingAuthorization,
    session: &Session,
) -> Result<Decision> {
    if pending.ask_consent || !is_remembered(client) {
        return Ok(Decision::Open);
    }
    if !client.require_consent {
        return Ok(Decision::Allowed);
    }
    let given = tenant.store.find_consent(session.user, &client.id).await?;
    let default = &tenant.settings.default_audience;
    let covered = given.is_some_and(|given| covers(&given, pending, default));
    Ok(if covered { Decision::Allowed } else { Decision::Open })
}

/// The resources that the user is asked about: none means the tenant's default audience, which is
/// kept by name, so that no other resource passes for it.
pub(super) fn resources(pending: &PendingAuthorization, default: &str) -> Vec<String> {
    match &pending.resources[..] {
        [] => vec![default.to_owned()],
        named => named.to_vec(),
    }
}

fn covers(given: &Consent, pending: &PendingAuthorization, default: &str) -> bool {
    pending.scope.is_subset_of(&given.scope)
        && resources(pending, default).iter().all(|one| given.resources.contains(one))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pending, session};
    use super::*;
    use crate::model::Scope;

    const DEFAULT: &str = "https://id.example";
    const API: &str = "https://api.example";

    fn asks(scope: &str, resources: &[&str]) -> PendingAuthorization {
        let resources = resources.iter().map(|&one| one.to_owned()).collect();
        PendingAuthorization { scope: Scope::parse(scope).unwrap(), resources, ..pending() }
    }

    fn given(pending: &PendingAuthorization) -> Consent {
        Consent {
            user: session(1).user,
            client: pending.client.clone(),
            scope: pending.scope.clone(),
            resources: resources(pending, DEFAULT),
            granted_at: session(1).auth_time,
        }
    }

    #[test]
    fn what_was_allowed_for_one_resource_is_not_allowed_for_the_default_audience() {
        let api = given(&asks("openid read", &[API]));
        assert!(covers(&api, &asks("read", &[API]), DEFAULT));
        assert!(!covers(&api, &asks("openid read", &[]), DEFAULT));
        let default = given(&asks("openid read", &[]));
        assert!(covers(&default, &asks("openid", &[]), DEFAULT));
        assert!(covers(&default, &asks("openid", &[DEFAULT]), DEFAULT));
        assert!(!covers(&default, &asks("openid", &[API]), DEFAULT));
        assert!(!covers(&default, &asks("openid write", &[]), DEFAULT));
    }

    #[test]
    fn two_consents_for_two_resources_do_not_sum_to_each_scope_at_each() {
        let (read, write) = (asks("read", &[API]), asks("write", &[]));
        let after = given(&write).after(&given(&read));
        assert!(covers(&after, &write, DEFAULT));
        for never in [asks("write", &[API]), asks("read", &[]), asks("read write", &[API])] {
            assert!(!covers(&after, &never, DEFAULT), "{never:?}");
        }
    }
}
