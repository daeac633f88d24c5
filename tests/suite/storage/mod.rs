//! Every storage method on every engine: each outcome, races, tenants apart, restarts, cleanup.

mod access_tokens;
mod attempts;
mod audit_log;
mod cleanup;
mod clients;
mod codes;
mod consents;
mod grants;
mod jobs;
mod jtis;
mod keys;
pub mod make;
mod memory;
mod migrations;
mod postgres_only;
mod pushed;
mod random;
mod refresh;
mod revocations;
mod ring;
mod sessions;
mod tables;
mod tenants;
mod users;
