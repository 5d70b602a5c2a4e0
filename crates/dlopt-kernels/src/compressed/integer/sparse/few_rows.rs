//! Rows that are multiplied one by one, or some together.

/// Quantized rows, and where their sums go.
#[derive(Clone, Copy)]
pub(super) struct FewRows {
    pub(super) count: usize,
    /// Bytes of the first row, and how many there are from a row to the next.
    pub(super) x: *const u8,
    pub(super) step: usize,
    /// Sums of the first row, and how many there are from a row to the next.
    pub(super) sums: *mut i32,
    pub(super) sums_step: usize,
}

// SAFETY: threads write different outputs, and only read rows.
unsafe impl Send for FewRows {}
// SAFETY: as above.
unsafe impl Sync for FewRows {}

impl FewRows {
    /// The rows from one on.
    pub(super) fn from(self, row: usize) -> Self {
        Self {
            count: self.count - row,
            x: self.x.wrapping_add(row * self.step),
            sums: self.sums.wrapping_add(row * self.sums_step),
            ..self
        }
    }
}
