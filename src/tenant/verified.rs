use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use moka::sync::Cache;

use crate::model::TenantUid;
use crate::model::token::AccessClaims;

const CAPACITY: u64 = 20_000;
const IDLE: Duration = Duration::from_mins(10);

/// Access tokens whose signature this node has checked, by digest: a token that was introspected
/// before costs a hash. Holds nothing that time or revocation could change.
#[derive(Clone)]
pub struct VerifiedTokens(Cache<[u8; 32], VerifiedToken>);

/// A token whose signature is good and whose claims are ours.
#[derive(Debug, Clone)]
pub struct VerifiedToken {
    /// What it says.
    pub claims: Arc<AccessClaims>,
    /// The key that signed it.
    pub kid: Arc<str>,
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE).build())
    }
}

impl VerifiedTokens {
    /// What `token` says, if it was verified for `tenant` before.
    pub fn get(&self, tenant: &TenantUid, token: &str) -> Option<VerifiedToken> {
        self.0.get(&digest(tenant, token))
    }

    /// Remembers that `token` was verified for `tenant`.
    pub fn insert(&self, tenant: &TenantUid, token: &str, verified: VerifiedToken) {
        self.0.insert(digest(tenant, token), verified);
    }
}

/// The tenant is part of the key: what one tenant's key signed is nothing to another.
fn digest(tenant: &TenantUid, token: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(tenant.as_str().as_bytes());
    context.update(b"\0");
    context.update(token.as_bytes());
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
