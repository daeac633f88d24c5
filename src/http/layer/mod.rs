//! What is done to every request, whatever its route, from the outside in: `edge` (context, headers
//! of the answer, log line, metric), `strict` (what is refused unread), `cors`, `guard` (body,
//! time, disconnects, panics).

mod context;
mod cors;
mod edge;
mod guard;
mod headers;
mod strict;

pub(in crate::http) use context::Context;
pub(in crate::http) use cors::cors;
pub(in crate::http) use edge::{Peer, edge, panicked};
pub(in crate::http) use guard::guard;
pub(in crate::http) use strict::strict;
