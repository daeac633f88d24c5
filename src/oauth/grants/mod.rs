//! What is particular to each grant; what they share is in `token.rs`.

pub(super) mod authorization_code;
pub(super) mod client_credentials;
pub(super) mod device_code;
pub(super) mod refresh_token;
pub(super) mod token_exchange;

use super::Call;
use crate::storage::NewRefresh;
use crate::token::refresh;

/// Where this request comes from, as a keyed digest: for theft in lock step.
fn fingerprint(call: &Call<'_>) -> Option<[u8; 16]> {
    let agent = call.audit.user_agent.as_deref();
    refresh::fingerprint(&call.services.ring, &call.tenant.uid, agent, call.peer()?)
}

/// The first refresh token of a grant.
fn first_refresh(call: &Call<'_>) -> NewRefresh {
    let entropy = &*call.services.entropy;
    NewRefresh {
        salt: entropy.bytes(),
        kid: call.services.ring.newest(),
        nonce: entropy.bytes(),
        idle_expires_at: call.now.plus(call.tenant.settings.lifetimes.refresh_idle),
        fingerprint: fingerprint(call),
    }
}
