//! Maximum and average of windows, where the convolution before them could not do it in passing.

use std::sync::Arc;

use dlopt_kernels::nn::{PoolShape, average_pool, average_pool_gradient, max_pool, max_pool_gradient};

use super::layer::{Backward, Forward, Layer, forward_chunk};
use super::values::{Memory, Values};
use crate::plan::{Node, PoolKind};

const IMAGES_PER_TASK: usize = 8;

pub(crate) struct PoolLayer {
    kind: PoolKind,
    shape: PoolShape,
    inputs: usize,
    outputs: usize,
    /// Which cell of each window was the largest; kept from pass to pass.
    won: Vec<u16>,
    /// Its node, when it goes over series.
    over_series: Option<Node>,
}

impl PoolLayer {
    pub(crate) fn new(kind: PoolKind, shape: PoolShape, over_series: Option<Node>) -> Self {
        let inputs = shape.height * shape.width * shape.channels;
        let outputs = shape.out_height() * shape.out_width() * shape.channels;
        Self { kind, shape, inputs, outputs, won: Vec::new(), over_series }
    }
}

impl Layer for PoolLayer {
    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        let mut out = run.memory.take(run.samples * self.outputs);
        let chunk = forward_chunk(run.samples, run.team, IMAGES_PER_TASK);
        let won_len = if run.trains() && self.kind == PoolKind::Max { out.len() } else { 0 };
        if self.won.len() < won_len {
            self.won.resize(won_len, 0);
        }
        let mut won = self.won[..won_len].chunks_mut(chunk * self.outputs);
        let mut tasks: Vec<_> = out.chunks_mut(chunk * self.outputs).map(|out| (out, won.next())).collect();
        run.team.each(&mut tasks, |index, (out, won)| {
            let images = out.len() / self.outputs;
            let x = &x[index * chunk * self.inputs..][..images * self.inputs];
            match self.kind {
                PoolKind::Max => max_pool(&self.shape, images, x, out, won.as_deref_mut()),
                PoolKind::Average => average_pool(&self.shape, images, x, out),
            }
        });
        if let Some(node) = &self.over_series {
            run.passed(node);
        }
        run.memory.release(x);
        Arc::new(out)
    }

    fn backward(&mut self, run: &mut Backward<'_>, gradient: Vec<f32>, wants_input: bool) -> Option<Vec<f32>> {
        let dx = wants_input.then(|| {
            let mut dx = run.memory.take(run.samples * self.inputs);
            let chunk = forward_chunk(run.samples, run.team, IMAGES_PER_TASK);
            run.team.chunks(&mut dx, chunk * self.inputs, |index, dx| {
                let images = dx.len() / self.inputs;
                let maps = index * chunk * self.outputs..(index * chunk + images) * self.outputs;
                match self.kind {
                    PoolKind::Max => {
                        max_pool_gradient(&self.shape, images, &self.won[maps.clone()], &gradient[maps], dx);
                    }
                    PoolKind::Average => average_pool_gradient(&self.shape, images, &gradient[maps], dx),
                }
            });
            dx
        });
        run.memory.give(gradient);
        dx
    }

    fn forget(&mut self, _memory: &mut Memory) {}
}
