//! What a browser without scripts gets to see.

mod consent;
mod device;
mod login;
mod logout;
mod refusals;
