//! Flows from the first request to the last.

mod api_keys;
mod code;
mod device;
mod feed;
mod device_interop;
mod introspect;
mod status_lists;
mod resource_indicators;
mod token;
mod verifier;
mod verify;
