//! What is measured.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::server::{DEVICE_REQUEST, Server};

/// One operation and its floor.
pub struct Operation {
    /// As in the table.
    pub name: &'static str,
    /// What it may cost.
    pub budget: &'static str,
    /// Arguments of `load.lua`; `{fresh}`, `{seen}`, `{opaque}`, `{refresh}`, `{pending}` and
    /// `{early}` stand for files of tokens.
    pub ours: Vec<String>,
    /// The same for the floor.
    pub floor: Vec<&'static str>,
    /// How many floor requests one operation stands beside.
    pub floor_weight: f64,
    /// Whether two requests make one operation.
    pub pair: bool,
    /// At most so long, lest tokens run out.
    pub seconds: u32,
}

impl Operation {
    /// The arguments with the files of this round.
    pub fn arguments(&self, tokens: &Tokens) -> Vec<String> {
        let place = |argument: &String| {
            argument
                .replace("{fresh}", &tokens.fresh.display().to_string())
                .replace("{seen}", &tokens.seen.display().to_string())
                .replace("{opaque}", &tokens.opaque.display().to_string())
                .replace("{refresh}", &tokens.refresh.display().to_string())
                .replace("{pending}", &tokens.pending.display().to_string())
                .replace("{early}", &tokens.early.display().to_string())
        };
        self.ours.iter().map(place).collect()
    }

    /// Whether it is given this file.
    pub fn reads(&self, file: &str) -> bool {
        self.ours.iter().any(|argument| argument == file)
    }
}

/// Every operation of the budget, in the order in which they are run.
pub fn all(server: &Server) -> Vec<Operation> {
    let basic = |client: &str| server.basic(client);
    let stored = server.engine != "memory";
    let plain = |name, budget, ours: [&str; 4], floor: &[&'static str]| Operation {
        name,
        budget,
        ours: ours.iter().filter(|a| !a.is_empty()).map(|a| (*a).to_owned()).collect(),
        floor: floor.to_vec(),
        floor_weight: 1.0,
        pair: false,
        seconds: 30,
    };
    let cc = "grant_type=client_credentials&scope=read";
    let form = &["post", "/form", "none", "token=x"][..];
    let write = if stored { &["post", "/insert", "none", "token=x"][..] } else { form };
    let read = if stored { &["post", "/select", "none", "token=x"][..] } else { form };
    let rotate = if stored { "/rotate" } else { "/sign" };
    let mut all = vec![
        plain(
            "discovery",
            "2 ×",
            ["get", &format!("{}/.well-known/openid-configuration", server.path), "", ""],
            &["get", "/page"],
        ),
        plain(
            "JWKS",
            "2 ×",
            ["get", &format!("{}/jwks.json", server.path), "", ""],
            &["get", "/page"],
        ),
        plain(
            "client_credentials, ES256",
            "1.5 ×",
            ["post", &server.token(), &basic("svc"), cc],
            &["post", "/sign", "none", "token=x"],
        ),
        plain(
            "client_credentials, EdDSA",
            "—",
            ["post", &server.token_of("eddsa"), &basic("svc"), cc],
            &["post", "/sign", "none", "token=x"],
        ),
        plain(
            "client_credentials, opaque",
            "1.5 ×",
            ["post", &server.token(), &basic("opaque"), cc],
            write,
        ),
        plain(
            "introspect a JWT seen before",
            "2 ×",
            ["cycle", &server.introspect(), &basic("api"), "{seen}"],
            form,
        ),
        plain(
            "introspect a JWT for the first time",
            "2 × + check",
            ["each", &server.introspect(), &basic("api"), "{fresh}"],
            &["post", "/verify", "none", "token=a.b.c"],
        ),
        plain(
            "introspect an opaque token",
            if stored { "1.5 ×" } else { "2 ×" },
            ["cycle", &server.introspect(), &basic("api"), "{opaque}"],
            read,
        ),
        plain("revoke", "1.5 ×", ["each", &server.revoke(), &basic("svc"), "{fresh}"], write),
        plain(
            "refresh with rotation, ES256",
            "1.5 ×",
            ["refresh", &server.token(), &basic("web"), "{refresh}"],
            &["post", rotate, "none", "token=x"],
        ),
    ];
    for operation in &mut all {
        if operation.ours[0] == "each" {
            operation.seconds = 1;
        }
    }
    all.push(Operation {
        name: "authorize with a session + redeem, ES256 both",
        budget: "≈ 600",
        ours: vec!["code".into(), server.token(), basic("web"), server.code_arguments()],
        floor: vec!["alternate", "/authorize", "/redeem"],
        floor_weight: 2.0,
        pair: true,
        seconds: 30,
    });
    let polls = |name, budget, ours: [&str; 2], floor| {
        let ours = ["poll", &server.token(), "none", ours[0], ours[1]];
        Operation {
            ours: ours.iter().map(|a| (*a).to_owned()).collect(),
            ..plain(name, budget, ["", "", "", ""], floor)
        }
    };
    all.push(plain(
        "device_authorization",
        "1.5 ×",
        ["post", &server.device_authorization(), "none", DEVICE_REQUEST],
        write,
    ));
    all.push(polls(
        "poll of a pending device code",
        "1.5 ×",
        ["{pending}", "authorization_pending"],
        if stored { &["post", "/update", "none", "token=x"] } else { form },
    ));
    all.push(polls(
        "poll of a device code that comes too early",
        "2 ×",
        ["{early}", "slow_down"],
        &["post", "/refusal", "none", "token=x"],
    ));
    all
}

/// Files of tokens, fresh for each round.
pub struct Tokens {
    fresh: PathBuf,
    seen: PathBuf,
    opaque: PathBuf,
    refresh: PathBuf,
    pending: PathBuf,
    early: PathBuf,
}

impl Tokens {
    /// Has the server issue enough for a round of these operations.
    pub fn mint<'a>(
        server: &Server,
        dir: &Path,
        operations: impl Iterator<Item = &'a Operation> + Clone,
    ) -> Self {
        let file = |name: &str, lines: &dyn Fn() -> Vec<String>| {
            let path = dir.join(name);
            if operations.clone().any(|operation| operation.reads(&format!("{{{name}}}"))) {
                let mut out = std::fs::File::create(&path).expect("a file");
                for line in lines() {
                    writeln!(out, "{line}").expect("a line");
                }
            }
            path
        };
        let bodies = |tokens: Vec<String>| -> Vec<String> {
            tokens.into_iter().map(|token| format!("token={token}")).collect()
        };
        let polls = |count| -> Vec<String> {
            let codes = server.devices(count).into_iter();
            codes.map(|(device_code, _)| Server::poll(&device_code)).collect()
        };
        Self {
            fresh: file("fresh", &|| bodies(server.client_credentials("svc", 20_000))),
            seen: file("seen", &|| bodies(server.client_credentials("svc", 50))),
            opaque: file("opaque", &|| bodies(server.client_credentials("opaque", 50))),
            refresh: file("refresh", &|| server.refresh_tokens(64)),
            // So many that it takes more than their interval, a second, to poll them all.
            pending: file("pending", &|| polls(PENDING)),
            early: file("early", &|| {
                let codes = polls(64);
                server.poll_too_early(&codes);
                codes
            }),
        }
    }
}

/// Devices that are polled in turn; the fastest engine answers some 30,000 polls a second.
const PENDING: usize = 40_000;
