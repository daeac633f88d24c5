//! How the world reaches us over HTTP.

pub mod pages;
