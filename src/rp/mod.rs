//! Our own client side: the server as a relying party of itself.
//!
//! Owns what the demo app says to the server and what it keeps of the answers; the pages are in
//! `http/demo/`.

pub mod demo;
