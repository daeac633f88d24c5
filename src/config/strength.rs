//! Whether a secret is one: placeholders, samples and secrets with too little chance in them.

/// Words that stand where a secret should; longer than random text has them by accident.
const PLACEHOLDERS: [&str; 22] = [
    "changeme",
    "change_me",
    "change-me",
    "changeit",
    "placeholder",
    "example",
    "password",
    "passw0rd",
    "insecure",
    "secret-key",
    "secretkey",
    "secret_key",
    "your-secret",
    "yoursecret",
    "your_secret",
    "replace",
    "sample",
    "dev-only",
    "development",
    "deadbeef",
    "letmein",
    "notsecret",
];

/// Secrets that stand in standards and tutorials (RFC 6749 §2.3.1, RFC 7515 §A.1, RFC 7591 §3.2.1).
const SAMPLES: [&str; 5] = [
    "7Fjfp0ZBr1KtDRbnfVdmIw",
    "gX1fBat3bV",
    "AyM1SysPpbyfDfZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    "cf136dc3c1fc93f31185e5885805d",
    "ZJYCqe3GGRvdrudKyZS0XhGv_Z45DuKhCUk0gBR1vZk",
];

/// What is wrong with `secret` as something nobody can guess.
pub(super) fn weakness(secret: &[u8], min_bytes: usize) -> Option<String> {
    if let Some(word) = placeholder(secret) {
        return Some(word);
    }
    if secret.len() < min_bytes {
        return Some(format!("it has {} bytes, and {min_bytes} are needed", secret.len()));
    }
    (bits(secret) < 80.0).then(|| "it repeats or counts too much to be random".into())
}

/// Whether `secret` is a placeholder or a published sample.
pub(super) fn placeholder(secret: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(secret);
    let lower = text.to_ascii_lowercase();
    if let Some(word) = PLACEHOLDERS.iter().find(|word| lower.contains(**word)) {
        return Some(format!("it contains `{word}`, which is no secret"));
    }
    SAMPLES.contains(&text.trim()).then(|| "it is a published sample".into())
}

/// A generous estimate of the chance in `secret`, in bits: the entropy of its letters, counted over
/// the shortest block that it repeats, without the letters that only count on from the one before.
fn bits(secret: &[u8]) -> f64 {
    let period = (1..=secret.len()).find(|p| secret.iter().zip(&secret[*p..]).all(|(a, b)| a == b));
    let block = &secret[..period.unwrap_or(secret.len())];
    let mut counts = [0_u32; 256];
    for byte in block {
        counts[usize::from(*byte)] += 1;
    }
    let length = f64::from(u32::try_from(block.len()).unwrap_or(u32::MAX));
    let per_letter: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / length)
        .map(|share| -share * share.log2())
        .sum();
    let steps = |a: u8, b: u8| i16::from(b) - i16::from(a);
    let counting = block
        .windows(3)
        .map(|three| (steps(three[0], three[1]), steps(three[1], three[2])))
        .filter(|(first, second)| first == second && first.abs() <= 1)
        .count();
    let counting = f64::from(u32::try_from(counting).unwrap_or(u32::MAX));
    per_letter * (length - counting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Entropy, SystemEntropy, base64url, hex};

    #[test]
    fn random_secrets_are_strong() {
        let entropy: &dyn Entropy = &SystemEntropy;
        for _ in 0..200 {
            let bytes = entropy.bytes::<32>();
            assert_eq!(weakness(base64url::encode(bytes).as_bytes(), 32), None);
            assert_eq!(weakness(hex(&bytes).as_bytes(), 32), None);
            assert_eq!(weakness(hex(&bytes[..16]).as_bytes(), 32), None);
        }
    }

    #[test]
    fn placeholders_samples_and_patterns_are_weak() {
        for weak in [
            "changeme",
            "changeme-changeme-changeme-changeme",
            "00000000000000000000000000000000",
            "0123456789abcdef0123456789abcdef",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "abababababababababababababababababababab",
            "this-is-my-Super-Secret-Key-for-prod-2026",
            "AyM1SysPpbyfDfZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            "tooShort8Zq3",
        ] {
            assert!(weakness(weak.as_bytes(), 32).is_some(), "{weak}");
        }
        assert!(weakness(&[0; 64], 32).is_some());
    }
}
