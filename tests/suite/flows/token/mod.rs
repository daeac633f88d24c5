//! The token side below HTTP: codes that were issued before, and what becomes of them.

mod client_authentication;
mod client_credentials;
mod code;
mod house;
mod introspection;
mod rates;
mod refresh;
mod revocation;
mod round_trips;
mod userinfo;
