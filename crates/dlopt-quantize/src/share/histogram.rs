//! The weights of a tensor in 65,536 bins, which merge exactly in any order.
//!
//! A bin is what has the same sign, exponent and seven first mantissa bits, so it is at most 1/128 of its value wide. It keeps
//! how many weights it holds and the sum of their other sixteen bits: the mean of a bin is exact.

use super::kmeans::Point;

const BINS: usize = 1 << 16;
/// Bits of an `f32` behind those of a bin.
const LOW: u32 = 16;
/// What stands for the numbers whose exponent bits are all 0: they count as zeros.
const TINY: u32 = f32::MIN_POSITIVE.to_bits() >> LOW;

/// Counts of weights.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    low: Vec<u64>,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BINS], low: vec![0; BINS] }
    }

    /// Adds finite weights.
    pub(crate) fn add(&mut self, x: &[f32]) {
        for x in x {
            let bits = x.to_bits();
            let bin = (bits >> LOW) as usize;
            self.counts[bin] += 1;
            self.low[bin] += u64::from(bits & 0xffff);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(to, from)| *to += from);
        self.low.iter_mut().zip(&other.low).for_each(|(to, from)| *to += from);
    }

    /// Zeros, and the bins of all others in ascending order.
    pub(crate) fn points(&self) -> (u64, Vec<Point>) {
        let is_tiny = |bin: usize| (bin as u32 & 0x7fff) < TINY;
        let zeros = (0..BINS).filter(|bin| is_tiny(*bin)).map(|bin| self.counts[bin]).sum();
        let point = |bin: usize| {
            let weight = self.counts[bin] as f64;
            let first = f64::from(f32::from_bits((bin as u32) << LOW));
            let step = f64::from(f32::from_bits((bin as u32) << LOW | 1)) - first;
            Point { value: first + step * (self.low[bin] as f64 / weight), weight }
        };
        let used = |bin: &usize| self.counts[*bin] > 0 && !is_tiny(*bin);
        let negative = (BINS / 2..BINS).rev().filter(used).map(point);
        (zeros, negative.chain((0..BINS / 2).filter(used).map(point)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_ascend_and_their_means_are_exact() {
        let x = [-3.0, -1.0, -1.001, 0.0, -0.0, 1e-40, 2.5, 2.500_001, 700.0];
        let mut halves = [Histogram::new(), Histogram::new()];
        halves[0].add(&x[..4]);
        halves[1].add(&x[4..]);
        let [mut all, other] = halves;
        all.merge(&other);
        let (zeros, points) = all.points();
        assert_eq!(zeros, 3);
        let means = [-3.0, f64::from(-1.0_f32 - 1.001), (2.5 + f64::from(2.500_001_f32)) / 2.0, 700.0];
        assert_eq!(points.iter().map(|p| p.weight).collect::<Vec<_>>(), [1.0, 2.0, 2.0, 1.0]);
        assert!((points[1].value * 2.0 - means[1]).abs() < 1e-6 && points[0].value == means[0]);
        assert!((points[2].value - means[2]).abs() < 1e-12 && points[3].value == means[3]);
    }
}
