//! A dense layer whose weight stays compressed, for inference.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::compressed::Product;

use super::layer::{Backward, Forward, Layer};
use super::values::{Memory, Values};

pub(crate) struct HeldDenseLayer {
    pub(crate) weight: Arc<dyn Product>,
    pub(crate) bias: Option<Range<usize>>,
    pub(crate) relu: bool,
    /// Height, width and channels of a flattened picture whose values the weight expects channel by channel.
    pub(crate) by_channels: Option<[usize; 3]>,
}

impl Layer for HeldDenseLayer {
    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        assert!(!run.trains(), "a weight that stays compressed is not trained");
        let [outputs, inputs] = self.weight.extents();
        let rows = x.len() / inputs;
        let x = match self.by_channels {
            Some([height, width, channels]) => {
                let mut ordered = run.memory.take(x.len());
                run.team.chunks(&mut ordered, inputs, |row, ordered| {
                    let x = &x[row * inputs..][..inputs];
                    for (channel, plane) in ordered.chunks_exact_mut(height * width).enumerate() {
                        let own = x[channel..].iter().step_by(channels);
                        plane.iter_mut().zip(own).for_each(|(to, from)| *to = *from);
                    }
                });
                run.memory.release(x);
                Arc::new(ordered)
            }
            _ => x,
        };
        let mut out = run.memory.take(rows * outputs);
        let bias = self.bias.clone().map(|bias| &run.weights[bias]);
        self.weight.multiply(run.team, rows, &x, bias, self.relu, &mut out);
        run.memory.release(x);
        Arc::new(out)
    }

    fn backward(&mut self, _: &mut Backward<'_>, _: Vec<f32>, _: bool) -> Option<Vec<f32>> {
        unreachable!("the forward pass refuses to train")
    }

    fn forget(&mut self, _: &mut Memory) {}
}
