//! A private PostgreSQL cluster for this test process: made at first use, without durability, on a
//! socket of its own; every test gets a database of its own, copied from a migrated template.
//!
//! Statics are not dropped when a process ends, so the cluster is watched: a shell holds the other
//! end of a pipe and takes the cluster down when the pipe closes, however the tests ended.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

const INSTALL: &str = "PostgreSQL is needed to test the Postgres engine: `apt-get install postgresql` \
                       (`make test` says what else)";

struct Cluster {
    bin: PathBuf,
    port: u16,
    /// Its closing stops the cluster.
    _watchdog: Option<Child>,
}

/// The account under which the server runs: PostgreSQL refuses to run as root.
#[derive(Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

/// A database of one test's own; dropped with it.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
}

impl Database {
    /// A copy of the migrated template.
    pub fn new() -> Self {
        Self::from_template("pmp_template")
    }

    /// An empty database, for what migrates by itself.
    pub fn empty() -> Self {
        Self::from_template("template0")
    }

    fn from_template(template: &str) -> Self {
        let cluster = cluster();
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        cluster.create(&name, template);
        Self { url: cluster.url(&name), name }
    }

    /// `postgres://…`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets nobody in and ends every connection, as a server that stops does; or lets them in again.
    pub fn set_open(&self, open: bool) {
        let name = &self.name;
        let run = |statement: &str| cluster().psql("postgres", &["--command", statement]);
        run(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {open}"));
        if !open {
            let of_ours = format!("FROM pg_stat_activity WHERE datname = '{name}'");
            run(&format!("SELECT pg_terminate_backend(pid) {of_ours}"));
        }
    }

    /// Runs SQL by hand and returns what it prints, unaligned.
    pub fn psql(&self, sql: &str) -> String {
        cluster().psql(&self.name, &["--tuples-only", "--no-align", "--command", sql])
    }
}

impl Drop for Database {
    /// Dropped behind the test's back: it costs a checkpoint. What is left when the tests end goes
    /// with the cluster.
    fn drop(&mut self) {
        static DROPPER: OnceLock<mpsc::Sender<String>> = OnceLock::new();
        let dropper = DROPPER.get_or_init(|| {
            let (sender, names) = mpsc::channel::<String>();
            std::thread::spawn(move || {
                for name in names {
                    let _ = cluster().tool("dropdb").args(["--force", &name]).output();
                }
            });
            sender
        });
        let _ = dropper.send(self.name.clone());
    }
}

/// A cluster of one test's own, to be stopped and started. What it committed survives a crash of its
/// processes.
pub struct OwnCluster {
    cluster: Cluster,
    dir: PathBuf,
    server: Child,
}

impl OwnCluster {
    /// A cluster with a migrated database.
    pub fn start() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pmp-auth-pg-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let (bin, account, port) = make(&dir);
        let mut server = serve(&bin, &dir, port, account, &["synchronous_commit=on"]);
        let cluster = Cluster { bin, port, _watchdog: None };
        cluster.wait_until_ready(&mut server);
        cluster.create("own", "template0");
        super::engines::migrate_postgres(&cluster.url("own"));
        Self { cluster, dir, server }
    }

    /// `postgres://…`
    pub fn url(&self) -> String {
        self.cluster.url("own")
    }

    /// Stops it by a signal: `INT` ends every connection and shuts down in order, `QUIT` is a crash.
    pub fn stop(&mut self, signal: &str) {
        let pid = self.server.id().to_string();
        run(Command::new("kill").args([&format!("-{signal}"), &pid]));
        self.server.wait().expect("its end");
    }

    /// Starts it again, at the same address.
    pub fn start_again(&mut self) {
        let Cluster { bin, port, .. } = &self.cluster;
        let also = ["synchronous_commit=on"];
        self.server = serve(bin, &self.dir, *port, unprivileged(), &also);
        self.cluster.wait_until_ready(&mut self.server);
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(Cluster::start)
}

impl Cluster {
    fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("pmp-auth-pg-{}", std::process::id()));
        let (bin, account, port) = make(&dir);
        let mut server = serve(&bin, &dir, port, account, &[]);
        let watchdog = Some(watch(server.id(), &dir));
        let cluster = Self { bin, port, _watchdog: watchdog };
        cluster.wait_until_ready(&mut server);
        cluster.make_template();
        cluster
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        let port = self.port.to_string();
        command.args(["--host", "127.0.0.1", "--port", &port, "--username", "postgres"]);
        command
    }

    fn psql(&self, database: &str, args: &[&str]) -> String {
        let mut psql = self.tool("psql");
        psql.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", database]);
        run(psql.args(args))
    }

    fn create(&self, name: &str, template: &str) {
        run(self.tool("createdb").args(["--template", template, name]));
    }

    fn wait_until_ready(&self, server: &mut Child) {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let asked = self.tool("pg_isready").stdout(Stdio::null()).status();
            if asked.is_ok_and(|status| status.success()) {
                return;
            }
            if let Ok(Some(status)) = server.try_wait() {
                panic!("the PostgreSQL server ended at once: {status}");
            }
            assert!(Instant::now() < deadline, "the PostgreSQL server does not get ready");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn make_template(&self) {
        self.create("pmp_template", "template0");
        super::engines::migrate_postgres(&self.url("pmp_template"));
        self.psql("postgres", &["--command", "ALTER DATABASE pmp_template IS_TEMPLATE true"]);
    }
}

/// Makes the files of a cluster in `dir`: where its programs are, whose it is, and its port.
fn make(dir: &Path) -> (PathBuf, Option<Account>, u16) {
    let (bin, account) = (binaries(), unprivileged());
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).expect("a directory for the cluster");
    if let Some(account) = account {
        chown(dir, Some(account.uid), Some(account.gid)).expect("the cluster's directory");
    }
    init(&bin, dir, account);
    (bin, account, free_port())
}

/// Where `initdb` and `postgres` are: the newest of Debian's, else on the path.
fn binaries() -> PathBuf {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates =
        versions.into_iter().rev().map(|(_, bin)| bin).chain(std::env::split_paths(&path));
    let has_server = |bin: &PathBuf| bin.join("initdb").is_file() && bin.join("postgres").is_file();
    candidates.into_iter().find(has_server).unwrap_or_else(|| panic!("{INSTALL}"))
}

/// Someone else to be when we are root: `postgres`, else `nobody`.
fn unprivileged() -> Option<Account> {
    if run(Command::new("id").arg("-u")).trim() != "0" {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some(Account { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    };
    let account = find("postgres").or_else(|| find("nobody"));
    Some(account.expect("root needs an account `postgres` or `nobody` to run PostgreSQL as"))
}

fn become_other(command: &mut Command, account: Option<Account>) -> &mut Command {
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

fn init(bin: &Path, dir: &Path, account: Option<Account>) {
    let mut initdb = Command::new(bin.join("initdb"));
    initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
    initdb.args(["--no-sync", "--no-instructions", "--pgdata"]).arg(dir.join("data"));
    run(become_other(&mut initdb, account).current_dir(dir));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

fn serve(bin: &Path, dir: &Path, port: u16, account: Option<Account>, also: &[&str]) -> Child {
    let mut server = Command::new(bin.join("postgres"));
    server.arg("-D").arg(dir.join("data")).arg("-p").arg(port.to_string());
    server.arg("-k").arg(dir);
    for setting in [
        "listen_addresses=127.0.0.1",
        "max_connections=500",
        "shared_buffers=64MB",
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "wal_level=minimal",
        "max_wal_senders=0",
        "max_wal_size=4GB",
        "log_min_messages=fatal",
    ] {
        server.args(["-c", setting]);
    }
    for setting in also {
        server.args(["-c", setting]);
    }
    let log = fs::File::create(dir.join("log")).expect("a log for the server");
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    // Ctrl-C at the terminal is for the tests; the watchdog takes the server down after them.
    server.process_group(0).current_dir(dir);
    become_other(&mut server, account).spawn().expect("the PostgreSQL server starts")
}

fn watch(server: u32, dir: &Path) -> Child {
    let script = r#"read -r _; kill -QUIT "$1"; while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; rm -rf "$2""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "watchdog", &server.to_string()]).arg(dir);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = shell.spawn().expect("a shell to watch over the server");
    child.stdin.as_mut().expect("a pipe to it").flush().expect("an open pipe");
    child
}

/// Runs a command to its end; what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {INSTALL}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {told}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
