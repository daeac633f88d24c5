//! Operations that check a token or an API key: `/verify`, and introspection of API keys.

use std::io::Write as _;
use std::path::Path;

use crate::operations::Operation;
use crate::server::Server;

/// The operations; the files of keys that they need are made in `dir`.
pub fn all(server: &Server, dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<Operation> {
    let stored = server.engine != "memory";
    let form = &["post", "/form", "none", "token=x"][..];
    let read = if stored { &["post", "/select", "none", "token=x"][..] } else { form };
    let from_store = if stored { "1.5 ×" } else { "2 ×" };
    let verify = format!("{}/verify", server.path);
    let keys = |tenant: &str| dir.join(format!("{tenant}.keys")).display().to_string();
    let (own, strict) = (keys("bench"), keys("strict"));
    let page = &["get", "/page"][..];
    let check = |name, budget, what: &str, path: &str, file: &str, floor: &[&'static str]| {
        let who = if what == "cycle" { server.basic("api") } else { "none".to_owned() };
        let ours = vec![what.to_owned(), path.to_owned(), who, file.to_owned()];
        Operation {
            name,
            budget,
            ours,
            floor: floor.to_vec(),
            floor_weight: 1.0,
            pair: false,
            seconds: 30,
        }
    };
    let introspect = |tenant: &str| format!("/t/{tenant}/introspect");
    let mut all = vec![
        check("verify a known JWT", "2 ×", "bearer", &verify, "{seen}", page),
        check("verify an opaque token", from_store, "bearer", &verify, "{opaque}", read),
        check("verify an API key, from the cache", "2 ×", "bearer", &verify, &own, page),
        check(
            "verify an API key, from the store",
            from_store,
            "bearer",
            "/t/strict/verify",
            &strict,
            read,
        ),
        check(
            "introspect an API key, from the cache",
            "2 ×",
            "cycle",
            &introspect("bench"),
            &own,
            form,
        ),
        check(
            "introspect an API key, from the store",
            from_store,
            "cycle",
            &introspect("strict"),
            &strict,
            read,
        ),
    ];
    all.retain(|operation| wanted(operation.name));
    for (tenant, file) in [("bench", &own), ("strict", &strict)] {
        if all.iter().any(|operation| operation.reads(file)) {
            let mut out = std::fs::File::create(file).expect("a file");
            for key in server.api_keys(tenant, KEYS) {
                writeln!(out, "token={key}").expect("a line");
            }
        }
    }
    all
}

/// As many keys take turns.
const KEYS: usize = 8;
