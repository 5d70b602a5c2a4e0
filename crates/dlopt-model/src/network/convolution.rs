//! Convolution with bias, ReLU and a 2x2 max pool behind it where the plan has them in a row.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::nn::{Convolution, Team};

use super::layer::{Backward, Forward, Layer, add_sums, forward_chunk, sum_chunk};
use super::values::{Memory, Values};
use crate::plan::Node;

/// Images a forward task holds at most.
const IMAGES_PER_TASK: usize = 8;

pub(crate) struct ConvolutionLayer {
    kernel: Convolution,
    pools: bool,
    weight: Range<usize>,
    bias: Option<Range<usize>>,
    is_trained: bool,
    packed: Vec<f32>,
    packed_back: Vec<f32>,
    /// Which cell of each window won; kept from pass to pass.
    won: Vec<u8>,
    kept: Option<(Values, Values)>,
    /// Its node, when it goes over series.
    over_series: Option<Node>,
}

impl ConvolutionLayer {
    pub(crate) fn new(
        kernel: Convolution,
        pools: bool,
        weight: Range<usize>,
        bias: Option<Range<usize>>,
        is_trained: bool,
        over_series: Option<Node>,
    ) -> Self {
        Self {
            kernel,
            pools,
            weight,
            bias,
            is_trained,
            packed: Vec::new(),
            packed_back: Vec::new(),
            won: Vec::new(),
            kept: None,
            over_series,
        }
    }
}

impl Layer for ConvolutionLayer {
    fn load(&mut self, team: &Team, weights: &[f32], trains: bool) {
        let weight = &weights[self.weight.clone()];
        self.kernel.pack_forward(team, weight, &mut self.packed);
        if trains {
            self.kernel.pack_backward(team, weight, &mut self.packed_back);
        }
    }

    fn is_trained(&self) -> bool {
        self.is_trained
    }

    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let (inputs, outputs) = (self.kernel.shape().input_len(), self.kernel.output_len());
        let keeps = run.trains();
        let mut out = run.memory.take(run.samples * outputs);
        let won_len = if keeps && self.pools { out.len() } else { 0 };
        if self.won.len() < won_len {
            self.won.resize(won_len, 0);
        }
        let (kernel, packed) = (&self.kernel, &self.packed);
        let bias = self.bias.clone().map(|b| &run.weights[b]);
        let chunk = forward_chunk(run.samples, run.team, IMAGES_PER_TASK);
        let mut won = self.won[..won_len].chunks_mut(chunk * outputs);
        let mut tasks: Vec<_> = out.chunks_mut(chunk * outputs).map(|out| (out, won.next())).collect();
        run.team.each(&mut tasks, |index, (out, won)| {
            let images = out.len() / outputs;
            let x = &x[index * chunk * inputs..][..images * inputs];
            kernel.forward(images, x, packed, bias, out, won.as_deref_mut());
        });
        if let Some(node) = &self.over_series {
            run.passed(node);
        }
        let out = Arc::new(out);
        if keeps {
            self.kept = Some((x, Arc::clone(&out)))
        } else {
            run.memory.release(x)
        }
        out
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let (x, out) = self.kept.take().expect("a training pass came before");
        let (inputs, outputs) = (self.kernel.shape().input_len(), self.kernel.output_len());
        let (weights, biases) = (self.weight.len(), self.bias.as_ref().map_or(0, Range::len));
        let stride = weights + biases;
        let chunk = sum_chunk(run.samples, stride);
        let mut sums = run.memory.take(run.samples.div_ceil(chunk) * stride);
        let mut dx = wants_input.then(|| run.memory.take(x.len()));
        {
            let mut dx = dx.as_deref_mut().map(|dx| dx.chunks_mut(chunk * inputs));
            let mut tasks: Vec<_> =
                sums.chunks_mut(stride).map(|sums| (sums, dx.as_mut().and_then(Iterator::next))).collect();
            let packed = wants_input.then_some(&self.packed_back[..]);
            run.team.each(&mut tasks, |index, (sums, dx)| {
                sums.fill(0.0);
                let first = index * chunk;
                let images = chunk.min(run.samples - first);
                let maps = first * outputs..(first + images) * outputs;
                let won = if self.pools { &self.won[maps.clone()] } else { &[] };
                let (dw, db) = sums.split_at_mut(weights);
                self.kernel.backward(
                    images,
                    &x[first * inputs..][..images * inputs],
                    &out[maps.clone()],
                    won,
                    &gradient[maps],
                    packed,
                    dw,
                    (biases > 0).then_some(db),
                    dx.as_deref_mut(),
                );
            });
        }
        if self.is_trained {
            add_sums(run.team, &sums, stride, 0, &mut run.gradients[self.weight.clone()]);
            if let Some(bias) = &self.bias {
                add_sums(run.team, &sums, stride, weights, &mut run.gradients[bias.clone()]);
            }
        }
        run.memory.give(sums);
        run.memory.give(gradient);
        run.memory.release(out);
        run.memory.release(x);
        dx
    }

    fn forget(&mut self, memory: &mut Memory) {
        if let Some((x, out)) = self.kept.take() {
            memory.release(x);
            memory.release(out);
        }
    }
}
