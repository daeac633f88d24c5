//! What the specifications say of each endpoint, over HTTP.

mod discovery;
mod resource_metadata;
mod token_side;
