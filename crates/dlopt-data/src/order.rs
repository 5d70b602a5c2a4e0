//! Orders that depend on a seed alone: a Fisher-Yates shuffle drawn from ChaCha with 8 rounds.
//!
//! The key of the cipher is the seed, a counter and what the draws are for, so the order of epoch 7 can be had without
//! those of epochs 0 to 6. Draws are our own, so no other crate's release changes an order.
//! Source: Durstenfeld 1964 (algorithm 235); bounded draws: Lemire 2019, arXiv 1805.10941, algorithm 5.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A shuffled order of the samples, the same for the same seed and epoch on every machine.
pub fn epoch_order(samples: Range<usize>, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = samples.collect();
    Draws::new(*b"epoch order     ", seed, epoch).shuffle(&mut order);
    order
}

/// Random draws for one purpose.
pub(crate) struct Draws {
    rng: ChaCha8Rng,
}

impl Draws {
    /// Draws that depend on nothing but these three.
    pub(crate) fn new(purpose: [u8; 16], seed: u64, counter: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&counter.to_le_bytes());
        key[16..].copy_from_slice(&purpose);
        Self { rng: ChaCha8Rng::from_seed(key) }
    }

    /// A number below `bound`, all alike; 0 when the bound is 0.
    fn below(&mut self, bound: u64) -> u64 {
        let mut product = u128::from(self.rng.next_u64()) * u128::from(bound);
        if (product as u64) < bound {
            // 2^64 mod bound draws would make some numbers likelier; they are drawn again.
            let surplus = bound.wrapping_neg() % bound;
            while (product as u64) < surplus {
                product = u128::from(self.rng.next_u64()) * u128::from(bound);
            }
        }
        (product >> 64) as u64
    }

    /// Puts the items into an order of which all are alike.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_comes_once() {
        let mut order = epoch_order(5..1002, 3, 9);
        assert_ne!(order, (5..1002).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (5..1002).collect::<Vec<_>>());
        assert_eq!(epoch_order(4..4, 1, 1), Vec::<usize>::new());
        assert_eq!(epoch_order(4..5, 1, 1), [4]);
    }

    #[test]
    fn seed_and_epoch_decide_the_order() {
        let order = |seed, epoch| epoch_order(0..97, seed, epoch);
        assert_eq!(order(1, 2), order(1, 2));
        assert_ne!(order(1, 2), order(2, 1));
        assert_ne!(order(1, 2), order(1, 3));
    }

    #[test]
    fn the_order_is_the_same_on_every_machine() {
        // By fixtures/orders/epoch_order.py.
        assert_eq!(epoch_order(0..10, 42, 0), [0, 5, 9, 3, 1, 8, 7, 2, 4, 6]);
    }

    #[test]
    fn positions_are_drawn_alike() {
        // 6,000 orders of five: each sample is first about 1,200 times; 5 deviations are 155.
        let mut first = [0_i32; 5];
        for epoch in 0..6000 {
            first[epoch_order(0..5, 7, epoch)[0]] += 1;
        }
        assert!(first.iter().all(|count| (count - 1200).abs() < 155), "{first:?}");
    }
}
