//! Normalisation: of batches and of layers.

mod batch;
mod layer;

pub use batch::{
    BatchNormCoefficients, batch_norm_apply, batch_norm_coefficients, batch_norm_fold, batch_norm_gradient_sums,
    batch_norm_input_gradient, batch_norm_statistics, batch_norm_sums,
};
pub use layer::{layer_norm, layer_norm_gradient};
