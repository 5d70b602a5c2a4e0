//! Activations in flight, and the memory they leave behind for the next ones.

use std::sync::Arc;

/// The values of a batch between two layers. Whoever needs them in the backward pass keeps a clone.
pub(crate) type Values = Arc<Vec<f32>>;

/// Vectors that are not in use. A step takes what the step before gave back, so the allocator and its page faults stay
/// out of the loop.
#[derive(Default)]
pub(crate) struct Memory {
    free: Vec<Vec<f32>>,
}

impl Memory {
    /// A vector of `len` values, whatever they are.
    pub(crate) fn take(&mut self, len: usize) -> Vec<f32> {
        let fitting = |v: &Vec<f32>| v.capacity() >= len && v.capacity() <= 2 * len.max(64);
        let best = (0..self.free.len()).filter(|&i| fitting(&self.free[i])).min_by_key(|&i| self.free[i].capacity());
        let mut values = best.map_or_else(|| Vec::with_capacity(len), |i| self.free.swap_remove(i));
        values.resize(len, 0.0);
        values
    }

    /// A vector of `len` zeros.
    pub(crate) fn zeros(&mut self, len: usize) -> Vec<f32> {
        let mut values = self.take(len);
        values.fill(0.0);
        values
    }

    /// Takes a vector back.
    pub(crate) fn give(&mut self, values: Vec<f32>) {
        // What a batch of another size left behind goes first.
        if self.free.len() >= 64 {
            self.free.remove(0);
        }
        self.free.push(values);
    }

    /// Takes values back if nobody else holds them.
    pub(crate) fn release(&mut self, values: Values) {
        if let Some(values) = Arc::into_inner(values) {
            self.give(values);
        }
    }
}
