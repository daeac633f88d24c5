//! What is particular to each grant; what they share is in `token.rs`.

pub(super) mod authorization_code;
pub(super) mod client_credentials;
pub(super) mod refresh_token;

use super::Call;
use crate::token::refresh;

/// Where this request comes from, as a keyed digest: for theft in lock step.
fn fingerprint(call: &Call<'_>) -> Option<[u8; 16]> {
    let agent = call.audit.user_agent.as_deref();
    refresh::fingerprint(&call.services.ring, &call.tenant.uid, agent, call.peer()?)
}
