//! How often each weight occurs, in bounded memory and in no order: a histogram that is exact while it can be.
//!
//! Up to 2^14 distinct weights are kept as they are. Beyond, those that agree in sign, exponent and the first 9 bits of the
//! mantissa share a bin, which is at most 0.2 % of its weights wide and knows their exact mean: places within a bin are
//! integers, so sums do not depend on the order, nor on blocks and threads. Zero always has a bin of its own.

use std::collections::HashMap;

/// Distinct weights that are kept as they are.
const DISTINCT: usize = 1 << 14;
/// Bits of a weight's place in its bin.
const PLACE_BITS: u32 = 14;
/// Bins of a sign and an exponent.
const BINS: usize = 1 << (23 - PLACE_BITS);
/// Bins in all that are told apart; beyond, neighbours are taken together.
const POINTS: usize = 1 << 15;

/// Weights that count as one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Their mean.
    pub(super) value: f64,
    /// How many they are.
    pub(super) weight: f64,
}

/// Counts of weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    zeros: u64,
    /// How often each weight but zero occurs, by its key, while they are few.
    distinct: HashMap<u32, u64>,
    /// Bins of each sign and exponent, once weights are many.
    bins: Vec<Option<Box<[Bin; BINS]>>>,
}

/// Weights of a bin, and the sum of their places in it.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    count: u64,
    places: u64,
}

/// Numbers in the order of the floats.
fn key(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The float of a key.
fn value(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

impl Census {
    /// Counts weights. A NaN counts as 0, infinities not at all.
    pub(crate) fn count(&mut self, x: &[f32]) {
        for x in x {
            if *x == 0.0 || x.is_nan() {
                self.zeros += 1;
            } else if x.is_finite() {
                self.add(key(*x), 1);
            }
        }
    }

    /// Adds what another one counted.
    pub(crate) fn merge(&mut self, other: Self) {
        self.zeros += other.zeros;
        other.distinct.into_iter().for_each(|(key, count)| self.add(key, count));
        if other.bins.is_empty() {
            return;
        }
        self.coarsen();
        for (own, other) in self.bins.iter_mut().zip(other.bins) {
            let Some(other) = other else { continue };
            match own {
                None => *own = Some(other),
                Some(own) => own.iter_mut().zip(other.iter()).for_each(|(own, other)| {
                    own.count += other.count;
                    own.places += other.places;
                }),
            }
        }
    }

    fn add(&mut self, key: u32, count: u64) {
        if !self.bins.is_empty() {
            return self.add_to_bin(key, count);
        }
        *self.distinct.entry(key).or_insert(0) += count;
        if self.distinct.len() > DISTINCT {
            self.coarsen();
        }
    }

    fn add_to_bin(&mut self, key: u32, count: u64) {
        let bins = self.bins[(key >> 23) as usize].get_or_insert_with(|| Box::new([Bin::default(); BINS]));
        let bin = &mut bins[(key >> PLACE_BITS) as usize % BINS];
        bin.count += count;
        bin.places += count * u64::from(key & ((1 << PLACE_BITS) - 1));
    }

    /// Goes over to bins.
    fn coarsen(&mut self) {
        if self.bins.is_empty() {
            self.bins.resize(1 << 9, None);
            std::mem::take(&mut self.distinct).into_iter().for_each(|(key, count)| self.add_to_bin(key, count));
        }
    }

    /// What was counted, ascending. Zero is a point of its own, if there is one.
    pub(super) fn points(&self) -> Vec<Point> {
        let mut exact: Vec<(u32, u64)> = self.distinct.iter().map(|(key, count)| (*key, *count)).collect();
        exact.sort_unstable();
        let exact = exact.into_iter().map(|(key, count)| Point { value: f64::from(value(key)), weight: count as f64 });
        let mut points: Vec<Point> = exact.chain(self.binned()).collect();
        let middle = |points: &[Point]| points.partition_point(|p| p.value < 0.0);
        while points.len() > POINTS {
            let (below, above) = points.split_at(middle(&points));
            points = below.chunks(2).chain(above.chunks(2)).map(together).collect();
        }
        if self.zeros > 0 {
            points.insert(middle(&points), Point { value: 0.0, weight: self.zeros as f64 });
        }
        points
    }

    fn binned(&self) -> impl Iterator<Item = Point> + '_ {
        let pages = self.bins.iter().enumerate().filter_map(|(page, bins)| Some((page as u32, bins.as_ref()?)));
        pages.flat_map(|(page, bins)| {
            let filled = bins.iter().enumerate().filter(|(_, bin)| bin.count > 0);
            filled.map(move |(at, bin)| {
                let first = page << 23 | (at as u32) << PLACE_BITS;
                // Within a page values are evenly spaced.
                let (first, next) = (f64::from(value(first)), f64::from(value(first + 1)));
                let mean = bin.places as f64 / bin.count as f64;
                Point { value: first + mean * (next - first), weight: bin.count as f64 }
            })
        })
    }
}

fn together(points: &[Point]) -> Point {
    let weight: f64 = points.iter().map(|p| p.weight).sum();
    Point { value: points.iter().map(|p| p.value * p.weight).sum::<f64>() / weight, weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 % len) as f32 - len as f32 / 2.0) * 1.7e-5).collect()
    }

    #[test]
    fn keys_are_in_the_order_of_the_floats() {
        let x = [f32::MIN, -1.5, -1e-40, -0.0, 0.0, 1e-40, 1.0, 1.0000001, f32::MAX];
        assert!(x.windows(2).all(|x| key(x[0]) <= key(x[1])));
        assert!(x.iter().all(|x| value(key(*x)).to_bits() == x.to_bits()));
    }

    #[test]
    fn few_distinct_weights_are_kept_as_they_are() {
        let mut census = Census::default();
        census.count(&[2.0, -1.0, 2.0, 0.0, f32::NAN, f32::INFINITY]);
        let points = [(-1.0, 1.0), (0.0, 2.0), (2.0, 2.0)].map(|(value, weight)| Point { value, weight });
        assert_eq!(census.points(), points);
    }

    #[test]
    fn many_weights_share_narrow_bins_that_know_their_mean() {
        let x = many(100_003);
        let mut census = Census::default();
        census.count(&x);
        let points = census.points();
        assert!(points.len() < x.len() / 4, "{}", points.len());
        let (sum, weight) = points.iter().fold((0.0, 0.0), |(s, w), p| (s + p.value * p.weight, w + p.weight));
        let exact: f64 = x.iter().map(|x| f64::from(*x)).sum();
        assert!(weight == 100_003.0 && (sum - exact).abs() < 1e-6, "{sum} {exact}");
        assert!(points.windows(2).all(|p| p[0].value < p[1].value));
    }

    #[test]
    fn pieces_come_to_the_same_in_any_order() {
        let x = many(30_011);
        let mut whole = Census::default();
        whole.count(&x);
        for piece in [1009, 14_000, 20_000] {
            let mut merged = Census::default();
            for x in x.chunks(piece).rev() {
                let mut census = Census::default();
                census.count(x);
                merged.merge(census);
            }
            assert_eq!(merged.points(), whole.points());
        }
    }

    #[test]
    fn weights_of_every_exponent_are_taken_together() {
        let x: Vec<f32> = (0..1 << 17).map(|i| value(0x0080_0000 + i * 0x7e00)).filter(|x| x.is_finite()).collect();
        let mut census = Census::default();
        census.count(&x);
        let points = census.points();
        assert!(points.len() <= POINTS + 1 && points.len() > POINTS / 4, "{}", points.len());
    }
}
