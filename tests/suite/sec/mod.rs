//! Security cases, by id.

mod authz;
mod config;
mod jwt;
mod login;
mod redirect;
mod session;
mod tenant;
mod tenant_matrix;
