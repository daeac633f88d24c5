//! `config.yaml` as written becomes typed settings, checked whole before anything starts.
//!
//! Owns the file format, its faults (place, path, what is wrong, how to mend it), environment
//! overrides and the embedded defaults. The only module that reads the environment.

pub mod settings;
