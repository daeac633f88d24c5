//! Many at once, and things that go wrong, over HTTP on every engine; on Postgres with three nodes.

mod api_keys;
mod codes;
mod crash;
mod devices;
mod feed;
mod introspection;
mod nodes;
mod refresh;
