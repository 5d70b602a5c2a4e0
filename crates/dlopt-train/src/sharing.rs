//! Weight sharing: the values of codebooks are trained, and which weight has which value stays.
//!
//! ```text
//! dL/dc_k = sum over i with I(i) = k of dL/dw_i,   w_i = c_I(i)
//! ```
//! with the assignments `I` those of the beginning, chosen as `dlopt quantize` chooses them (Han, Mao and Dally, 2015,
//! arXiv:1510.00149, section 3.3). Weights of exactly 0 have no value to train and stay 0. A value is trained in the place
//! of the first weight that has it, so it counts once in norms of gradients, decay and moments, whoever shares it; the
//! others follow after each update. What comes out has no more distinct values than the codebooks, so quantizing it changes
//! nothing.

use std::collections::HashMap;
use std::sync::Arc;

use dlopt_checkpoint::{Error, Header, Result};
use dlopt_kernels::nn::Team;
use dlopt_model::FlatLayout;
use dlopt_quantize::Quantize;

use crate::FakeQuantize;
use crate::extension::{Extension, Moment};

/// Stands for a value that is trained for itself.
const FREE: u32 = u32::MAX;
/// Stands for a weight that stays 0.
const ZERO: u32 = u32::MAX - 1;

/// Trains the values that weights share.
#[derive(Clone, Debug)]
pub struct Sharing {
    /// Which shared value each trained value is.
    shares: Vec<u32>,
    /// Where in the flat vector the first weight of each shared value lies.
    firsts: Vec<u32>,
    /// The weights to begin with, until training has begun.
    first_weights: Option<Vec<f32>>,
    zeros: usize,
    sums: Vec<f64>,
}

impl Sharing {
    /// Shares the values that `quantize` makes of the weights that training begins with, in the layout's order. A run that
    /// goes on has to be given the same ones.
    ///
    /// # Errors
    /// When the pass does not apply, takes what is not trained, or stores other things than codebooks.
    pub fn new(
        quantize: &Quantize,
        header: &Header,
        layout: &FlatLayout,
        team: Arc<Team>,
        weights: &[f32],
    ) -> Result<Self> {
        let taken = quantize.simulate(header)?;
        if let Some(other) = taken.iter().find(|weight| weight.sharing().is_none()) {
            let name = &header.tensors[other.tensor].name;
            return Err(Error::usage(format!("`{name}` gets no codebook, so there are no shared values to train"))
                .hint("codebook5 shares 32 values; --fake-quantize trains with weights of any scheme"));
        }
        let mut first_weights = weights.to_vec();
        FakeQuantize::new(quantize, header, layout, team)?.apply(&mut first_weights);
        let trained: Vec<&str> = layout.tensors().iter().filter(|t| t.is_trained).map(|t| t.name.as_str()).collect();
        let places = layout.places();
        let mut own = Self {
            shares: vec![FREE; weights.len()],
            firsts: Vec::new(),
            first_weights: None,
            zeros: 0,
            sums: Vec::new(),
        };
        for weight in &taken {
            let Some(at) = trained.iter().position(|name| *name == header.tensors[weight.tensor].name) else {
                continue;
            };
            let [rows, columns] = weight.sharing().unwrap_or([1, 1]);
            let mut seen: HashMap<(usize, usize, u32), u32> = HashMap::new();
            for (index, place) in places[at].iter().enumerate() {
                let Some(place) = *place else { continue };
                let value = first_weights[place as usize];
                own.shares[place as usize] = if value == 0.0 {
                    own.zeros += 1;
                    ZERO
                } else {
                    let (row, column) = (index / weight.columns, index % weight.columns);
                    *seen.entry((row / rows, column / columns, value.to_bits())).or_insert_with(|| {
                        own.firsts.push(place);
                        own.firsts.len() as u32 - 1
                    })
                };
            }
        }
        own.sums = vec![0.0; own.firsts.len()];
        own.first_weights = Some(first_weights);
        Ok(own)
    }

    /// Values that are trained and that weights share; zeros are not among them.
    pub fn values(&self) -> usize {
        self.firsts.len()
    }

    /// Weights that stay 0.
    pub fn zeros(&self) -> usize {
        self.zeros
    }

    /// Gives every weight the value it shares.
    fn spread(&self, weights: &mut [f32]) {
        let values: Vec<f32> = self.firsts.iter().map(|first| weights[*first as usize]).collect();
        for (weight, share) in weights.iter_mut().zip(&self.shares) {
            match *share {
                FREE => {}
                ZERO => *weight = 0.0,
                share => *weight = values[share as usize],
            }
        }
    }
}

impl Extension for Sharing {
    fn begin(&mut self, _layout: &FlatLayout, weights: &mut [f32]) -> Result<()> {
        if let Some(first) = self.first_weights.take() {
            weights.copy_from_slice(&first);
        }
        Ok(())
    }

    fn gradients(&mut self, _at: Moment, _weights: &[f32], gradients: &mut [f32]) -> Result<()> {
        self.sums.fill(0.0);
        for (gradient, share) in gradients.iter_mut().zip(&self.shares) {
            match *share {
                FREE => continue,
                ZERO => {}
                share => self.sums[share as usize] += f64::from(*gradient),
            }
            *gradient = 0.0;
        }
        for (first, sum) in self.firsts.iter().zip(&self.sums) {
            gradients[*first as usize] = *sum as f32;
        }
        Ok(())
    }

    fn updated(&mut self, _at: Moment, weights: &mut [f32]) -> Result<()> {
        self.spread(weights);
        Ok(())
    }

    fn averaged(&mut self, _at: Moment, average: &mut [f32]) -> Result<()> {
        self.spread(average);
        Ok(())
    }

    fn restore(&mut self, _saved: &[(String, Vec<f32>)]) -> Result<()> {
        // A run that goes on has its weights.
        self.first_weights = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dlopt_checkpoint::{Dtype, NameGlob, TensorInfo};
    use dlopt_model::{Description, Shape, resolve};
    use dlopt_quantize::Scheme;

    use super::*;

    const AT: Moment = Moment { epoch: 0, step: 0, steps: 4, key: 0, learning_rate: 0.0 };

    fn sharing(scheme: &str, first: &[f32]) -> Result<Sharing> {
        let text = "layers = [{ type = \"dense\", units = \"classes\" }]";
        let description = Description::from_toml(text).unwrap();
        let layout = FlatLayout::of(&resolve(&description, &Shape::Vector { features: 4 }, 2).unwrap());
        let tensors = layout.tensors().iter().map(|t| TensorInfo::new(t.name.clone(), Dtype::F32, t.shape.clone()));
        let header = Header { tensors: tensors.collect(), ..Header::default() };
        let mut quantize = Quantize::new(Scheme::parse(scheme).unwrap());
        // The only layer is the output's, which is not taken unasked.
        quantize.selection.include = vec![NameGlob::new("*.weight").unwrap()];
        Sharing::new(&quantize, &header, &layout, Arc::new(Team::new(1)), first)
    }

    // The slot of the weight is `[in, out]`, with the bias behind it.
    const FIRST: [f32; 10] = [1.0, -2.0, 0.0, 5.0, 1.0, 0.0, 5.0, -2.0, 0.5, 0.25];

    #[test]
    fn gradients_of_a_value_are_summed_where_it_first_occurs() {
        let mut own = sharing("codebook2", &FIRST).unwrap();
        assert_eq!((own.values(), own.zeros()), (3, 2));
        let mut gradients: Vec<f32> = (1..=10u8).map(f32::from).collect();
        own.gradients(AT, &FIRST, &mut gradients).unwrap();
        assert_eq!(gradients, [6.0, 10.0, 0.0, 0.0, 0.0, 0.0, 11.0, 0.0, 9.0, 10.0]);
        let mut weights: Vec<f32> = (1..=10u8).map(f32::from).collect();
        own.updated(AT, &mut weights).unwrap();
        assert_eq!(weights, [1.0, 2.0, 0.0, 7.0, 1.0, 0.0, 7.0, 2.0, 9.0, 10.0]);
    }

    #[test]
    fn rows_with_codebooks_of_their_own_share_nothing() {
        let own = sharing("codebook2:channel", &FIRST).unwrap();
        // Rows of the weight are [1, 0, 1, 5] and [-2, 5, 0, -2].
        assert_eq!((own.values(), own.zeros()), (4, 2));
        assert_eq!(sharing("codebook2:2", &FIRST).unwrap().values(), 6);
    }

    #[test]
    fn training_begins_with_shared_values_and_goes_on_with_its_own() {
        let mut first = FIRST;
        first[4] = 1.5;
        let (mut own, mut weights) = (sharing("codebook2", &first).unwrap(), first);
        let mut again = own.clone();
        own.begin(&FlatLayout::of(&[]), &mut weights).unwrap();
        assert_eq!((weights[0], weights[4], weights[8]), (1.25, 1.25, 0.5));
        let mut weights = [3.0; 10];
        again.restore(&[]).unwrap();
        again.begin(&FlatLayout::of(&[]), &mut weights).unwrap();
        assert_eq!(weights, [3.0; 10]);
    }

    #[test]
    fn schemes_without_codebooks_are_refused() {
        let error = sharing("w4a16:channel", &FIRST).unwrap_err();
        assert!(error.message().contains("fc1.weight") || error.message().contains("gets no codebook"), "{error}");
    }
}
