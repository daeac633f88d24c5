//! What the specifications say of each endpoint, over HTTP.

mod discovery;
mod token_side;
