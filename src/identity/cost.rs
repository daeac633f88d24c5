use argon2::{Algorithm, Argon2, Params, PasswordHash, Version};

/// What one Argon2id evaluation costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl PasswordCost {
    /// 46 MiB, one pass, one lane: the OWASP parameter set with the fewest passes.
    pub const DEFAULT: Self = Self { memory_kib: 47_104, passes: 1, lanes: 1 };
    /// Next to nothing, for tests.
    pub const CHEAP: Self = Self { memory_kib: 64, passes: 1, lanes: 1 };

    /// The most that a stored hash may ask for: 1 GiB-passes would let one imported record stop the
    /// server. Memory alone stays within four times what we use ourselves.
    const WORST: Self = Self { memory_kib: 4 * 47_104, passes: 16, lanes: 16 };

    /// The most memory that evaluating a hash of ours takes, in bytes.
    pub(super) fn memory(self) -> u64 {
        u64::from(self.memory_kib) * 1024
    }

    /// The hasher of these parameters.
    pub(super) fn hasher(self) -> Option<Argon2<'static>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()?;
        Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
    }

    /// The cost of a stored hash; `None` when it is not one that we would ever evaluate: another
    /// algorithm, a malformed string, or absurd parameters.
    pub fn of(phc: &str) -> Option<Self> {
        let hash = PasswordHash::new(phc).ok()?;
        let sound = hash.algorithm == argon2::ARGON2ID_IDENT
            && hash.version == Some(Version::V0x13.into())
            && hash.salt.is_some()
            && hash.hash.as_ref().is_some_and(|output| output.len() >= 16);
        let params = Params::try_from(&hash).ok().filter(|_| sound)?;
        let cost =
            Self { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
        cost.is_bearable().then_some(cost)
    }

    fn is_bearable(self) -> bool {
        let Self { memory_kib, passes, lanes } = self;
        let worst = Self::WORST;
        memory_kib <= worst.memory_kib
            && passes <= worst.passes
            && lanes <= worst.lanes
            && u64::from(memory_kib) * u64::from(passes) <= u64::from(worst.memory_kib) * 2
    }

    /// Whether a hash of this cost is weaker than one of `wanted`.
    pub(super) fn is_weaker_than(self, wanted: Self) -> bool {
        self.memory_kib < wanted.memory_kib || self.passes < wanted.passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT_AND_HASH: &str = "c29tZXNhbHRzb21lc2E$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn phc(head: &str) -> String {
        format!("{head}${SALT_AND_HASH}")
    }

    #[test]
    fn a_hash_of_the_default_cost_is_read() {
        let text = phc("$argon2id$v=19$m=47104,t=1,p=1");
        assert_eq!(PasswordCost::of(&text), Some(PasswordCost::DEFAULT));
        assert!(PasswordCost::CHEAP.is_weaker_than(PasswordCost::DEFAULT));
        assert!(!PasswordCost::DEFAULT.is_weaker_than(PasswordCost::DEFAULT));
    }

    #[test]
    fn absurd_or_foreign_hashes_have_no_cost() {
        for head in [
            "$argon2id$v=19$m=4294967295,t=1000,p=1",
            "$argon2id$v=19$m=19456,t=4294967295,p=1",
            "$argon2id$v=19$m=188416,t=16,p=1",
            "$argon2id$v=16$m=19456,t=2,p=1",
            "$argon2id$m=19456,t=2,p=1",
            "$argon2i$v=19$m=19456,t=2,p=1",
            "$argon2d$v=19$m=19456,t=2,p=1",
            "$scrypt$ln=16,r=8,p=1",
        ] {
            assert_eq!(PasswordCost::of(&phc(head)), None, "{head}");
        }
        for text in [
            "",
            "hunter2",
            "$argon2id$",
            "$argon2id$v=19$m=19456,t=2,p=1$",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
        ] {
            assert_eq!(PasswordCost::of(text), None, "{text}");
        }
    }
}
