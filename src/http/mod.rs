//! How the world reaches us over HTTP.
//!
//! `router` has every route on one page; `serve` accepts connections; `layer` does to every request
//! what none may go without; `extract` turns requests into types, `reply` types into responses. The
//! folders `oauth`, `oidc`, `pages` and `demo` have a handler per endpoint, which decides nothing:
//! it asks `oauth::`, `oidc::`, `session::` and `identity::`.

mod demo;
pub mod extract;
mod layer;
mod oauth;
mod oidc;
mod ops;
pub mod pages;
pub mod reply;
pub mod router;
pub mod serve;
pub mod sample_api;
mod state;

pub use serve::Listening;
pub use state::Edge;
