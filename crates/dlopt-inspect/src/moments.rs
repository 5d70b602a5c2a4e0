//! Mean and variance of many values, without losing digits when the mean is far from zero.
//!
//! Each chunk of 4096 values is summed around its own mean; chunks are joined in order (Chan, Golub & LeVeque, 1979).

use dlopt_kernels::BLOCK;

/// Range, mean and spread of values; NaN and infinities are counted and left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
    /// Sum of squared distances from the mean.
    pub(crate) squares: f64,
    pub(crate) zeros: u64,
    pub(crate) nans: u64,
    pub(crate) infinities: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            mean: 0.0,
            squares: 0.0,
            zeros: 0,
            nans: 0,
            infinities: 0,
        }
    }
}

impl Spread {
    /// Adds what comes after.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.zeros += other.zeros;
        self.nans += other.nans;
        self.infinities += other.infinities;
        if other.count == 0 {
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        self.count += other.count;
        self.mean += apart * (b / (a + b));
        self.squares += other.squares + apart * apart * (a * b / (a + b));
    }

    /// Looks at floats of at most 32 bits.
    pub(crate) fn of_single(values: &[f32]) -> Self {
        let mut all = Self::default();
        let mut centred = [0.0f32; BLOCK];
        for chunk in values.chunks(BLOCK) {
            let sums = dlopt_kernels::moments(chunk);
            let count = chunk.len() as u64 - sums.nans - sums.infinities;
            let mean = if count == 0 { 0.0 } else { sums.sum / count as f64 };
            // Sums of numbers near the end of the range overflow f32: those are done in f64.
            if !(mean.is_finite() && sums.sum2.is_finite()) {
                let chunk: Vec<f64> = chunk.iter().map(|&x| f64::from(x)).collect();
                all.merge(&Self::of_chunk(&chunk));
                continue;
            }
            let shift = mean as f32;
            let centred = &mut centred[..chunk.len()];
            for (c, x) in centred.iter_mut().zip(chunk) {
                *c = x - shift;
            }
            let around = dlopt_kernels::moments(centred);
            let n = count.max(1) as f64;
            all.merge(&Self {
                count,
                min: f64::from(sums.min),
                max: f64::from(sums.max),
                mean: f64::from(shift) + around.sum / n,
                squares: (around.sum2 - around.sum * around.sum / n).max(0.0),
                zeros: sums.zeros,
                nans: sums.nans,
                infinities: sums.infinities,
            });
        }
        all
    }

    /// Looks at doubles.
    pub(crate) fn of_double(values: &[f64]) -> Self {
        let mut all = Self::default();
        for chunk in values.chunks(BLOCK) {
            all.merge(&Self::of_chunk(chunk));
        }
        all
    }

    fn of_chunk(values: &[f64]) -> Self {
        let mut all = Self::default();
        let mut sum = 0.0;
        for &x in values {
            all.zeros += u64::from(x == 0.0);
            all.nans += u64::from(x.is_nan());
            all.infinities += u64::from(x.is_infinite());
            if x.is_finite() {
                all.count += 1;
                all.min = all.min.min(x);
                all.max = all.max.max(x);
                sum += x;
            }
        }
        if all.count > 0 {
            all.mean = sum / all.count as f64;
            all.squares = values.iter().filter(|x| x.is_finite()).map(|x| (x - all.mean) * (x - all.mean)).sum::<f64>();
        }
        all
    }

    /// Standard deviation over all values (not the sample's).
    pub(crate) fn standard_deviation(&self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_textbook_on_a_small_set() {
        let spread = Spread::of_single(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0, f32::NAN, f32::INFINITY, 0.0]);
        assert_eq!((spread.count, spread.zeros, spread.nans, spread.infinities), (9, 1, 1, 1));
        assert_eq!((spread.min, spread.max), (0.0, 9.0));
        assert!((spread.mean - 40.0 / 9.0).abs() < 1e-6);
    }

    #[test]
    fn a_mean_far_from_zero_leaves_the_deviation_exact() {
        // 1 ± 2^-12: exact in f32, deviation exactly 2^-12.
        let step = 2f32.powi(-12);
        let values: Vec<f32> = (0..20_000).map(|i| if i % 2 == 0 { 1.0 + step } else { 1.0 - step }).collect();
        let spread = Spread::of_single(&values);
        assert_eq!(spread.mean, 1.0);
        assert!((spread.standard_deviation() - f64::from(step)).abs() < 1e-12);
    }

    #[test]
    fn numbers_near_the_end_of_the_range_do_not_overflow() {
        let spread = Spread::of_single(&[f32::MAX, f32::MAX, -f32::MAX, -f32::MAX]);
        assert_eq!(spread.mean, 0.0);
        assert_eq!(spread.standard_deviation(), f64::from(f32::MAX));
    }

    #[test]
    fn singles_and_doubles_agree() {
        let values: Vec<f32> = (0..10_000).map(|i| (i as f32 * 0.37).sin()).collect();
        let doubles: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        let (a, b) = (Spread::of_single(&values), Spread::of_double(&doubles));
        assert!((a.mean - b.mean).abs() < 1e-7 && (a.standard_deviation() - b.standard_deviation()).abs() < 1e-6);
        assert_eq!(Spread::of_double(&[]), Spread::default());
    }
}
