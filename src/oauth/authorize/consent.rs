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
    let covered = given.is_some_and(|given| covers(&given, pending));
    Ok(if covered { Decision::Allowed } else { Decision::Open })
}

fn covers(given: &Consent, pending: &PendingAuthorization) -> bool {
    pending.scope.is_subset_of(&given.scope)
        && pending.resources.iter().all(|resource| given.resources.contains(resource))
}
