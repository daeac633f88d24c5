//! Security cases, by id.

mod api_key;
mod authz;
mod client_auth;
mod config;
mod device;
mod device_grant;
mod introspect_revoke;
mod first_start;
mod jwt;
mod login;
mod pkce;
mod redirect;
mod refresh;
mod session;
mod tenant;
mod tenant_matrix;
mod token;
