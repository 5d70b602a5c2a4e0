//! Random draws that depend on what they are for, and on nothing else.
//!
//! Draw `n` of a key `k` is `mix(k + (n + 1) * golden)`, the output of SplitMix64 (Steele, Lea and Flood, 2014); the key
//! itself is mixed of the seed, the round, the sample and the place of the operation.

use crate::normal::{BITS, NORMAL};
use crate::range::Range;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// What the draws of a sample are keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of the command.
    pub seed: u64,
    /// Which copy of the sample, or in which epoch.
    pub round: u64,
    /// Which sample of the dataset.
    pub sample: u64,
}

/// Draws for one operation on one sample.
#[derive(Clone, Debug)]
pub struct Draws {
    key: u64,
    counter: u64,
}

impl Draws {
    /// The draws of the operation that stands at `place` in the recipe.
    pub fn new(key: Key, place: u64) -> Self {
        let all = [key.round, key.sample, place];
        let key = all.iter().fold(mix(key.seed ^ GOLDEN), |key, part| mix(key.wrapping_mul(GOLDEN) ^ part));
        Self { key, counter: 0 }
    }

    /// Draws of their own for the part `number` of an operation that is made of others.
    pub fn part(&self, number: u64) -> Self {
        Self { key: mix(self.key ^ (number + 1).wrapping_mul(GOLDEN)), counter: 0 }
    }

    /// 64 bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(GOLDEN);
        mix(self.key.wrapping_add(self.counter))
    }

    /// A number from 0 to below 1, of 24 bits.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// A number of the range, all alike; nothing is drawn of a single value.
    pub fn of(&mut self, range: Range) -> f32 {
        if range.is_fixed() {
            return range.low;
        }
        (range.low + (range.high - range.low) * self.unit()).clamp(range.low, range.high)
    }

    /// A whole number below `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// True with a probability in 0..=1.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// 1 or -1.
    pub fn sign(&mut self) -> f32 {
        if self.bits() >> 63 == 0 { 1.0 } else { -1.0 }
    }

    /// A normal number of mean 0 and deviation 1.
    pub fn normal(&mut self) -> f32 {
        NORMAL[(self.bits() >> (64 - BITS)) as usize]
    }

    /// Fills a slice with normal numbers of mean 0 and deviation 1, five of each draw.
    pub fn normals(&mut self, out: &mut [f32]) {
        let table = &**NORMAL;
        let mask = table.len() - 1;
        let (fives, rest) = out.as_chunks_mut::<5>();
        for five in fives {
            let bits = self.bits();
            for (place, out) in five.iter_mut().enumerate() {
                *out = table[(bits >> (64 - BITS as usize * (place + 1))) as usize & mask];
            }
        }
        if !rest.is_empty() {
            let bits = self.bits();
            for (place, out) in rest.iter_mut().enumerate() {
                *out = table[(bits >> (64 - BITS as usize * (place + 1))) as usize & mask];
            }
        }
    }

    /// Puts the items into an order of which all are alike (Durstenfeld, 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, round: u64, sample: u64, place: u64) -> Draws {
        Draws::new(Key { seed, round, sample }, place)
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let first = |a, b, c, d| draws(a, b, c, d).bits();
        let all = [first(1, 0, 0, 0), first(0, 1, 0, 0), first(0, 0, 1, 0), first(0, 0, 0, 1), first(0, 0, 0, 0)];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[place + 1..].contains(one));
        }
        assert_eq!(first(3, 2, 1, 0), first(3, 2, 1, 0));
        assert_ne!(draws(0, 0, 0, 0).part(0).bits(), draws(0, 0, 0, 0).part(1).bits());
    }

    #[test]
    fn numbers_have_their_mean_and_deviation() {
        let mut all = vec![0.0; 100_003];
        draws(1, 2, 3, 4).normals(&mut all);
        let mean = all.iter().sum::<f32>() / all.len() as f32;
        let square = all.iter().map(|x| x * x).sum::<f32>() / all.len() as f32;
        // Five deviations of the mean, and of the mean square.
        assert!(mean.abs() < 0.016 && (square - 1.0).abs() < 0.023, "{mean} {square}");
        let mut units = draws(5, 0, 0, 0);
        let mean = (0..100_000).map(|_| units.of(Range::new(2.0, 4.0))).sum::<f32>() / 100_000.0;
        assert!((mean - 3.0).abs() < 0.01, "{mean}");
        let mut counts = [0_i32; 5];
        (0..5000).for_each(|_| counts[units.below(5)] += 1);
        assert!(counts.iter().all(|count| (count - 1000).abs() < 142), "{counts:?}");
    }
}
