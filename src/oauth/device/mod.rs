//! The device flow (RFC 8628): a device asks (`request`), its user decides (`decision`, in the
//! order of `steps`, within the limits of `guesses`), and the device learns of it by polling
//! (`grants/device_code`, with its pace in `pace` and long polls in `wait`).

/// What a user code leads to, and what its user decides.
pub mod decision;
pub mod guesses;
mod steps;

pub use steps::{Step, next};

use crate::keys::{Purpose, Ring};
use crate::model::TenantUid;
use crate::model::device::{UserCode, UserCodeDigest};

/// The digests of a user code within a tenant, one for each key of the ring, newest first.
pub fn user_code_digests(ring: &Ring, tenant: &TenantUid, code: &UserCode) -> Vec<UserCodeDigest> {
    let parts = [tenant.as_str().as_bytes(), code.letters().as_bytes()];
    let digest = |kid| Some(UserCodeDigest { kid, mac: ring.mac(Purpose::UserCode, kid, &parts)? });
    ring.ids().into_iter().filter_map(digest).collect()
}
