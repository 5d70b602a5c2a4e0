//! Bytes at the beginning of a cache line: packed codes, and scratch.

use crate::nn::scratch::with_scratch;

/// Bytes of a cache line.
const LINE: usize = 64;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
#[allow(dead_code, reason = "read as bytes")]
struct Line([u8; LINE]);

/// Bytes that begin with a cache line.
#[derive(Debug)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    /// At least `len` bytes of `fill`.
    pub(super) fn new(len: usize, fill: u8) -> Self {
        Self(vec![Line([fill; LINE]); len.div_ceil(LINE)])
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: a line is `LINE` bytes without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), LINE * self.0.len()) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and any byte is one of a line.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), LINE * self.0.len()) }
    }
}

/// Calls `work` with the beginning of `len` bytes of any value, at the beginning of a cache line; calls may nest.
pub(super) fn with_bytes<R>(len: usize, work: impl FnOnce(*mut u8) -> R) -> R {
    with_scratch((len + LINE).div_ceil(4), |floats| {
        let start = floats.as_mut_ptr().cast::<u8>();
        work(start.wrapping_add(start.align_offset(LINE)))
    })
}
