//! Load by `wrk`, a generator much cheaper than the server, pinned to the core of the database.

use std::path::Path;
use std::process::Command;

/// What a run of `wrk` saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    /// Answers received.
    pub requests: u64,
    /// Answers per second.
    pub rate: f64,
    /// Median latency in milliseconds.
    pub p50: f64,
    /// 99th percentile in milliseconds.
    pub p99: f64,
    /// Answers outside 2xx and 3xx, and socket errors.
    pub failed: u64,
}

/// Runs `script` against `url` for `seconds` over 16 connections.
pub fn run(core: usize, url: &str, script: &Path, arguments: &[String], seconds: u32) -> Run {
    let mut wrk = Command::new("taskset");
    wrk.args(["-c", &core.to_string(), "wrk", "-t1", "-c16", &format!("-d{seconds}s"), "-s"]);
    wrk.arg(script).arg(url).arg("--").args(arguments);
    let output = wrk.output().expect("wrk is missing: apt-get install wrk");
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("RESULT ")) else {
        panic!("wrk said nothing: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    let field = |name: &str| {
        line.split_whitespace()
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .and_then(|value| value.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("no {name} in {line}"))
    };
    let requests = field("requests");
    Run {
        requests: requests as u64,
        rate: requests / (field("duration_us") / 1e6),
        p50: field("p50_us") / 1e3,
        p99: field("p99_us") / 1e3,
        failed: field("failed") as u64,
    }
}
