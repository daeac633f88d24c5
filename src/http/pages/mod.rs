//! The pages that people see: rendered here, without scripts, from templates and one catalogue of
//! words.

pub mod template;
