//! Many at once, and things that go wrong, over HTTP on every engine; on Postgres with three nodes.

mod api_keys;
mod cleanup;
mod codes;
mod crash;
mod devices;
mod feed;
mod fleet;
mod introspection;
mod nodes;
mod refresh;
mod revocations;
