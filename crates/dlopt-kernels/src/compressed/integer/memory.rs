//! Scratch at the beginning of a cache line.

use crate::compressed::lines::LINE;
use crate::nn::scratch::with_scratch;

/// Calls `work` with the beginning of `len` bytes of any value, at the beginning of a cache line; calls may nest.
pub(super) fn with_bytes<R>(len: usize, work: impl FnOnce(*mut u8) -> R) -> R {
    with_scratch((len + LINE).div_ceil(4), |floats| {
        let start = floats.as_mut_ptr().cast::<u8>();
        work(start.wrapping_add(start.align_offset(LINE)))
    })
}
