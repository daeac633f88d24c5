//! What it takes to publish a status list that has changed: compress, spell, sign.

use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use flate2::Compression;
use flate2::write::GzEncoder;
use pmp_auth::base::base64url;
use pmp_auth::revocation::status::{CAPACITY, compress};
use std::io::Write as _;

const TOKENS: usize = 1_000_000;

/// Prints a row for each share of revoked tokens; nothing when `ONLY` leaves it out.
pub(crate) fn measure() {
    let only = std::env::var("ONLY").unwrap_or_default();
    if !only.split(',').any(|part| "status list".contains(part)) {
        return;
    }
    println!("## status list of {TOKENS} tokens\n");
    println!("| revoked | zlib bytes | JWT bytes | JWT in gzip | publish ms | at most |");
    println!("|--:|--:|--:|--:|--:|--:|");
    for (revoked, budget) in [(0, ""), (1_000, "3 KB, 50 ms"), (10_000, "")] {
        let bits = list(revoked);
        let mut times: Vec<Duration> = Vec::new();
        let (mut lst, mut jwt) = (String::new(), String::new());
        for _ in 0..15 {
            let began = Instant::now();
            lst = compress(&bits).unwrap();
            jwt = signed(&lst);
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(jwt.as_bytes()).unwrap();
        println!(
            "| {:.1} % | {} | {} | {} | {:.1} | {budget} |",
            revoked as f64 / TOKENS as f64 * 100.0,
            base64url::decode(&lst).unwrap().len(),
            jwt.len(),
            gzip.finish().unwrap().len(),
            times[times.len() / 2].as_secs_f64() * 1e3,
        );
    }
    println!();
}

/// A list in which so many of its tokens, wherever they lie, are revoked.
fn list(revoked: u32) -> Vec<u8> {
    let mut bits = vec![0_u8; CAPACITY as usize / 8];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = revoked;
    while left > 0 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let index = (state >> 44) as usize % CAPACITY as usize;
        let bit = 1 << (index % 8);
        left -= u32::from(bits[index / 8] & bit == 0);
        bits[index / 8] |= bit;
    }
    bits
}

fn signed(lst: &str) -> String {
    let header = base64url::encode(r#"{"alg":"ES256","typ":"statuslist+jwt","kid":"k"}"#);
    let claims = format!(
        r#"{{"sub":"https://id.example/t/acme/statuslists/AAAAAAAAAAAAAAAAAAAAAA","iat":1800000000,"exp":1800000300,"ttl":30,"status_list":{{"bits":1,"lst":"{lst}"}}}}"#
    );
    let message = format!("{header}.{}", base64url::encode(claims));
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    format!("{message}.{}", base64url::encode(signature))
}
