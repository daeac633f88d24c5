//! The pages that people see: rendered here, without scripts, from templates and one catalogue of
//! words.
//!
//! Owns how a browser is recognised and answered. Decides nothing: what has to happen next is
//! `oauth::authorize`'s to say, and who signed in `identity`'s.

pub(in crate::http) mod authorize;
pub(in crate::http) mod brand;
pub(in crate::http) mod consent;
pub(in crate::http) mod device;
mod kept;
pub(in crate::http) mod login;
pub(in crate::http) mod logout;
pub(in crate::http) mod problem;
mod refused;
mod show;
pub mod template;
mod visitor;
mod waiting;
mod words;
