//! Many at once, and things that go wrong, over HTTP on every engine; on Postgres with three nodes.

mod api_keys;
mod codes;
mod crash;
mod feed;
mod devices;
mod nodes;
mod refresh;
