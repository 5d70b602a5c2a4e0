//! From which sparsity on sparse kernels of bytes are faster than the dense one.

use super::set::Set;
use crate::compressed::sparse::Use;

/// The sparsity at which [`super::SparseInt8Matrix`] begins to win against [`crate::compressed::Int8Matrix`].
pub(super) fn least_sparsity(set: Set, purpose: Use) -> f64 {
    match (set, purpose) {
        (Set::Vbmi, Use::OneRow | Use::Both) => 0.55,
        (Set::Vbmi | Set::Vnni, _) => 0.6,
        (Set::Avx2, _) => 0.7,
        (Set::Portable, _) => 0.7,
    }
}
