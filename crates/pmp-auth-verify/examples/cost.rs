//! What the check costs once a token is known: `cargo run --release --example cost -p pmp-auth-verify`.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "an example"
)]

#[path = "../src/tests/issuer.rs"]
mod issuer;

use std::time::{Duration, Instant};

use pmp_auth_verify::{Credentials, Mode, Verifier};
use serde_json::json;

const ROUNDS: u32 = 200_000;

#[tokio::main]
async fn main() {
    let issuer = issuer::TestIssuer::start().await;
    issuer.change(|inner| {
        let entry = |n: u32| {
            json!({"k": "jti", "h": issuer::half(&n.to_string()), "exp": issuer::now() + 360})
        };
        inner.entries = (0..100_000).map(entry).collect();
    });
    let tokens: Vec<String> = (0..100).map(|n| issuer.token(&format!("t{n}"))).collect();
    for mode in [Mode::Local, Mode::Feed] {
        let begun = Instant::now();
        let verifier = Verifier::builder()
            .issuer(issuer.url.as_str())
            .audience(issuer::API)
            .mode(mode)
            .credentials(Credentials::new("api", "s:cret"))
            .build()
            .unwrap();
        verifier.ready_within(Duration::from_mins(1)).await.unwrap();
        println!("{mode:?}: ready after {:?}", begun.elapsed());
        for token in &tokens {
            verifier.verify(token, &[]).await.unwrap();
        }
        let scopes = ["orders:read".to_owned()];
        let begun = Instant::now();
        for token in tokens.iter().cycle().take(ROUNDS as usize) {
            verifier.verify(token, &scopes).await.unwrap();
        }
        println!("{mode:?}: {:?} a check of a known token", begun.elapsed() / ROUNDS);
    }
}
