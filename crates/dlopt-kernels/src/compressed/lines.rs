//! Memory from the beginning of a cache line on: what a packed matrix holds, in large pages where the system has them, and scratch.

use crate::nn::scratch::with_scratch;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// A fixed run of bytes, 0 at first.
#[derive(Clone, Debug)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    /// At least `len` bytes.
    pub(super) fn new(len: usize) -> Self {
        let mut lines = Vec::with_capacity(len.div_ceil(LINE));
        ask_for_large_pages(lines.as_mut_ptr(), lines.capacity());
        lines.resize(len.div_ceil(LINE), Line([0; LINE]));
        Self(lines)
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

/// As [`with_scratch`], beginning on a line: a load that crosses two costs as much as two.
pub(super) fn with_lines<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    with_scratch(len + 15, |values| {
        let first = values.as_ptr().align_offset(64).min(15);
        work(&mut values[first..first + len])
    })
}

/// Calls `work` with the beginning of `len` bytes of any value, at the beginning of a cache line; calls may nest.
pub(super) fn with_bytes<R>(len: usize, work: impl FnOnce(*mut u8) -> R) -> R {
    with_scratch((len + LINE).div_ceil(4), |floats| {
        let start = floats.as_mut_ptr().cast::<u8>();
        work(start.wrapping_add(start.align_offset(LINE)))
    })
}

/// Asks for those large pages that lie wholly within new memory: a product reads all of it once, and with pages of 4 KiB much of
/// that time goes into finding them. Nothing depends on whether they are given.
#[cfg(target_os = "linux")]
fn ask_for_large_pages(lines: *mut Line, len: usize) {
    /// Bytes of a large page of x86-64 and, most often, aarch64.
    const PAGE: usize = 2 << 20;
    let first = lines.addr().next_multiple_of(PAGE);
    let bytes = (lines.addr() + len * LINE).saturating_sub(first) / PAGE * PAGE;
    if bytes > 0 {
        // SAFETY: the pages lie within an allocation that is ours; the call changes no byte of them.
        unsafe { libc::madvise(lines.with_addr(first).cast(), bytes, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages(_: *mut Line, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_length_begin_at_a_line_and_are_zero() {
        for len in [0, 1, 64, 65, 5 << 20] {
            let mut lines = Lines::new(len);
            assert!(lines.bytes().len() >= len && lines.bytes().as_ptr().addr().is_multiple_of(LINE));
            assert!(lines.bytes().iter().all(|&byte| byte == 0));
            lines.bytes_mut().fill(7);
            assert!(lines.clone().bytes().iter().all(|&byte| byte == 7));
        }
    }
}
