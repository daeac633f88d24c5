use rand::Rng as _;
use uuid::Uuid;

/// Where randomness comes from: everything unguessable that we hand out is drawn here.
pub trait Entropy: Send + Sync {
    /// Fills `into` with unpredictable bytes.
    fn fill(&self, into: &mut [u8]);
}

impl dyn Entropy + '_ {
    /// `N` unpredictable bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random identifier (RFC 9562 version 4).
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }
}

/// The operating system's generator, stretched by a reseeding ChaCha12 per thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that draws")]
    fn fill(&self, into: &mut [u8]) {
        rand::rng().fill_bytes(into);
    }
}
