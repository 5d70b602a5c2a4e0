//! A convolution whose weight stays compressed, for inference, with a ReLU and a 2x2 max pool behind it where the plan has
//! them in a row.

use std::ops::Range;
use std::sync::Arc;

use dlopt_kernels::compressed::Maps;

use super::layer::{Backward, Forward, Layer, forward_chunk};
use super::values::{Memory, Values};
use crate::plan::Node;

/// Images a task holds at most: those that sparse weights take abreast.
const IMAGES_PER_TASK: usize = 16;

pub(crate) struct HeldConvolutionLayer {
    pub(crate) weight: Arc<dyn Maps>,
    pub(crate) bias: Option<Range<usize>>,
    /// Its node, when it goes over series.
    pub(crate) over_series: Option<Node>,
}

impl Layer for HeldConvolutionLayer {
    fn forward(&mut self, run: &mut Forward<'_>, x: Values) -> Values {
        assert!(!run.trains(), "a weight that stays compressed is not trained");
        let (inputs, outputs) = (self.weight.shape().input_len(), self.weight.output_len());
        let mut out = run.memory.take(run.samples * outputs);
        let bias = self.bias.clone().map(|bias| &run.weights[bias]);
        let chunk = forward_chunk(run.samples, run.team, IMAGES_PER_TASK);
        run.team.chunks(&mut out, chunk * outputs, |index, out| {
            let images = out.len() / outputs;
            self.weight.forward(images, &x[index * chunk * inputs..][..images * inputs], bias, out);
        });
        if let Some(node) = &self.over_series {
            run.passed(node);
        }
        run.memory.release(x);
        Arc::new(out)
    }

    fn backward(&mut self, _: &mut Backward<'_>, _: Vec<f32>, _: bool) -> Option<Vec<f32>> {
        unreachable!("the forward pass refuses to train")
    }

    fn forget(&mut self, _: &mut Memory) {}
}
