//! Security cases, by id.

mod authz;
mod config;
mod introspect_revoke;
mod jwt;
mod login;
mod redirect;
mod refresh;
mod session;
mod tenant;
mod tenant_matrix;
