//! Everything that needs more than one module: storage, flows, specification and security cases.

mod cli;
mod sec;
