//! Weight sharing while training: the weights of a layer are a few values, and those are trained.
//!
//! ```text
//! w[i] = value[code[i]],   dL/dvalue[c] = sum over i with code[i] = c of dL/dw[i]
//! ```
//! The values are chosen by k-means from what training begins with, and codes stay as they are from then on; the value 0
//! stays 0. Han, Mao and Dally, 2015, Deep compression, arXiv:1510.00149, section 3.3. The sum counts in the step size of SGD
//! and in the norm of all gradients; Adam and its like take any scale.

use std::ops::Range;

use dlopt_checkpoint::{Error, Result};
use dlopt_model::FlatLayout;
use dlopt_quantize::Codebook;

use crate::extension::{Extension, Moment};
use crate::masks::ranges_of_weights;

/// Keeps the weights of each layer at `2^bits` values; biases and norms are free. The matrices of a recurrent layer share
/// theirs.
#[derive(Clone, Debug)]
pub struct Sharing {
    layers: Vec<Layer>,
}

/// The weights of a layer.
#[derive(Clone, Debug)]
struct Layer {
    /// Where they lie.
    range: Range<usize>,
    /// Which value each of them is.
    codes: Vec<u8>,
    /// The values of the beginning.
    values: Vec<f32>,
    /// For each value a weight that is it, beside which the others are put; none for 0, which is not trained.
    first: Vec<Option<usize>>,
}

impl Layer {
    fn new(range: Range<usize>, codes: Vec<u8>, values: Vec<f32>) -> Self {
        let mut first = vec![None; values.len()];
        for (at, &code) in codes.iter().enumerate().rev() {
            first[usize::from(code)] = Some(at);
        }
        first.iter_mut().zip(&values).filter(|(_, value)| **value == 0.0).for_each(|(first, _)| *first = None);
        Self { range, codes, values, first }
    }

    /// Gives all weights of a code what `of` says of it.
    fn spread(&self, into: &mut [f32], of: impl Fn(usize) -> f32) {
        into[self.range.clone()].iter_mut().zip(&self.codes).for_each(|(to, code)| *to = of(usize::from(*code)));
    }

    /// Puts the weights of a code beside the first of them.
    fn align(&self, weights: &mut [f32]) {
        let values: Vec<f32> =
            self.first.iter().map(|first| first.map_or(0.0, |at| weights[self.range.start + at])).collect();
        self.spread(weights, |code| values[code]);
    }
}

impl Sharing {
    /// Shares what training begins with, in the layout's order; `frozen` slots stay as they are.
    ///
    /// # Errors
    /// When `bits` are not 1 to 8, or a weight is not finite.
    pub fn new(bits: u32, layout: &FlatLayout, frozen: &[Range<usize>], first: &[f32]) -> Result<Self> {
        if !(1..=8).contains(&bits) {
            return Err(Error::usage(format!("weights share 2^1 to 2^8 values, found {bits} bits")));
        }
        let is_frozen = |range: &Range<usize>| frozen.iter().any(|own| own.start < range.end && range.start < own.end);
        let layer = |range: Range<usize>| {
            let weights = &first[range.clone()];
            if let Some(at) = weights.iter().position(|weight| !weight.is_finite()) {
                return Err(Error::input(format!(
                    "weight {} is {}, which shares no value",
                    range.start + at,
                    weights[at]
                )));
            }
            let codebook = Codebook::of(weights, bits);
            let codes = weights.iter().map(|weight| codebook.place(*weight) as u8).collect();
            Ok(Layer::new(range, codes, codebook.values().to_vec()))
        };
        let ranges = ranges_of_weights(layout).into_iter().filter(|range| !is_frozen(range));
        Ok(Self { layers: ranges.map(layer).collect::<Result<_>>()? })
    }
}

impl Extension for Sharing {
    fn begin(&mut self, _layout: &FlatLayout, weights: &mut [f32]) -> Result<()> {
        // After a resume they are aligned already, and have moved on from the first values.
        let is_begun = |layer: &Layer| {
            let aligned = |(at, code): (usize, &u8)| {
                let first = layer.first[usize::from(*code)].map_or(0.0, |first| weights[layer.range.start + first]);
                weights[layer.range.start + at] == first
            };
            layer.codes.iter().enumerate().all(aligned)
        };
        if !self.layers.iter().all(is_begun) {
            self.layers.iter().for_each(|layer| layer.spread(weights, |code| layer.values[code]));
        }
        Ok(())
    }

    fn gradients(&mut self, _at: Moment, _weights: &[f32], gradients: &mut [f32]) -> Result<()> {
        for layer in &self.layers {
            let mut sums = vec![0.0_f64; layer.values.len()];
            for (gradient, &code) in gradients[layer.range.clone()].iter().zip(&layer.codes) {
                sums[usize::from(code)] += f64::from(*gradient);
            }
            layer.spread(gradients, |code| if layer.first[code].is_some() { sums[code] as f32 } else { 0.0 });
        }
        Ok(())
    }

    fn updated(&mut self, _at: Moment, weights: &mut [f32]) -> Result<()> {
        self.layers.iter().for_each(|layer| layer.align(weights));
        Ok(())
    }

    fn averaged(&mut self, at: Moment, average: &mut [f32]) -> Result<()> {
        self.updated(at, average)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dlopt_model::{Description, Shape, resolve};

    use super::*;

    const AT: Moment = Moment { epoch: 0, step: 0, steps: 1, key: 0, learning_rate: 0.1 };

    /// A dense layer of 6 inputs and 2 outputs with its bias.
    fn layout() -> FlatLayout {
        let description = Description::from_toml("layers = [{ type = \"dense\", units = \"classes\" }]").unwrap();
        FlatLayout::of(&resolve(&description, &Shape::Vector { features: 6 }, 2).unwrap())
    }

    const FIRST: [f32; 14] = [0.0, 0.5, 0.52, -1.0, 0.0, 0.48, -1.1, 3.0, 0.0, 0.0, 0.51, 3.1, 7.0, 8.0];

    #[test]
    fn weights_take_a_few_values_and_biases_do_not() {
        let mut sharing = Sharing::new(2, &layout(), &[], &FIRST).unwrap();
        let mut weights = FIRST.to_vec();
        sharing.begin(&layout(), &mut weights).unwrap();
        let values: BTreeSet<u32> = weights[..12].iter().map(|w| w.to_bits()).collect();
        assert_eq!(values.len(), 4);
        assert!((0..12).all(|i| (weights[i] - FIRST[i]).abs() < 0.11 && (FIRST[i] != 0.0 || weights[i] == 0.0)));
        assert_eq!(weights[12..], FIRST[12..]);
    }

    #[test]
    fn the_gradient_of_a_value_is_the_sum_over_its_weights() {
        let mut sharing = Sharing::new(2, &layout(), &[], &FIRST).unwrap();
        let mut gradients: Vec<f32> = (0..14).map(|i| i as f32).collect();
        sharing.gradients(AT, &FIRST, &mut gradients).unwrap();
        // Weights 1, 2, 5 and 10; 3 and 6; 7 and 11; zeros.
        assert_eq!(gradients, [0.0, 18.0, 18.0, 9.0, 0.0, 18.0, 9.0, 18.0, 0.0, 0.0, 18.0, 18.0, 12.0, 13.0]);
        let mut weights: Vec<f32> = FIRST.iter().zip(&gradients).map(|(w, g)| w - 0.01 * g).collect();
        sharing.updated(AT, &mut weights).unwrap();
        assert!(weights[1] == weights[10] && weights[0] == 0.0 && weights[7] == weights[11]);
    }

    #[test]
    fn a_run_that_goes_on_keeps_what_it_has_come_to() {
        let mut sharing = Sharing::new(2, &layout(), &[], &FIRST).unwrap();
        let mut weights = FIRST.to_vec();
        sharing.begin(&layout(), &mut weights).unwrap();
        let moved: Vec<f32> = weights.iter().map(|w| if *w == 0.0 { 0.0 } else { w + 0.25 }).collect();
        let mut again = moved.clone();
        sharing.begin(&layout(), &mut again).unwrap();
        assert_eq!(again, moved);
    }

    #[test]
    fn frozen_layers_stay_and_odd_requests_are_refused() {
        let mut sharing = Sharing::new(1, &layout(), &[0..12], &FIRST).unwrap();
        let mut weights = FIRST.to_vec();
        sharing.begin(&layout(), &mut weights).unwrap();
        assert_eq!(weights, FIRST);
        assert!(Sharing::new(9, &layout(), &[], &FIRST).is_err());
        let broken = [f32::NAN; 14];
        assert!(Sharing::new(3, &layout(), &[], &broken).unwrap_err().message().contains("weight 0 is NaN"));
    }
}
