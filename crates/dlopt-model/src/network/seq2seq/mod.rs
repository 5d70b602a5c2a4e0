//! An encoder reads tokens, a decoder puts out other ones: sequence to sequence (Sutskever et al., 2014,
//! arXiv:1409.3215; Cho et al., 2014, arXiv:1406.1078), with attention by dot products where the plan has it.
//!
//! The encoder's last state starts the decoder. While it is taught, the decoder reads the tokens that it should have put
//! out, so that both sides run fused over time. Only valid steps reach the last layers: their rows stand back to back,
//! and the outputs of steps after the end of a sequence are zeros.

mod attention;
mod side;
#[cfg(test)]
mod tests;
mod translate;

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::nn::{RecurrentShape, Team};

use super::Mode;
use super::activation::ActivationLayer;
use super::dense::DenseLayer;
use super::dropout::DropoutLayer;
use super::layer::{Backward, Forward, Layer, backward_through};
use super::values::{Memory, Values};
use crate::layout::cell;
use crate::plan::{Activation, Translation};
use attention::Spans;
use side::{Side, TokenRows};

pub use translate::{Decoding, Hypothesis, Translator};

pub(crate) struct Seq2seqLayer {
    plan: Translation,
    encoder: Side,
    decoder: Side,
    /// From the decoder's state, or what attention makes of it, to scores of tokens.
    last: Vec<Box<dyn Layer>>,
    /// Tells what is dropped here from what other layers drop.
    number: u64,
    is_trained: bool,
    kept: Option<Kept>,
}

/// What the way back needs beside what the parts keep.
struct Kept {
    /// Values of the input, and steps of the output.
    inputs: usize,
    width: usize,
    read: Vec<u32>,
    read_time: usize,
    /// Valid steps of each sample's decoder, and steps between two samples.
    steps: Vec<usize>,
    time: usize,
    attended: Option<Attended>,
}

/// What attention worked on.
struct Attended {
    encoder: Vec<f32>,
    decoder: Vec<f32>,
    shares: Vec<f32>,
}

impl Seq2seqLayer {
    /// Builds the layer; `slots` are those of its node. It drops values under the numbers `number..number + 3`.
    pub(crate) fn new(plan: &Translation, slots: &[Range<usize>], number: u64, is_trained: bool) -> Self {
        let hidden = plan.hidden;
        let shape = RecurrentShape { cell: cell(plan.kind), time: 1, inputs: plan.embedding, hidden };
        let dense = |extents: [usize; 2], slots: &[Range<usize>]| {
            Box::new(DenseLayer::new(extents, false, slots[0].clone(), Some(slots[1].clone()), is_trained))
        };
        let mut last: Vec<Box<dyn Layer>> = Vec::new();
        if plan.has_attention {
            last.push(dense([2 * hidden, hidden], &slots[6..8]));
            last.push(Box::new(ActivationLayer::new(Activation::Tanh, hidden)));
        }
        if plan.dropout > 0.0 {
            last.push(Box::new(DropoutLayer { rate: plan.dropout, number: number + 2, seed: 0 }));
        }
        last.push(dense([hidden, plan.outputs], &slots[slots.len() - 2..]));
        Self {
            encoder: Side::new(shape, plan.has_attention, &slots[..3], plan.dropout),
            decoder: Side::new(shape, true, &slots[3..6], plan.dropout),
            plan: plan.clone(),
            last,
            number,
            is_trained,
            kept: None,
        }
    }

    /// The samples of a batch as the encoder reads them.
    fn source(tokens: &[f32], samples: usize, lengths: Option<&[u32]>) -> TokenRows {
        let width = tokens.len() / samples.max(1);
        let lengths = lengths.map_or_else(|| vec![width as u32; samples], <[u32]>::to_vec);
        TokenRows::new(tokens.iter().copied(), width.max(1), lengths)
    }

    /// The seed of what one of the sides drops.
    fn seed(&self, mode: Mode, side: u64) -> u64 {
        match mode {
            Mode::Training { key } => key.wrapping_add((self.number + side).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            Mode::Inference => 0,
        }
    }

    /// Scores of tokens, `[rows, outputs]`, from the decoder's states of each sample's steps, which stand back to back.
    fn scores(
        &mut self,
        run: &mut Forward<'_>,
        spans: &Spans<'_>,
        encoder: &[f32],
        decoder: Vec<f32>,
    ) -> (Values, Option<[Vec<f32>; 2]>) {
        let mut attended = None;
        let first = if self.plan.has_attention {
            let mut shares = run.memory.take(spans.shares_len());
            let mut both = run.memory.take(2 * decoder.len());
            spans.forward(run.team, encoder, &decoder, &mut shares, &mut both);
            attended = Some([decoder, shares]);
            both
        } else {
            decoder
        };
        let mut x: Values = Arc::new(first);
        for layer in &mut self.last {
            x = layer.forward(run, x);
        }
        (x, attended)
    }
}

/// Copies the first `steps` rows of each sample of `[samples, time, width]` back to back.
fn gather(memory: &mut Memory, values: &[f32], steps: &[usize], time: usize, width: usize) -> Vec<f32> {
    let mut rows = memory.take(steps.iter().sum::<usize>() * width);
    let mut at = 0;
    for (sample, &steps) in values.chunks_exact((time * width).max(1)).zip(steps) {
        rows[at..at + steps * width].copy_from_slice(&sample[..steps * width]);
        at += steps * width;
    }
    rows
}

/// The inverse of [`gather`], zeros elsewhere.
fn scatter(memory: &mut Memory, rows: &[f32], steps: &[usize], time: usize, width: usize) -> Vec<f32> {
    let mut values = memory.zeros(steps.len() * time * width);
    let mut at = 0;
    for (sample, &steps) in values.chunks_exact_mut((time * width).max(1)).zip(steps) {
        sample[..steps * width].copy_from_slice(&rows[at..at + steps * width]);
        at += steps * width;
    }
    values
}

impl Layer for Seq2seqLayer {
    fn load(&mut self, team: &Team, weights: &[f32], trains: bool) {
        self.encoder.load(team, weights, trains);
        self.decoder.load(team, weights, trains);
        for layer in &mut self.last {
            layer.load(team, weights, trains);
        }
    }

    fn is_trained(&self) -> bool {
        self.is_trained
    }

    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let taught = run.decoder.expect("a batch with what the decoder reads");
        let (hidden, outputs) = (self.plan.hidden, self.plan.outputs);
        let width = taught.tokens.len() / run.samples.max(1);
        let source = Self::source(&x, run.samples, run.lengths.as_deref());
        let (read, read_time) = (source.lengths.clone(), source.time);
        let steps: Vec<usize> = taught.lengths.iter().map(|&length| length as usize).collect();
        assert_eq!(steps.len(), run.samples, "what the decoder reads is [samples, steps]");
        let target = TokenRows::new(taught.tokens.iter().map(|&token| token as f32), width, taught.lengths.to_vec());
        let time = target.time;
        let encoded = self.encoder.forward(run, source, None, self.seed(run.mode, 0));
        let decoded = self.decoder.forward(run, target, Some(&encoded.last), self.seed(run.mode, 1));
        let rows = gather(run.memory, &decoded.states, &steps, time, hidden);
        for used in [decoded.states, decoded.last, encoded.last] {
            run.memory.give(used);
        }
        let spans = Spans { hidden, read_time, read: &read, steps: &steps };
        let (scores, attended) = self.scores(run, &spans, &encoded.states, rows);
        let out = scatter(run.memory, &scores, &steps, width, outputs);
        run.memory.release(scores);
        let inputs = x.len();
        run.memory.release(x);
        if run.trains() {
            let encoder = encoded.states;
            let attended = attended.map(|[decoder, shares]| Attended { encoder, decoder, shares });
            self.kept = Some(Kept { inputs, width, read, read_time, steps, time, attended });
        }
        Arc::new(out)
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let Kept { inputs, width, read, read_time, steps, time, attended } =
            self.kept.take().expect("a training pass came before");
        let (hidden, outputs, samples) = (self.plan.hidden, self.plan.outputs, steps.len());
        let rows = gather(run.memory, &gradient, &steps, width, outputs);
        run.memory.give(gradient);
        let rows = backward_through(&mut self.last, run, rows, true).expect("the gradient of the input was asked for");
        let (rows, of_encoder) = match attended {
            None => (rows, run.memory.zeros(samples * hidden)),
            Some(Attended { encoder, decoder, shares }) => {
                let spans = Spans { hidden, read_time, read: &read, steps: &steps };
                let mut of_encoder = run.memory.zeros(encoder.len());
                let mut of_decoder = run.memory.take(decoder.len());
                spans.backward(run.team, &encoder, &decoder, &shares, &rows, &mut of_encoder, &mut of_decoder);
                for used in [rows, encoder, decoder, shares] {
                    run.memory.give(used);
                }
                (of_decoder, of_encoder)
            }
        };
        let of_states = scatter(run.memory, &rows, &steps, time, hidden);
        let of_first = self.decoder.backward(run, &of_states, None);
        self.encoder.backward(run, &of_encoder, of_first.as_deref());
        for used in [rows, of_encoder, of_states].into_iter().chain(of_first) {
            run.memory.give(used);
        }
        // Token numbers have no gradient; whoever asks for one gets zeros.
        wants_input.then(|| run.memory.zeros(inputs))
    }

    fn forget(&mut self, memory: &mut Memory) {
        self.encoder.forget(memory);
        self.decoder.forget(memory);
        for layer in &mut self.last {
            layer.forget(memory);
        }
        self.kept = None;
    }
}
