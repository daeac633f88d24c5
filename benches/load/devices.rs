//! The device flow where single requests say little: how soon a waiting device hears of a decision,
//! and what many devices cost that wait. Each takes less than a minute.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::browser::Browser;
use crate::server::Server;
use crate::{OTHER_CORE, cpu, number};

/// How often each of the crowd polls.
const EVERY: Duration = Duration::from_secs(5);
/// For so many rounds of that.
const ROUNDS: usize = 4;
/// How long the held polls wait, in seconds.
const WAIT: u64 = 30;
/// So many phones share a network: one that enters more codes in a minute is refused.
const OF_A_NETWORK: usize = 50;

/// Runs those that are `wanted` by name.
pub fn run(server: &Server, database: Option<u32>, wanted: impl Fn(&str) -> bool) {
    let answers = wanted("device: approval to answer");
    let crowd = wanted("device: many that poll");
    let held = wanted("device: long polls held");
    if !(answers || crowd || held) {
        return;
    }
    stay_off_the_server();
    println!("| device flow | | |\n|---|---|---|");
    if answers {
        approval_to_answer(server, ("same node", 1), &server.url);
        if server.engine == "postgres" {
            let node = server.beside();
            approval_to_answer(server, ("another node", 2), &node.url);
        }
    }
    if crowd {
        many_that_poll(server, database);
    }
    if held {
        long_polls_held(server, database);
    }
    println!();
}

/// All threads of this process, on the core of the load; and room for a connection per poll.
pub fn stay_off_the_server() {
    let pid = std::process::id().to_string();
    let core = OTHER_CORE.to_string();
    let quiet = |program: &str, args: &[&str]| {
        let _ = std::process::Command::new(program).args(args).output();
    };
    quiet("taskset", &["-a", "-c", "-p", &core, &pid]);
    quiet("prlimit", &["--pid", &pid, "--nofile=65536:65536"]);
}

/// The value below which this part of them lies.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// From sending Allow to the answer of the poll that waits at `waits_at`, one device after the other.
/// The phones are in the networks 127.0.`street`.*.
fn approval_to_answer(server: &Server, (place, street): (&str, u8), waits_at: &str) {
    let samples: usize = number("SAMPLES", 300);
    let networks = networks(samples.div_ceil(OF_A_NETWORK), street);
    let codes = server.devices(samples);
    let mut millis = Vec::with_capacity(samples);
    for (n, (device_code, user_code)) in codes.iter().enumerate() {
        let took = server.runtime.block_on(async {
            let cookies = &server.cookies[n % server.cookies.len()];
            let mut phone = Browser::new(&networks[n / OF_A_NETWORK], &server.url, cookies);
            let entry = format!("{}{}/device", server.url, server.path);
            let mut page = phone.follow(&entry, None).await;
            for step in [("user_code", user_code.as_str()), ("decision", "continue")] {
                let (action, fields) = page.filled(&[step]);
                page = phone.follow(&action, Some(&fields)).await;
            }
            let (action, fields) = page.filled(&[("decision", "allow")]);
            let request = server
                .http
                .post(format!("{waits_at}{}", server.token()))
                .header("content-type", "application/x-www-form-urlencoded")
                .header("prefer", format!("wait={WAIT}"))
                .body(Server::poll(device_code));
            let poll = tokio::spawn(async move {
                let answer = request.send().await.expect("an answer");
                let told = answer.text().await.expect("a body");
                assert!(told.contains("access_token"), "{told}");
                Instant::now()
            });
            tokio::time::sleep(Duration::from_millis(30)).await;
            let sent = Instant::now();
            phone.send(&action, Some(&fields)).await;
            poll.await.expect("the poll").saturating_duration_since(sent)
        });
        millis.push(took.as_secs_f64() * 1e3);
    }
    millis.sort_by(f64::total_cmp);
    println!(
        "| approval to answer, {place} | {samples} | p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms |",
        percentile(&millis, 0.5),
        percentile(&millis, 0.99),
        percentile(&millis, 1.0),
    );
}

/// A client in each of so many networks of this machine.
fn networks(count: usize, street: u8) -> Vec<reqwest::Client> {
    let client = |house: usize| {
        let house = u8::try_from(house).expect("no more than 255 networks");
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .local_address(IpAddr::from(Ipv4Addr::new(127, 0, street, house)))
            .build()
            .expect("a client")
    };
    (1..=count).map(client).collect()
}

/// CPU time of server and database since it was made.
struct Spent<'a> {
    server: &'a Server,
    database: Option<u32>,
    before: (Duration, Duration),
    from: Instant,
}

impl<'a> Spent<'a> {
    fn begin(server: &'a Server, database: Option<u32>) -> Self {
        let before = Self::used(server, database);
        Self { server, database, before, from: Instant::now() }
    }

    fn used(server: &Server, database: Option<u32>) -> (Duration, Duration) {
        let of_database = database.map(|pid| cpu::used(pid, true)).unwrap_or_default();
        (cpu::used(server.pid(), false), of_database)
    }

    /// Shares of one core, in percent.
    fn shares(&self) -> String {
        let (now, elapsed) = (Self::used(self.server, self.database), self.from.elapsed());
        let share = |spent: Duration| 100.0 * spent.as_secs_f64() / elapsed.as_secs_f64();
        format!(
            "server {:.1} % and database {:.1} % of a core",
            share(now.0.saturating_sub(self.before.0)),
            share(now.1.saturating_sub(self.before.1)),
        )
    }
}

/// A great many wait for their users, and some of them poll as they should.
fn many_that_poll(server: &Server, database: Option<u32>) {
    const WORKERS: usize = 64;
    let devices: usize = number("DEVICES", 100_000);
    let polling = number("POLLING", 5_000).min(devices);
    let idle = cpu::resident_mib(server.pid());
    let asked = Instant::now();
    let codes = Arc::new(server.devices(devices));
    let (asked, held) = (asked.elapsed(), cpu::resident_mib(server.pid()));
    let spent = Spent::begin(server, database);
    let (url, start) = (format!("{}{}", server.url, server.token()), Instant::now());
    let workers = (0..WORKERS).map(|worker| {
        let (codes, http, url) = (Arc::clone(&codes), server.http.clone(), url.clone());
        async move {
            let (mut lost, mut millis) = (0, Vec::new());
            for round in 0..ROUNDS {
                for n in (worker..polling).step_by(WORKERS) {
                    let share = EVERY.mul_f64(n as f64 / polling as f64);
                    let due = start + EVERY * round as u32 + share;
                    tokio::time::sleep_until(due.into()).await;
                    let sent = Instant::now();
                    let request = http
                        .post(&url)
                        .header("content-type", "application/x-www-form-urlencoded")
                        .body(Server::poll(&codes[n].0));
                    let told = match request.send().await {
                        Ok(answer) => answer.text().await.unwrap_or_default(),
                        Err(_) => String::new(),
                    };
                    lost += usize::from(!told.contains("authorization_pending"));
                    millis.push(sent.elapsed().as_secs_f64() * 1e3);
                }
            }
            (lost, millis)
        }
    });
    let workers: Vec<_> = workers.collect();
    let seen = server.runtime.block_on(async {
        let tasks: Vec<_> = workers.into_iter().map(tokio::spawn).collect();
        let mut seen = Vec::new();
        for task in tasks {
            seen.push(task.await.expect("a worker"));
        }
        seen
    });
    let lost: usize = seen.iter().map(|(lost, _)| lost).sum();
    let mut millis: Vec<f64> = seen.into_iter().flat_map(|(_, millis)| millis).collect();
    millis.sort_by(f64::total_cmp);
    println!(
        "| {devices} devices wait, {polling} poll every {} s | {} polls, {lost} lost | {}; p50 {:.2} ms, p99 {:.2} ms; memory {idle:.1} MiB before, {held:.1} with them, {:.1} polled; asked for in {:.1} s |",
        EVERY.as_secs(),
        millis.len(),
        spent.shares(),
        percentile(&millis, 0.5),
        percentile(&millis, 0.99),
        cpu::resident_mib(server.pid()),
        asked.as_secs_f64(),
    );
}

/// Long polls of devices about which nobody decides, each with a connection of its own.
fn long_polls_held(server: &Server, database: Option<u32>) {
    let waiting: usize = number("WAITING", 10_000);
    let codes = server.devices(waiting);
    let address = server.url.trim_start_matches("http://").to_owned();
    let before = cpu::resident_mib(server.pid());
    let (sent, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let at_once = Arc::new(Semaphore::new(128));
    server.runtime.block_on(async {
        let polls: Vec<_> = codes
            .iter()
            .map(|(device_code, _)| {
                let body = Server::poll(device_code);
                let request = format!(
                    "POST {} HTTP/1.1\r\nHost: {address}\r\nPrefer: wait={WAIT}\r\n\
                     Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
                    server.token(),
                    body.len()
                );
                let (sent, answered) = (Arc::clone(&sent), Arc::clone(&answered));
                let (address, at_once) = (address.clone(), Arc::clone(&at_once));
                tokio::spawn(async move {
                    let permit = at_once.acquire_owned().await.expect("a permit");
                    let mut stream = TcpStream::connect(&address).await.expect("a connection");
                    stream.write_all(request.as_bytes()).await.expect("a request");
                    sent.fetch_add(1, Ordering::SeqCst);
                    drop(permit);
                    answered.fetch_add(usize::from(is_pending(stream).await), Ordering::SeqCst);
                })
            })
            .collect();
        let began = Instant::now();
        while sent.load(Ordering::SeqCst) < waiting && began.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let taken = began.elapsed();
        let early = answered.load(Ordering::SeqCst);
        let held = cpu::resident_mib(server.pid());
        let spent = Spent::begin(server, database);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let shares = spent.shares();
        for poll in polls {
            let _ = poll.await;
        }
        println!(
            "| {waiting} long polls held | {} answered in time, {early} before all were there | {:.1} KiB each ({before:.1} MiB before, {held:.1} with them); {shares} while they wait; taken in {:.1} s |",
            answered.load(Ordering::SeqCst),
            (held - before) * 1024.0 / waiting as f64,
            taken.as_secs_f64(),
        );
    });
}

/// Whether the answer says that nobody decided yet.
async fn is_pending(mut stream: TcpStream) -> bool {
    let (mut seen, mut buffer) = (Vec::new(), [0_u8; 1024]);
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => seen.extend_from_slice(&buffer[..read]),
        }
        if seen.windows(21).any(|part| part == b"authorization_pending") {
            return true;
        }
    }
}
