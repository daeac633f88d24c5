//! The binary as a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_pmp-auth");

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The binary, to be run in `dir` with an empty environment.
pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(dir).args(args).env_clear();
    command
}

/// Runs a command in `dir` to its end, with `stdin` to read.
pub fn run(dir: &Path, args: &[&str], stdin: &str) -> Ended {
    let mut command = command(dir, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let _ = child.stdin.take().expect("its stdin").write_all(stdin.as_bytes());
    child.wait_with_output().expect("its end").into()
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

/// Writes a configuration file that only we can read.
pub fn write_config(dir: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("config.yaml");
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// `pmp-auth serve`, running; killed when dropped.
pub struct Serving {
    child: Child,
    /// What it said until it served.
    pub welcome: String,
    lines: Receiver<String>,
}

impl Serving {
    /// Starts it and waits until it serves.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        Self::of(command(dir, &[&["serve"], args].concat()))
    }

    /// Starts a command that serves and waits until it does.
    pub fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = say.send(line);
            }
        });
        let mut serving = Self { child, welcome: String::new(), lines };
        while !serving.welcome.contains(r#""message":"serving""#) {
            let line = serving.lines.recv_timeout(Duration::from_secs(30));
            let line = line.unwrap_or_else(|_| panic!("not serving:\n{}", serving.welcome));
            serving.welcome.push_str(&line);
            serving.welcome.push('\n');
        }
        serving
    }

    /// What it has in memory, in KiB.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the status of a process that runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
    }

    /// Sends a signal by its name: `TERM`, `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end; the code, and what it said since it served.
    pub fn wait(&mut self) -> Ended {
        let status = self.child.wait().expect("its end");
        let mut stdout = String::new();
        let _ = self.child.stdout.take().expect("its stdout").read_to_string(&mut stdout);
        let stderr = self.lines.iter().collect::<Vec<_>>().join("\n");
        Ended { code: status.code().unwrap_or(-1), stdout, stderr }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
