//! Products, tables and functions of single values.

use candle_core::{D, DType, Result, Tensor};
use dlopt_checkpoint::Error;

use super::failed;
use crate::plan::Activation;

/// `y = x W + b` over the last extent; weights `[in, out]`, then the bias if any.
pub(super) fn dense(x: &Tensor, weights: &[Tensor]) -> Result<Tensor> {
    let inputs = x.dim(D::Minus1)?;
    let y = x.reshape(((), inputs))?.contiguous()?.matmul(&weights[0])?;
    match weights.get(1) {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// Rows of a table `[vocabulary, size]` by token numbers held as floats.
pub(super) fn embedding(x: &Tensor, table: &Tensor, vocabulary: usize) -> dlopt_checkpoint::Result<Tensor> {
    let tokens: Vec<f32> = x.flatten_all().and_then(|flat| flat.to_vec1()).map_err(failed)?;
    if let Some(token) = tokens.iter().find(|token| !(**token > -1.0 && **token < vocabulary as f32)) {
        return Err(Error::input(format!("token {token} is none of the {vocabulary} that its table knows")));
    }
    let rows: Vec<u32> = tokens.iter().map(|token| *token as u32).collect();
    let count = rows.len();
    Tensor::from_vec(rows, count, x.device()).and_then(|rows| table.index_select(&rows, 0)).map_err(failed)
}

/// The magnitude of the first and the second half of the features; its slope is 0 where both are.
pub(super) fn magnitude(x: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let parts = [x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?];
    let square = (parts[0].sqr()? + parts[1].sqr()?)?;
    let is_zero = square.eq(0.0)?.to_dtype(DType::F32)?;
    (square + &is_zero)?.sqrt()? * (1.0 - is_zero)?
}

/// A function of each value, as PyTorch defines it; softmax over the last extent.
pub(super) fn activate(x: &Tensor, function: Activation) -> Result<Tensor> {
    match function {
        Activation::Relu => relu(x),
        Activation::Relu6 => relu6(x),
        Activation::LeakyRelu => relu(x)? - (relu(&x.neg()?)? * 0.01)?,
        // Of the negative part alone, so that nothing overflows.
        Activation::Elu => relu(x)? + (relu(&x.neg()?)?.neg()?.exp()? - 1.0)?,
        Activation::Gelu => x.gelu_erf(),
        Activation::Silu => x * sigmoid(x)?,
        Activation::HardSwish => x * (relu6(&(x + 3.0)?)? / 6.0)?,
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Softmax => {
            let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
            let powers = shifted.exp()?;
            powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
        }
    }
}

/// With a slope of 0 at 0, where candle's own has 1: pictures with empty borders meet it often.
fn relu(x: &Tensor) -> Result<Tensor> {
    x.gt(0_f32)?.where_cond(x, &x.zeros_like()?)
}

fn relu6(x: &Tensor) -> Result<Tensor> {
    relu(x)? - relu(&(x - 6.0)?)?
}

/// By the hyperbolic tangent, whose gradient is finite everywhere.
pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ((x * 0.5)?.tanh()? * 0.5)? + 0.5
}

/// Ones where a step is one of a sample's own, `[samples, 1]`.
pub(super) fn mask(lengths: &[u32], step: usize, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = lengths.iter().map(|&length| if step < length as usize { 1.0 } else { 0.0 }).collect();
    Tensor::from_vec(values, (lengths.len(), 1), like.device())?.to_dtype(DType::F32)
}
