//! `pmp-auth`: a multi-tenant OAuth 2 and OpenID Connect authorization server.
//!
//! The modules stand in the order of their dependencies: each imports only from those above it, and
//! `tests/architecture.rs` holds us to it. `base` to `migrate` are the ground; `audit` to `rp` decide
//! (no HTTP, no SQL); `app` puts the parts together; `jobs`, `http` and `cli` are how the world
//! reaches us.

pub mod base;
pub mod model;
pub mod config;
pub mod telemetry;
pub mod storage;
pub mod migrate;
pub mod audit;
pub mod limits;
pub mod fetch;
pub mod keys;
pub mod tenant;
pub mod revocation;
pub mod token;
pub mod session;
pub mod identity;
pub mod oauth;
pub mod oidc;
pub mod rp;
pub mod app;
pub mod jobs;
pub mod http;
pub mod cli;
