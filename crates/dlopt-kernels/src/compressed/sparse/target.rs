//! Where the results of a product go, shared by tasks that write different outputs of it.

/// Bias, scale and ReLU of outputs, and the place of their results.
///
/// `out[o] = max(0, bias[o] + sum)`, or `max(0, bias[o] + scale[o] * sum)` where values are codes. Without a scale the sum
/// begins at the bias, so that it is the one that a dense layer makes.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) scale: Option<&'a [f32]>,
    pub(super) relu: bool,
    out: *mut f32,
    len: usize,
}

// SAFETY: tasks write disjoint outputs through it; see `set`.
unsafe impl Sync for Target<'_> {}
// SAFETY: as above.
unsafe impl Send for Target<'_> {}

impl<'a> Target<'a> {
    pub(super) fn new(bias: Option<&'a [f32]>, scale: Option<&'a [f32]>, relu: bool, out: &'a mut [f32]) -> Self {
        Self { bias, scale, relu, out: out.as_mut_ptr(), len: out.len() }
    }

    /// The results from row `row` of `outputs` on.
    pub(super) fn rows(self, row: usize, outputs: usize) -> Self {
        assert!(row * outputs <= self.len, "row {row} of {outputs} outputs");
        // SAFETY: the row lies within the results, or begins at their end.
        Self { out: unsafe { self.out.add(row * outputs) }, len: self.len - row * outputs, ..self }
    }

    /// Where the results of `count` outputs of each of `rows` rows of `outputs` begin, the first being `first`.
    pub(super) fn place(&self, rows: usize, first: usize, count: usize, outputs: usize) -> *mut f32 {
        assert!(first + count <= outputs && rows * outputs <= self.len, "outputs {first} to {}", first + count);
        self.out.wrapping_add(first)
    }

    /// Whether every sum begins at 0.
    #[inline(always)]
    pub(super) fn starts_at_zero(&self) -> bool {
        self.bias.is_none() || self.scale.is_some()
    }

    /// Where results go that are the sums themselves, if they are: room for `outputs` of them.
    #[inline(always)]
    pub(super) fn sums(&self, outputs: usize) -> Option<*mut f32> {
        assert!(outputs <= self.len, "{outputs} outputs of {}", self.len);
        (self.scale.is_none() && !self.relu).then_some(self.out)
    }

    /// What the sum of an output begins at.
    #[inline(always)]
    pub(super) fn start(&self, output: usize) -> f32 {
        match self.bias {
            Some(bias) if self.scale.is_none() => bias[output],
            _ => 0.0,
        }
    }

    /// The result that follows from an output's sum.
    #[inline(always)]
    pub(super) fn finish(&self, output: usize, sum: f32) -> f32 {
        let value = match self.scale {
            Some(scale) => sum.mul_add(scale[output], self.bias.map_or(0.0, |bias| bias[output])),
            None => sum,
        };
        if !self.relu || value > 0.0 { value } else { 0.0 }
    }

    /// Writes a result.
    ///
    /// # Safety
    /// No other thread writes or reads the same place at the same time.
    #[inline(always)]
    pub(super) unsafe fn set(&self, place: usize, value: f32) {
        assert!(place < self.len, "place {place} of {}", self.len);
        // SAFETY: the place lies within the results; nobody else uses it, as the caller promises.
        unsafe { *self.out.add(place) = value }
    }
}
