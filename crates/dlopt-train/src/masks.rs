//! Masks: weights that are 0 in the beginning stay 0, so that training on recovers what pruning cost and keeps what it
//! won.
//!
//! ```text
//! g <- g * m,   w <- w * m,   m = (w of the beginning != 0)
//! ```
//! with the gradient `g` masked before it is clipped and used, so that momentum, second moments and the norm of all
//! gradients know nothing of weights that are gone, and `w` after every update. A running average of 0 is 0. Fixed-mask
//! training on after pruning by magnitude is of Han et al., 2015, arXiv:1506.02626. Masks of a pruned network on the weights that it
//! had early in its training make a lottery ticket (Frankle and Carbin, 2019, arXiv:1803.03635).

use std::ops::Range;

use dlopt_checkpoint::Result;
use dlopt_model::FlatLayout;
use sha2::{Digest, Sha256};

use crate::extension::{Extension, Moment};
use crate::trainer::is_weight;

/// Keeps the zeros of dense, convolutional and recurrent weights and of tables; biases and norms are free.
#[derive(Clone, Debug)]
pub struct Masks {
    /// All bits set where a value is trained, none where it stays 0; one for each trained value.
    keeps: Vec<u32>,
    zeros: usize,
    weights: usize,
}

impl Masks {
    /// The masks of the weights that training begins with, in the layout's order. A run that goes on has to be given the
    /// same ones: a weight may come through 0 on its way.
    pub fn of(layout: &FlatLayout, first: &[f32]) -> Self {
        let mut masks = Self { keeps: vec![u32::MAX; first.len()], zeros: 0, weights: 0 };
        for range in ranges_of_weights(layout) {
            masks.weights += range.len();
            for (keep, weight) in masks.keeps[range.clone()].iter_mut().zip(&first[range]) {
                if *weight == 0.0 {
                    *keep = 0;
                    masks.zeros += 1;
                }
            }
        }
        masks
    }

    /// The masks that [`Self::to_floats`] says.
    pub(crate) fn of_floats(layout: &FlatLayout, keeps: &[f32]) -> Self {
        let mut masks = Self::of(layout, keeps);
        masks.keeps.iter_mut().zip(keeps).filter(|(_, keep)| **keep == 0.0).for_each(|(own, _)| *own = 0);
        masks
    }

    /// Keeps what lies at these places 0 as well; only weights are counted, and those at 0 are known already.
    pub(crate) fn add(&mut self, places: &[usize]) {
        places.iter().for_each(|&place| self.keeps[place] = 0);
    }

    /// Weights that stay 0.
    pub fn zeros(&self) -> usize {
        self.zeros
    }

    /// Share of the weights that stay 0, 0..=1; biases and norms are not counted.
    pub fn sparsity(&self) -> f64 {
        self.zeros as f64 / self.weights.max(1) as f64
    }

    /// SHA-256 of which weights stay 0: part of what a resumed run must agree on.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        self.keeps.iter().for_each(|keep| digest.update([u8::from(*keep == 0)]));
        dlopt_checkpoint::hex(&digest.finalize())
    }

    /// 1 where a value is trained, 0 where it stays 0.
    pub(crate) fn to_floats(&self) -> Vec<f32> {
        self.keeps.iter().map(|&keep| if keep == 0 { 0.0 } else { 1.0 }).collect()
    }

    fn apply(&self, values: &mut [f32]) {
        // By bits: a NaN or an infinity times 0 would not be 0.
        values.iter_mut().zip(&self.keeps).for_each(|(v, keep)| *v = f32::from_bits(v.to_bits() & keep));
    }
}

/// Where weights that may be pruned lie, each once.
pub(crate) fn ranges_of_weights(layout: &FlatLayout) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for tensor in layout.tensors().iter().filter(|t| t.is_trained && is_weight(t.role)) {
        // Tensors of a recurrent layer share a range.
        if ranges.last().is_none_or(|last| last.end <= tensor.range.start) {
            ranges.push(tensor.range.clone());
        }
    }
    ranges
}

impl Extension for Masks {
    fn begin(&mut self, _layout: &FlatLayout, weights: &mut [f32]) -> Result<()> {
        // Masks may be those of another network.
        self.apply(weights);
        Ok(())
    }

    fn gradients(&mut self, _at: Moment, _weights: &[f32], gradients: &mut [f32]) -> Result<()> {
        self.apply(gradients);
        Ok(())
    }

    fn updated(&mut self, _at: Moment, weights: &mut [f32]) -> Result<()> {
        self.apply(weights);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dlopt_model::{Description, Shape, resolve};

    use super::*;

    fn layout(text: &str, shape: &Shape) -> FlatLayout {
        let description = Description::from_toml(&format!("layers = [{text}]")).unwrap();
        FlatLayout::of(&resolve(&description, shape, 2).unwrap())
    }

    #[test]
    fn zeros_of_weights_stay_and_those_of_biases_do_not() {
        let layout = layout("{ type = \"dense\", units = \"classes\" }", &Shape::Vector { features: 2 });
        // The weight `[in, out]`, then the bias.
        let masks = Masks::of(&layout, &[0.5, 0.0, -0.0, 1.0, 0.0, 0.0]);
        assert_eq!((masks.zeros(), masks.sparsity()), (2, 0.5));
        let mut values = [1.0, f32::NAN, -2.0, 3.0, f32::INFINITY, 5.0];
        masks.apply(&mut values);
        assert_eq!(values.map(f32::to_bits), [1.0, 0.0, 0.0, 3.0, f32::INFINITY, 5.0].map(f32::to_bits));
    }

    #[test]
    fn a_recurrent_layer_counts_each_weight_once() {
        let layout = layout(
            "{ type = \"lstm\", hidden = 3 }, { type = \"dense\", units = \"classes\" }",
            &Shape::Series { time: 4, features: 5 },
        );
        let masks = Masks::of(&layout, &vec![0.0; layout.params_len]);
        assert_eq!(masks.zeros(), 4 * 3 * (5 + 3) + 3 * 2);
        assert_eq!(masks.sparsity(), 1.0);
    }
}
