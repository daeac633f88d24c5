//! Our own client side: the server as a relying party of itself, and the command line as a client of
//! any server.
//!
//! Owns what is said to servers and what is kept of the answers. `device` and `provider` speak to
//! any server that has the device flow; `kept` keeps a sign-in for the command line; `demo` and `tv`
//! are the demo app and its television, whose pages are in `http/demo/`.

pub mod builtin;
pub mod demo;
pub mod device;
pub mod kept;
pub mod provider;
pub mod qr;
pub mod tv;
