//! Keys: the ring that everything of ours is sealed and authenticated under, and each tenant's
//! signing keys.
//!
//! Owns key derivation, sealing, key pairs, JWK sets and rotation. What is signed is for `token/`.

mod pair;
mod peppers;
mod ring;
mod ring_checks;
mod set;
mod signer;
mod tenant_keys;
#[cfg(test)]
mod tests;

pub use peppers::{Hashed, PepperFault, Peppers};
pub use ring::{OpenError, Purpose, Ring, limit_key};
pub use ring_checks::{RingFault, ring_checks};
pub use set::KeyInfo;
pub use signer::{ACCESS_TOKEN, ID_TOKEN, Signer, Verifier};
pub use tenant_keys::{KeyPolicy, RELOAD, TenantKeys};
