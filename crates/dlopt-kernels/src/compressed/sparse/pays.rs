//! From which sparsity on a sparse kernel is faster than the dense one.

use crate::level::Level;

/// What a sparse layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// A matrix times one row of activations, or a few.
    OneRow,
    /// A matrix times 32 rows or more.
    ManyRows,
    /// A convolution.
    Convolution,
}

/// The sparsity at which the sparse f32 kernel begins to win against [`crate::nn::Dense`] or [`crate::nn::Convolution`].
///
/// AVX2 (Zen 3, one thread, speed over dense; 4096 x 4096 from memory, 256 x 1152 and 128 x 3136 from the caches):
///
/// | | 30 % | 50 % | 60 % | 70 % | 80 % | 90 % | 95 % |
/// |---|---|---|---|---|---|---|---|
/// | one row, from memory | | 1.6 | | 2.4 | 3.2 to 3.6 | 5.6 to 7.3 | 9.4 to 11.7 |
/// | one row, from the caches | | 0.8 to 1.1 | 0.9 to 1.3 | 1.2 to 1.7 | 1.4 to 2.1 | 2.1 to 3.2 | 3.7 to 6 |
/// | 64 rows | 1.1 | 1.4 | | 1.8 to 2.1 | 2.5 to 3 | 4.2 to 4.9 | 6 to 7.5 |
/// | convolutions 3x3 and 1x1, 14 x 14 to 56 x 56 | | 0.7 to 1.1 | 0.9 to 1.4 | 1.2 to 1.6 | 1.5 to 2.5 | 2.4 to 4 | 3.1 to 6 |
///
/// The lower figures stem from a core that others used at the same time: the sparse kernels need its load units, the
/// dense one waits for its sums.
///
/// AVX-512 is taken from a study of other layouts on Zen 5 (one row 1.05 to 1.3 and 64 rows 1.1 at 50 %), its
/// convolutions and the portable kernels are set with a margin, unmeasured.
pub fn least_sparsity(level: Level, work: Work) -> f64 {
    match (level, work) {
        (Level::Avx2, Work::OneRow) => 0.6,
        (Level::Avx2, Work::ManyRows) => 0.35,
        (Level::Avx2, Work::Convolution) => 0.65,
        (Level::Avx512 | Level::Amx, Work::OneRow | Work::ManyRows) => 0.55,
        (Level::Avx512 | Level::Amx, Work::Convolution) => 0.7,
        (Level::Portable, _) => 0.5,
    }
}

/// Whether the sparse kernel is the faster one for weights of which the fraction `sparsity` is 0.
pub fn pays(level: Level, work: Work, sparsity: f64) -> bool {
    sparsity >= least_sparsity(level, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_weights_never_pay_and_very_sparse_ones_always_do() {
        for level in [Level::Portable, Level::Avx2, Level::Avx512, Level::Amx] {
            for work in [Work::OneRow, Work::ManyRows, Work::Convolution] {
                assert!(!pays(level, work, 0.2) && pays(level, work, 0.8), "{level:?}, {work:?}");
            }
        }
    }
}
