//! In which order a list's indices are given: at random to all who do not know the seed, and each
//! once.

use aws_lc_rs::hmac;

/// How many bits an index has.
pub(super) const BITS: u32 = 20;
const HALF: u32 = BITS / 2;
const MASK: u32 = (1 << HALF) - 1;
const ROUNDS: u8 = 8;

/// A permutation of all indices: a balanced Feistel network of eight rounds, whose round function is
/// HMAC-SHA-256 under the list's seed. Indices have an even number of bits, so every index is the
/// n-th of exactly one n.
pub(super) struct Order(hmac::Key);

impl Order {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, seed))
    }

    /// The `n`-th index.
    pub(super) fn index(&self, n: u32) -> u32 {
        let (mut left, mut right) = (n >> HALF & MASK, n & MASK);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        left << HALF | right
    }

    fn round(&self, round: u8, half: u32) -> u32 {
        let [.., high, low] = half.to_be_bytes();
        let tag = hmac::sign(&self.0, &[round, high, low]);
        match tag.as_ref() {
            [first, second, ..] => u32::from(u16::from_be_bytes([*first, *second])) & MASK,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_index_comes_twice_and_all_fit() {
        let order = Order::new(&[7; 32]);
        let given: HashSet<u32> = (0..20_000).map(|n| order.index(n)).collect();
        assert_eq!(given.len(), 20_000);
        assert!(given.iter().all(|index| *index < 1 << BITS));
    }

    #[test]
    fn every_round_can_be_undone() {
        let order = Order::new(&[9; 32]);
        for n in (0..1 << BITS).step_by(9973) {
            let index = order.index(n);
            let (mut left, mut right) = (index >> HALF, index & MASK);
            for round in (0..ROUNDS).rev() {
                (left, right) = (right ^ order.round(round, left), left);
            }
            assert_eq!(left << HALF | right, n);
        }
    }

    #[test]
    fn neighbours_lie_apart_and_another_seed_is_another_order() {
        let (one, other) = (Order::new(&[1; 32]), Order::new(&[2; 32]));
        let near = (0..1000).filter(|n| one.index(*n).abs_diff(one.index(n + 1)) < 1000).count();
        assert!(near < 20, "{near} of 1000 neighbours are near");
        assert!((0..1000).filter(|n| one.index(*n) == other.index(*n)).count() < 5);
    }
}
