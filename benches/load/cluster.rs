//! A private Postgres cluster in a temporary directory, durable as in production, pinned to one core.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running cluster; dropped, it stops and its directory goes.
pub struct Cluster {
    process: Child,
    dir: PathBuf,
    port: u16,
}

impl Cluster {
    /// Makes and starts a cluster whose processes stay on core `core`.
    pub fn start(dir: &Path, core: usize) -> Self {
        let bin = binaries();
        fs::create_dir_all(dir).expect("a directory for the cluster");
        let (uid, gid) = account();
        if let Some(uid) = uid {
            std::os::unix::fs::chown(dir, Some(uid), gid).expect("chown");
        }
        let data = dir.join("data");
        let as_user = |program: &mut Command| {
            if let (Some(uid), Some(gid)) = (uid, gid) {
                program.uid(uid).gid(gid);
            }
            program.current_dir(dir).stdout(Stdio::null());
        };
        let mut initdb = Command::new(bin.join("initdb"));
        as_user(initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "-D"]).arg(&data));
        assert!(initdb.status().expect("initdb runs").success());
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let mut postgres = Command::new("taskset");
        postgres.arg("-c").arg(core.to_string()).arg(bin.join("postgres")).arg("-D").arg(&data);
        for setting in ["listen_addresses=127.0.0.1", "shared_buffers=256MB", "max_connections=60"]
        {
            postgres.args(["-c", setting]);
        }
        postgres.args(["-c", &format!("port={port}")]);
        postgres.args(["-c", &format!("unix_socket_directories={}", dir.display())]);
        as_user(&mut postgres);
        let process = postgres.stderr(Stdio::null()).spawn().expect("postgres starts");
        let cluster = Self { process, dir: dir.to_owned(), port };
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "postgres did not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
        cluster
    }

    /// The connection string of database `name`.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// The postmaster.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn binaries() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|v| v.path().join("bin")).collect())
        .unwrap_or_default();
    found.sort();
    found.pop().expect("PostgreSQL is missing: apt-get install postgresql")
}

/// Postgres refuses to run as root; then the account `postgres` is used.
fn account() -> (Option<u32>, Option<u32>) {
    let root =
        fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        return (None, None);
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = accounts.lines().find(|l| l.starts_with("postgres:")).expect("account `postgres`");
    let ids: Vec<u32> = line.split(':').filter_map(|f| f.parse().ok()).collect();
    (Some(ids[0]), Some(ids[1]))
}
