//! Sixteen-lane sums that give the same bits at every width of vector.

/// Lanes a sum is spread over, at every level.
pub const LANES: usize = 16;

/// Most elements added up in `f32` lanes before they go into an `f64` total.
pub const BLOCK: usize = 4096;

/// Sixteen `f32` values, one vector of AVX-512 or two of AVX2.
pub(crate) type Lanes = [f32; LANES];

/// `x` where it is finite, else +0.
#[inline(always)]
pub(crate) fn finite_or_zero(x: f32) -> f32 {
    if x.abs() < f32::INFINITY { x } else { 0.0 }
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
pub(crate) fn fold(mut lanes: Lanes, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of the lanes, by halves.
#[inline(always)]
pub(crate) fn total(lanes: Lanes) -> f64 {
    f64::from(fold(lanes, |a, b| a + b))
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
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    signal: Lanes,
    noise: Lanes,
    worst: Lanes,
    pending: usize,
    done: Stats,
}

impl Sums {
    #[inline(always)]
    pub(crate) fn new() -> Sums {
        Sums { signal: [0.0; LANES], noise: [0.0; LANES], worst: [0.0; LANES], pending: 0, done: Stats::default() }
    }

    /// Makes room for `len <= BLOCK` more elements in the lanes.
    #[inline(always)]
    pub(crate) fn expect(&mut self, len: usize) {
        if self.pending + len > BLOCK {
            self.flush();
        }
        self.pending += len;
    }

    /// Adds one element: the original `x` and what became of it.
    #[inline(always)]
    pub(crate) fn add(&mut self, lane: usize, x: f32, value: f32) {
        let is_finite = x.abs() < f32::INFINITY;
        let original = if is_finite { x } else { 0.0 };
        let error = if is_finite { x - value } else { 0.0 };
        self.signal[lane] += original * original;
        self.noise[lane] += error * error;
        self.worst[lane] = larger(error.abs(), self.worst[lane]);
    }

    #[inline(always)]
    fn flush(&mut self) {
        self.done.signal += total(self.signal);
        self.done.noise += total(self.noise);
        self.signal = [0.0; LANES];
        self.noise = [0.0; LANES];
        self.pending = 0;
    }

    #[inline(always)]
    pub(crate) fn finish(mut self) -> Stats {
        self.flush();
        self.done.max_error = fold(self.worst, larger);
        self.done
    }
}
