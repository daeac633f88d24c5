//! Logs and metrics: set up and named here, used everywhere.
//!
//! Names of metrics and log fields are part of the interface: dashboards and searches hang on them.

mod logs;
mod metrics;

pub use logs::{LogFormat, start as start_logs};
pub use metrics::{BuildLabels, Metrics};
