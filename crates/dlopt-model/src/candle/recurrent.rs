//! Recurrent layers, step by step.

use candle_core::{DType, Result, Tensor};

use super::functions::{mask, sigmoid};
use crate::plan::{Direction, RecurrentKind};

/// One recurrent layer.
pub(super) struct Layer {
    pub(super) kind: RecurrentKind,
    pub(super) hidden: usize,
    pub(super) direction: Direction,
    pub(super) returns_sequence: bool,
}

impl Layer {
    /// `x` `[samples, time, inputs]`; weights of each direction: `[inputs + hidden, gates * hidden]` and a bias.
    pub(super) fn forward(&self, x: &Tensor, lengths: Option<&[u32]>, weights: &[Tensor]) -> Result<Tensor> {
        let reversed: &[bool] = if self.direction == Direction::Both { &[false, true] } else { &[false] };
        let ways = reversed.iter().zip(weights.chunks_exact(2));
        let outputs: Vec<Tensor> = ways
            .map(|(&is_reversed, own)| self.way(x, lengths, &own[0], &own[1], is_reversed))
            .collect::<Result<_>>()?;
        Tensor::cat(&outputs, outputs[0].rank() - 1)
    }

    fn way(
        &self,
        x: &Tensor,
        lengths: Option<&[u32]>,
        weight: &Tensor,
        bias: &Tensor,
        is_reversed: bool,
    ) -> Result<Tensor> {
        let (samples, time, inputs) = x.dims3()?;
        let rows = weight.dim(1)?;
        let of_inputs = weight.narrow(0, 0, inputs)?.contiguous()?;
        let of_state = weight.narrow(0, inputs, self.hidden)?.contiguous()?;
        let products = x.reshape((samples * time, inputs))?.contiguous()?.matmul(&of_inputs)?;
        let products = products.broadcast_add(&bias.narrow(0, 0, rows)?)?.reshape((samples, time, rows))?;
        let zeros = Tensor::zeros((samples, self.hidden), DType::F32, x.device())?;
        let (mut state, mut cell) = (zeros.clone(), zeros);
        let mut outputs = Vec::with_capacity(time);
        for count in 0..time {
            let step = if is_reversed { time - 1 - count } else { count };
            let inputs = products.narrow(1, step, 1)?.reshape((samples, rows))?;
            let of_state = state.matmul(&of_state)?;
            let (new_state, new_cell) = self.step(&inputs, &of_state, bias, &state, &cell)?;
            match lengths {
                None => {
                    (state, cell) = (new_state, new_cell);
                    outputs.push(state.clone());
                }
                Some(lengths) => {
                    let own = mask(lengths, step, x)?;
                    let other = (1.0 - &own)?;
                    let choose = |new: &Tensor, old: &Tensor| new.broadcast_mul(&own)? + old.broadcast_mul(&other)?;
                    outputs.push(new_state.broadcast_mul(&own)?);
                    (state, cell) = (choose(&new_state, &state)?, choose(&new_cell, &cell)?);
                }
            }
        }
        if !self.returns_sequence {
            return Ok(state);
        }
        if is_reversed {
            outputs.reverse();
        }
        Tensor::stack(&outputs, 1)
    }

    /// The state and the cell after a step; `inputs` holds the inputs' product and bias.
    fn step(
        &self,
        inputs: &Tensor,
        of_state: &Tensor,
        bias: &Tensor,
        state: &Tensor,
        cell: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let hidden = self.hidden;
        let part = |of: &Tensor, gate: usize| of.narrow(1, gate * hidden, hidden);
        match self.kind {
            RecurrentKind::Rnn => Ok(((inputs + of_state)?.tanh()?, cell.clone())),
            RecurrentKind::Lstm => {
                let sum = (inputs + of_state)?;
                let [i, f, g, o] = [part(&sum, 0)?, part(&sum, 1)?, part(&sum, 2)?, part(&sum, 3)?];
                let cell = ((sigmoid(&f)? * cell)? + (sigmoid(&i)? * g.tanh()?)?)?;
                Ok(((sigmoid(&o)? * cell.tanh()?)?, cell))
            }
            RecurrentKind::Gru => {
                let r = sigmoid(&(part(inputs, 0)? + part(of_state, 0)?)?)?;
                let z = sigmoid(&(part(inputs, 1)? + part(of_state, 1)?)?)?;
                // The state's own bias of the new value is the fourth piece.
                let of_state = part(of_state, 2)?.broadcast_add(&bias.narrow(0, 3 * hidden, hidden)?)?;
                let n = (part(inputs, 2)? + (r * of_state)?)?.tanh()?;
                Ok((((1.0 - &z)? * n)?.add(&(z * state)?)?, cell.clone()))
            }
        }
    }
}
