//! Weights of recurrent layers between PyTorch's layout, memory, and the packed blocks that the products read.

use super::product::{BLOCK, GROUP};
use super::{Cell, Recurrent};
use crate::nn::Team;

impl Recurrent {
    /// PyTorch's `w_ih` `[gates * hidden, inputs]`, `w_hh` `[gates * hidden, hidden]` and the two biases
    /// `[gates * hidden]` to memory.
    ///
    /// # Panics
    /// When a length disagrees.
    pub fn from_pytorch(
        &self,
        w_ih: &[f32],
        w_hh: &[f32],
        b_ih: &[f32],
        b_hh: &[f32],
        weight: &mut [f32],
        bias: &mut [f32],
    ) {
        let (inputs, hidden, n) = (self.shape.inputs, self.shape.hidden, self.columns());
        self.check_pytorch(w_ih.len(), w_hh.len(), b_ih.len(), b_hh.len(), weight.len(), bias.len());
        for (k, row) in weight.chunks_exact_mut(n).enumerate() {
            let (from, width, k) = if k < inputs { (w_ih, inputs, k) } else { (w_hh, hidden, k - inputs) };
            for (to, from) in row.iter_mut().zip(from[k..].iter().step_by(width)) {
                *to = *from;
            }
        }
        self.bias_from_pytorch(b_ih, b_hh, bias);
    }

    /// PyTorch's two biases, `[gates * hidden]` each, to memory.
    ///
    /// # Panics
    /// When a length disagrees.
    pub fn bias_from_pytorch(&self, b_ih: &[f32], b_hh: &[f32], bias: &mut [f32]) {
        let hidden = self.shape.hidden;
        assert_eq!((b_ih.len(), b_hh.len()), (self.columns(), self.columns()), "biases are [gates * hidden]");
        assert_eq!(bias.len(), self.bias_len(), "the length of the bias in memory");
        for (to, (a, b)) in bias.iter_mut().zip(b_ih.iter().zip(b_hh)) {
            *to = a + b;
        }
        if self.shape.cell == Cell::Gru {
            bias[2 * hidden..3 * hidden].copy_from_slice(&b_ih[2 * hidden..]);
            bias[3 * hidden..].copy_from_slice(&b_hh[2 * hidden..]);
        }
    }

    /// The inverse of [`Recurrent::from_pytorch`]. A bias that is only used as a sum comes back in `b_ih`, with zeros in
    /// `b_hh`.
    ///
    /// # Panics
    /// When a length disagrees.
    pub fn to_pytorch(
        &self,
        weight: &[f32],
        bias: &[f32],
        w_ih: &mut [f32],
        w_hh: &mut [f32],
        b_ih: &mut [f32],
        b_hh: &mut [f32],
    ) {
        let (inputs, hidden, n) = (self.shape.inputs, self.shape.hidden, self.columns());
        self.check_pytorch(w_ih.len(), w_hh.len(), b_ih.len(), b_hh.len(), weight.len(), bias.len());
        for (k, row) in weight.chunks_exact(n).enumerate() {
            let (to, width, k) = if k < inputs { (&mut *w_ih, inputs, k) } else { (&mut *w_hh, hidden, k - inputs) };
            for (from, to) in row.iter().zip(to[k..].iter_mut().step_by(width)) {
                *to = *from;
            }
        }
        b_ih.copy_from_slice(&bias[..n]);
        b_hh.fill(0.0);
        if self.shape.cell == Cell::Gru {
            b_hh[2 * hidden..].copy_from_slice(&bias[3 * hidden..]);
        }
    }

    fn check_pytorch(&self, w_ih: usize, w_hh: usize, b_ih: usize, b_hh: usize, weight: usize, bias: usize) {
        let n = self.columns();
        assert_eq!(w_ih, n * self.shape.inputs, "w_ih is [gates * hidden, inputs]");
        assert_eq!(w_hh, n * self.shape.hidden, "w_hh is [gates * hidden, hidden]");
        assert_eq!((b_ih, b_hh), (n, n), "biases are [gates * hidden]");
        assert_eq!((weight, bias), (self.weight_len(), self.bias_len()), "the lengths of weight and bias in memory");
    }

    /// Copies the weight to the blocks that [`Recurrent::forward`] reads.
    ///
    /// # Panics
    /// When `weight` is not of [`Recurrent::weight_len`].
    pub fn pack_forward(&self, team: &Team, weight: &[f32], packed: &mut Vec<f32>) {
        assert_eq!(weight.len(), self.weight_len(), "the length of the weight in memory");
        let (k, n) = (self.shape.inputs + self.shape.hidden, self.columns());
        let gates = self.shape.cell.gates();
        packed.resize(k * gates * self.units(), 0.0);
        let len = k * gates * self.block_units();
        team.chunks(packed, len, |block, packed| {
            let width = packed.len() / k;
            let unit = block * self.block_units();
            for (row, packed) in weight.chunks_exact(n).zip(packed.chunks_exact_mut(width)) {
                for (group, packed) in packed.chunks_exact_mut(GROUP).enumerate() {
                    let (gate, unit) = match self.shape.cell {
                        Cell::Rnn => (0, unit + group * GROUP),
                        _ => (group, unit),
                    };
                    let lanes = self.shape.hidden.saturating_sub(unit).min(GROUP);
                    packed[..lanes].copy_from_slice(&row[gate * self.shape.hidden + unit..][..lanes]);
                    packed[lanes..].fill(0.0);
                }
            }
        });
    }

    pub(super) fn packed_backward_len(&self) -> usize {
        let outputs = self.units() + self.shape.inputs.next_multiple_of(GROUP);
        self.runs(1).values() * outputs
    }

    /// Copies the weight, transposed, to the blocks that [`Recurrent::backward`] reads.
    ///
    /// # Panics
    /// When `weight` is not of [`Recurrent::weight_len`].
    pub fn pack_backward(&self, team: &Team, weight: &[f32], packed: &mut Vec<f32>) {
        assert_eq!(weight.len(), self.weight_len(), "the length of the weight in memory");
        packed.resize(self.packed_backward_len(), 0.0);
        let (inputs, hidden, n) = (self.shape.inputs, self.shape.hidden, self.columns());
        let values = self.runs(1).values();
        let (state, input) = packed.split_at_mut(values * self.units());
        for (packed, first, outputs, is_state) in [(state, inputs, hidden, true), (input, 0, inputs, false)] {
            team.chunks(packed, values * BLOCK, |block, packed| {
                let width = packed.len() / values;
                let mut packed = packed.chunks_exact_mut(width);
                for gates in 0..self.blocks() {
                    let columns = self.block_columns(gates, is_state);
                    for group in 0..columns.groups {
                        for lane in 0..GROUP {
                            let Some(to) = packed.next() else { return };
                            for (output, to) in (block * BLOCK..).zip(to) {
                                let exists = output < outputs && lane < columns.lanes[group];
                                let at = (first + output) * n + columns.at[group] + lane;
                                *to = if exists { weight[at] } else { 0.0 };
                            }
                        }
                    }
                }
            });
        }
    }
}
