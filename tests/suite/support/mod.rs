//! What tests stand on: places where stores live, a private database cluster, races.

pub mod api_keys;
pub mod browser;
pub mod device;
#[macro_use]
pub mod engines;
pub mod events;
pub mod flow;
pub mod logs;
pub mod postgres;
pub mod process;
pub mod race;
pub mod temp;
pub mod typed;
pub mod server;
