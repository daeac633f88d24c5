//! What a browser without scripts gets to see.

mod consent;
mod login;
mod logout;
mod refusals;
