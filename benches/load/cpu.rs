//! CPU time of processes, from `/proc`.

use std::fs;
use std::time::Duration;

/// One clock tick of `/proc/*/stat`: 10 ms on every Linux we run on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of `pid` and, when `family`, of its children, living and reaped.
pub fn used(pid: u32, family: bool) -> Duration {
    let mut ticks = own(pid, family);
    if family {
        ticks += children(pid).into_iter().map(|child| own(child, false)).sum::<u64>();
    }
    TICK * u32::try_from(ticks).expect("less than a year of CPU time")
}

fn own(pid: u32, reaped: bool) -> u64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0 };
    // The command may hold spaces; fields are counted behind its closing parenthesis.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |n: usize| fields.get(n).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let own = field(11) + field(12);
    if reaped { own + field(13) + field(14) } else { own }
}

fn children(pid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Resident memory in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}
