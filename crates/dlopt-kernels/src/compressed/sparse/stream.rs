//! Values that a kernel reads from front to back, on whole lines of the cache.

use std::marker::PhantomData;

use crate::compressed::lines::Lines;

/// A fixed run of values that begins on a line.
#[derive(Debug)]
pub(super) struct Stream<W> {
    lines: Lines,
    len: usize,
    values: PhantomData<W>,
}

impl<W: Copy> Stream<W> {
    pub(super) fn new(values: &[W]) -> Self {
        let bytes = size_of_val(values);
        let mut lines = Lines::new(bytes);
        // SAFETY: the lines hold at least as many bytes, at their alignment or a larger one.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast(), lines.bytes_mut().as_mut_ptr(), bytes) };
        Self { lines, len: values.len(), values: PhantomData }
    }

    pub(super) fn as_slice(&self) -> &[W] {
        // SAFETY: the lines hold `len` values, copied from a slice of them.
        unsafe { std::slice::from_raw_parts(self.lines.bytes().as_ptr().cast(), self.len) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.lines.bytes().len()
    }
}
