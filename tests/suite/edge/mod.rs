//! What every request goes through, whatever its route.

mod headers;
mod limits;
mod ops;
mod paths;
