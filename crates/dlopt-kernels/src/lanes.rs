//! Sixteen-lane sums that give the same bits at every width of vector.

use crate::vector::{Vector, prefetch};

/// Lanes a sum is spread over, at every level.
pub const LANES: usize = 16;

/// Most elements added up in `f32` lanes before they go into an `f64` total.
pub const BLOCK: usize = 4096;

/// Sixteen `f32` values, one vector of AVX-512 or two of AVX2.
pub(crate) type Lanes = [f32; LANES];

/// Whether `x` is a number.
#[inline(always)]
pub(crate) fn is_finite(x: f32) -> bool {
    x.abs() < f32::INFINITY
}

/// The larger of two, the second where they do not compare.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller of two, the second where they do not compare.
#[inline(always)]
pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Folds lanes by halves: 16 to 8, to 4, to 2, to 1.
#[inline(always)]
pub(crate) fn fold(lanes: &Lanes, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut eight = [0.0; 8];
    for i in 0..8 {
        eight[i] = f(lanes[i], lanes[i + 8]);
    }
    let mut four = [0.0; 4];
    for i in 0..4 {
        four[i] = f(eight[i], eight[i + 4]);
    }
    f(f(four[0], four[2]), f(four[1], four[3]))
}

/// The sum of the lanes, by halves.
#[inline(always)]
pub(crate) fn total<V: Vector>(lanes: V) -> f64 {
    f64::from(fold(&lanes.store(), |a, b| a + b))
}

/// Elements worked on at a time: what is kept of them stays in the nearest cache.
pub(crate) const TILE: usize = 256;

/// A value for each element of a tile, laid out in lanes.
pub(crate) struct Tile([f32; TILE]);

impl Tile {
    #[inline(always)]
    pub(crate) fn new() -> Tile {
        Tile([0.0; TILE])
    }

    /// Room for `len <= TILE` values; their last row of lanes is filled with `padding`.
    #[inline(always)]
    pub(crate) fn room(&mut self, len: usize, padding: f32) -> &mut [f32] {
        let padded = len.next_multiple_of(LANES);
        for x in &mut self.0[len..padded] {
            *x = padding;
        }
        &mut self.0[..len]
    }

    /// The rows of lanes that `len` values take.
    #[inline(always)]
    pub(crate) fn rows(&self, len: usize) -> &[Lanes] {
        self.0[..len.next_multiple_of(LANES)].as_chunks().0
    }
}

/// Asks for what lies `ahead` elements past these rows.
///
/// Rows of a matrix follow each other in memory: while one is computed on, the next
/// arrives. Of long slices the hardware sees the stream itself.
#[inline(always)]
pub(crate) fn prefetch_ahead(rows: &[Lanes], ahead: usize) {
    if ahead <= 16384 {
        for row in rows {
            prefetch(row.as_ptr().wrapping_add(ahead).cast());
        }
    }
}

/// Whether every lane, none of them negative, is finite.
#[inline(always)]
pub(crate) fn all_finite<V: Vector>(lanes: V) -> bool {
    lanes.less(V::splat(f32::INFINITY)) == u16::MAX
}

/// How far a changed slice is from the original.
///
/// `noise / signal` is the relative squared error; elements whose original is not
/// finite are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Sum of `x^2`.
    pub signal: f64,
    /// Sum of `(x - x')^2`.
    pub noise: f64,
    /// Largest `|x - x'|`.
    pub max_error: f32,
}

impl Stats {
    /// Adds the figures of another slice.
    pub fn merge(&mut self, other: &Stats) {
        self.signal += other.signal;
        self.noise += other.noise;
        self.max_error = larger(other.max_error, self.max_error);
    }
}

/// [`Stats`] in the making.
pub(crate) struct Sums<V> {
    signal: V,
    noise: V,
    worst: V,
    pending: usize,
    done: Stats,
}

impl<V: Vector> Sums<V> {
    #[inline(always)]
    pub(crate) fn new() -> Sums<V> {
        Sums { signal: V::splat(0.0), noise: V::splat(0.0), worst: V::splat(0.0), pending: 0, done: Stats::default() }
    }

    /// Adds elements: what they were, and by how much they changed.
    ///
    /// Where a sum of squares is not finite they are left out when `only_finite`;
    /// says whether they were added.
    #[inline(always)]
    pub(crate) fn add(&mut self, originals: &[Lanes], errors: &[Lanes], only_finite: bool) -> bool {
        let (mut signal, mut noise) = (V::splat(0.0), V::splat(0.0));
        let mut worst = self.worst;
        for (x, error) in originals.iter().zip(errors) {
            let (x, error) = (V::load(x), V::load(error));
            signal = signal.add(x.mul(x));
            noise = noise.add(error.mul(error));
            worst = error.abs().larger(worst);
        }
        if only_finite && !all_finite(signal.add(noise)) {
            return false;
        }
        let len = originals.len() * LANES;
        if self.pending + len > BLOCK {
            self.flush();
        }
        self.pending += len;
        self.signal = self.signal.add(signal);
        self.noise = self.noise.add(noise);
        self.worst = worst;
        true
    }

    #[inline(always)]
    fn flush(&mut self) {
        self.done.signal += total(self.signal);
        self.done.noise += total(self.noise);
        self.signal = V::splat(0.0);
        self.noise = V::splat(0.0);
        self.pending = 0;
    }

    #[inline(always)]
    pub(crate) fn finish(mut self) -> Stats {
        self.flush();
        self.done.max_error = fold(&self.worst.store(), larger);
        self.done
    }
}
