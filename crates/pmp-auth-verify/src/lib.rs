//! Checks access tokens of pmp-auth in an API, and whether they are revoked: in microseconds, without
//! a call per request. A [`Verifier`] is the check, [`VerifyLayer`] puts it before a tower service, and
//! with the feature `axum` a handler may take a [`Token`].

mod clock;
mod credentials;
mod error;
mod feed;
mod introspect;
mod issuer;
mod jwt;
mod keys;
mod layer;
mod options;
mod revoked;
mod sse;
mod status_list;
mod sync;
mod token;
mod verifier;
mod web;
#[cfg(feature = "axum")]
mod extract;
#[cfg(test)]
mod tests;

pub use clock::{Clock, SystemClock};
pub use credentials::{AuthMethod, Credentials};
pub use error::{Code, Refusal, VerifyError};
pub use layer::{VerifyLayer, VerifyService};
pub use options::{Builder, Event, IssuerOptions, Mode, OnLoss, OptionsError, Transport};
pub use token::{Kind, Token};
pub use verifier::{FeedState, Health, Verifier};
