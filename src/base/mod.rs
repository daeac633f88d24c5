//! The ground: time, chance, secrets and spelling. Knows nothing of OAuth.

mod clock;
mod credential;
mod digest;
mod encoding;
mod entropy;
mod secret;
mod timestamp;

pub use clock::{Clock, ManualClock, SystemClock};
pub use credential::{CredentialKind, MalformedCredential};
pub use digest::Digest;
pub use encoding::{MalformedText, base62, base64, base64url, hex};
pub use entropy::{Entropy, SystemEntropy};
pub use secret::Secret;
pub use timestamp::Timestamp;
