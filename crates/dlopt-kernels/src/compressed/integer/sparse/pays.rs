//! From which sparsity on sparse kernels of bytes are faster than the dense one.

use super::set::Set;
use crate::compressed::sparse::Use;

/// The sparsity at which [`super::SparseInt8Matrix`] begins to win against [`crate::compressed::Int8Matrix`].
///
/// Zen 4, one thread, speed over dense; 4096 x 4096 (one row: from memory), and 1536 x 384 from the caches:
///
/// | | 50 % | 60 % | 70 % | 80 % | 90 % | 95 % |
/// |---|---|---|---|---|---|---|
/// | VBMI, one row, from memory | 1.1 | 1.6 | 1.6 to 2.3 | 2.0 | 3.4 | 4.9 |
/// | VBMI, one row, from the caches | 1.0 | 1.3 | 1.5 | 1.9 | 2.9 | 3.7 |
/// | VBMI, 64 rows | 0.9 to 1.1 | 1.1 to 1.35 | 1.3 to 1.8 | 1.8 to 2.55 | 2.4 to 4.4 | 2.8 to 6.7 |
/// | AVX2, one row, from memory | 1.2 | 1.5 | 1.7 | 2.1 | 3.3 | 4.4 |
/// | AVX2, one row, from the caches | 0.7 | 0.8 | 1.0 | 1.3 | 2.0 | 2.7 |
/// | AVX2, 64 rows | 1.2 to 1.4 | 1.4 to 1.7 | 1.8 to 2.2 | 2.5 to 3.3 | 4.0 to 6.2 | 5.8 to 10.6 |
/// | portable, one row | 0.3 | 0.4 | 0.5 | 0.7 | 1.0 to 1.2 | 1.3 to 1.4 |
///
/// With VNNI alone one row has the kernel of AVX2 against the dense one of AVX-512.
pub(super) fn least_sparsity(set: Set, purpose: Use) -> f64 {
    match (set, purpose) {
        // From 0.55 on, and codes of 2:4.
        (Set::Vbmi | Set::Vnni, Use::ManyRows) => 0.5,
        (Set::Vbmi, Use::OneRow | Use::Both) => 0.55,
        (Set::Vnni, Use::OneRow | Use::Both) => 0.8,
        (Set::Avx2, Use::OneRow | Use::Both) => 0.65,
        (Set::Avx2, Use::ManyRows) => 0.45,
        (Set::Portable, _) => 0.92,
    }
}
