//! Where the values of a checkpoint's tensors lie in the flat vector.

use std::collections::HashMap;

use dlopt_model::{FlatLayout, NamedTensor};

/// Numbers below it are exact in `f32`, so that places go through the layout as two values each.
const PART: usize = 1 << 20;

/// A tensor of a checkpoint, by where its values lie.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// `[out, in, ...]`.
    pub(crate) shape: Vec<usize>,
    /// Low and high part of each place, counted from 1; 0 and 0 for a value that has none of its own.
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Places {
    /// Those of all trained tensors, by name.
    pub(crate) fn of(layout: &FlatLayout) -> HashMap<String, Self> {
        let part = |of: &dyn Fn(usize) -> usize| -> Vec<NamedTensor> {
            let parts: Vec<f32> = (1..=layout.params_len).map(|place| of(place) as f32).collect();
            layout.params_to_checkpoint(&parts)
        };
        let (low, high) = (part(&|place| place % PART), part(&|place| place / PART));
        let both = low.into_iter().zip(high);
        both.map(|(low, high)| (low.name, Self { shape: low.shape, low: low.values, high: high.values })).collect()
    }

    /// The parts that a caller rearranges alike and puts together with [`joined`].
    pub(crate) fn parts(&self) -> [&[f32]; 2] {
        [&self.low, &self.high]
    }

    /// All places, in the order of the checkpoint.
    pub(crate) fn all(&self) -> Vec<usize> {
        joined(&self.low, &self.high)
    }
}

/// Places from their parts, without those of values that have none.
pub(crate) fn joined(low: &[f32], high: &[f32]) -> Vec<usize> {
    let places = low.iter().zip(high).map(|(&low, &high)| low as usize + high as usize * PART);
    places.filter(|place| *place > 0).map(|place| place - 1).collect()
}

#[cfg(test)]
mod tests {
    use dlopt_model::{Description, Shape, resolve};

    use super::*;

    #[test]
    fn every_trained_value_has_a_place_in_the_order_of_the_checkpoint() {
        let text = "layers = [{ type = \"conv2d\", filters = 3, kernel = 2 }, { type = \"flatten\" }, \
                    { type = \"dense\", units = \"classes\" }]";
        let shape = Shape::Image { height: 3, width: 4, channels: 2 };
        let layout = FlatLayout::of(&resolve(&Description::from_toml(text).unwrap(), &shape, 2).unwrap());
        let values: Vec<f32> = (0..layout.params_len).map(|i| (i as f32).sin()).collect();
        let places = Places::of(&layout);
        let mut seen = 0;
        for tensor in layout.params_to_checkpoint(&values) {
            let own = &places[&tensor.name];
            assert_eq!((&own.shape, own.all().len()), (&tensor.shape, tensor.values.len()));
            assert!(own.all().iter().zip(&tensor.values).all(|(place, value)| values[*place] == *value));
            seen += tensor.values.len();
        }
        assert_eq!(seen, layout.params_len);
    }
}
