//! `make bench`: what each operation costs in CPU time, beside a floor that does only what cannot be
//! avoided, measured in the same run. The server is pinned to one core, load and database to the
//! other; figures are medians over interleaved rounds at 16 connections.
//!
//! `ROUNDS` (5), `SECONDS` (2) and `ENGINES` (`memory,sqlite,postgres`) change the defaults;
//! Without load, what it takes to publish a status list.
//! `ONLY` names (parts of the names of) the operations to run, `a,b`; `device` is the device flow,
//! with its scenarios, whose sizes are `SAMPLES`, `DEVICES`, `POLLING` and `WAITING`; `feed` is the
//! revocation feed (`SAMPLES`, `ENTRIES`, `SUBSCRIBERS`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::pedantic, unreachable_pub)]
#![allow(clippy::disallowed_methods, missing_docs)]

mod browser;
mod checks;
mod cluster;
mod cpu;
mod devices;
mod feed;
mod floor;
mod operations;
mod server;
mod status;
mod wrk;

use std::path::{Path, PathBuf};

use cluster::Cluster;
use operations::{Operation, Tokens};
use server::{Floor, Server};
use wrk::Run;

const SERVER_CORE: usize = 0;
const OTHER_CORE: usize = 1;

/// One measurement of one side.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    server_us: f64,
    database_us: f64,
    run: Run,
}

impl Cost {
    fn total(&self) -> f64 {
        self.server_us + self.database_us
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some("--floor") {
        let port = arguments[2].parse().expect("a port");
        let page = arguments[3].parse().expect("a length");
        return floor::serve(port, arguments.get(4).map(String::as_str), page);
    }
    let dir = std::env::temp_dir().join(format!("pmp-auth-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    std::os::unix::fs::chown(&dir, None, None).expect("own directory");
    let engines = std::env::var("ENGINES").unwrap_or_else(|_| "memory,sqlite,postgres".into());
    println!("{} · 16 connections, medians; µs of CPU per request\n", machine());
    status::measure();
    for engine in engines.split(',') {
        measure_engine(engine, &dir.join(engine));
    }
    let _ = std::fs::remove_dir_all(dir);
}

fn measure_engine(engine: &str, dir: &Path) {
    std::fs::create_dir_all(dir).expect("a directory");
    let cluster = (engine == "postgres").then(|| Cluster::start(&dir.join("cluster"), OTHER_CORE));
    let database = match (&cluster, engine) {
        (Some(cluster), _) => Some(cluster.url("postgres")),
        (None, "sqlite") => Some(dir.join("floor.db").display().to_string()),
        _ => None,
    };
    let server = Server::start(engine, dir, database.as_deref(), SERVER_CORE);
    let floor = Floor::start(database.as_deref(), SERVER_CORE, server.page_bytes());
    println!("## {engine}\n");
    println!(
        "Cold start to the first 200: {:.0} ms. Idle memory: {:.1} MiB.\n",
        server.cold_start_ms, server.idle_mib
    );
    let postmaster = cluster.as_ref().map(Cluster::pid);
    let rounds: usize = number("ROUNDS", 5);
    let only = std::env::var("ONLY").unwrap_or_default();
    let wanted = |name: &str| only.split(',').any(|part| name.contains(part));
    let mut results: Vec<(Operation, Vec<(Cost, Cost)>)> = operations::all(&server)
        .into_iter()
        .filter(|operation| wanted(operation.name))
        .chain(checks::all(&server, dir, wanted))
        .map(|operation| (operation, Vec::new()))
        .collect();
    for _ in 0..rounds {
        let tokens = Tokens::mint(&server, dir, results.iter().map(|(operation, _)| operation));
        for (operation, costs) in &mut results {
            let seconds = operation.seconds.min(number("SECONDS", 2));
            let ours = measure(
                &server.url,
                server.pid(),
                postmaster,
                &operation.arguments(&tokens),
                seconds * u32::from(operation.pair) + seconds,
            );
            let bare = measure(
                &floor.url,
                floor.pid(),
                postmaster,
                &operation.floor.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(),
                seconds,
            );
            costs.push((ours, bare));
        }
    }
    if !results.is_empty() {
        print_table(results);
    }
    drop(floor);
    devices::run(&server, postmaster, wanted);
    feed::run(&server, database.as_deref(), wanted);
}

fn measure(url: &str, pid: u32, database: Option<u32>, arguments: &[String], seconds: u32) -> Cost {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/load/load.lua");
    let used =
        || (cpu::used(pid, false), database.map(|pid| cpu::used(pid, true)).unwrap_or_default());
    let before = used();
    let run = wrk::run(OTHER_CORE, url, &script, arguments, seconds);
    let after = used();
    let per_request =
        |spent: std::time::Duration| spent.as_secs_f64() * 1e6 / run.requests.max(1) as f64;
    Cost {
        server_us: per_request(after.0 - before.0),
        database_us: per_request(after.1.saturating_sub(before.1)),
        run,
    }
}

fn print_table(results: Vec<(Operation, Vec<(Cost, Cost)>)>) {
    println!(
        "| operation | µs | server | database | floor | × floor | at most | req/s | p50 ms | p99 ms | failed |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (operation, mut costs) in results {
        // A pair of requests is counted as one, floor (two requests of its own kind) too.
        let weight = if operation.pair { 2.0 } else { 1.0 };
        costs.sort_by(|a, b| a.0.total().total_cmp(&b.0.total()));
        let ours = costs[costs.len() / 2].0;
        costs.sort_by(|a, b| a.1.total().total_cmp(&b.1.total()));
        let bare = costs[costs.len() / 2].1;
        let failed: u64 = costs.iter().map(|(ours, _)| ours.run.failed).sum();
        let floor = bare.total() * operation.floor_weight;
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {} | {:.0} | {:.2} | {:.2} | {} |",
            operation.name,
            ours.total() * weight,
            ours.server_us * weight,
            ours.database_us * weight,
            floor,
            ours.total() * weight / floor,
            operation.budget,
            ours.run.rate / weight,
            ours.run.p50 * weight,
            ours.run.p99 * weight,
            failed,
        );
    }
    println!();
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} · {cores} cores", model.map_or("unknown CPU", |(_, name)| name.trim()))
}
