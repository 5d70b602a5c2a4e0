//! Plain `f32` behind the contracts of the compressed kernels: what those are measured against.

use super::{Maps, Product};
use crate::nn::{ConvShape, Convolution, Dense, Team};

/// Rows a task multiplies at most.
const ROWS_PER_TASK: usize = 128;

/// A dense matrix, packed as [`Dense`] packs it: every output is one sum of fused multiply-adds in the order of inputs.
#[derive(Clone, Debug)]
pub struct DenseMatrix {
    inputs: usize,
    outputs: usize,
    packed: Vec<f32>,
}

impl DenseMatrix {
    /// Bytes that such a matrix takes.
    pub fn bytes_of(outputs: usize, inputs: usize) -> usize {
        size_of::<f32>() * Dense::new(inputs, outputs, false).packed_len()
    }

    /// Packs `[outputs, inputs]`.
    ///
    /// # Panics
    /// When `weight` has another length, or an extent is 0.
    pub fn pack(outputs: usize, inputs: usize, weight: &[f32]) -> Self {
        assert_eq!(weight.len(), outputs * inputs, "values of a matrix");
        let mut columns = vec![0.0; weight.len()];
        for (o, row) in weight.chunks_exact(inputs).enumerate() {
            columns[o..].iter_mut().step_by(outputs).zip(row).for_each(|(to, from)| *to = *from);
        }
        let mut packed = Vec::new();
        Dense::new(inputs, outputs, false).pack_forward(&Team::new(1), &columns, &mut packed);
        Self { inputs, outputs, packed }
    }
}

impl Product for DenseMatrix {
    fn extents(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    fn bytes(&self) -> usize {
        4 * self.packed.len()
    }

    fn multiply(&self, team: &Team, rows: usize, x: &[f32], bias: Option<&[f32]>, relu: bool, out: &mut [f32]) {
        assert_eq!(x.len(), rows * self.inputs, "values of the inputs");
        assert_eq!(out.len(), rows * self.outputs, "values of the outputs");
        let kernel = Dense::new(self.inputs, self.outputs, relu);
        let chunk = rows.div_ceil(team.threads()).clamp(1, ROWS_PER_TASK);
        team.chunks(out, chunk * self.outputs, |index, out| {
            let rows = out.len() / self.outputs;
            let x = &x[index * chunk * self.inputs..][..rows * self.inputs];
            kernel.forward(rows, x, &self.packed, bias, out);
        });
    }
}

/// A convolution of plain `f32` with its packed weight.
#[derive(Clone, Debug)]
pub struct DenseConvolution {
    kernel: Convolution,
    packed: Vec<f32>,
}

impl DenseConvolution {
    /// Packs `[kh, kw, inputs / groups, outputs]` for a planned convolution.
    ///
    /// # Panics
    /// When `weight` has another length.
    pub fn pack(kernel: Convolution, weight: &[f32]) -> Self {
        let mut packed = Vec::new();
        kernel.pack_forward(&Team::new(1), weight, &mut packed);
        Self { kernel, packed }
    }
}

impl Maps for DenseConvolution {
    fn shape(&self) -> &ConvShape {
        self.kernel.shape()
    }

    fn output_len(&self) -> usize {
        self.kernel.output_len()
    }

    fn bytes(&self) -> usize {
        4 * self.packed.len()
    }

    fn forward(&self, images: usize, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        self.kernel.forward(images, x, &self.packed, bias, out, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{assert_near, values};

    #[test]
    fn it_multiplies_rows_as_they_are_stored() {
        let (outputs, inputs, rows) = (19, 7, 5);
        let (weight, x, bias) = (values(outputs * inputs, 1), values(rows * inputs, 2), values(outputs, 3));
        let matrix = DenseMatrix::pack(outputs, inputs, &weight);
        assert_eq!((matrix.extents(), matrix.bytes()), ([19, 7], 4 * 32 * 7));
        let mut out = vec![9.0; rows * outputs];
        matrix.multiply(&Team::new(2), rows, &x, Some(&bias), true, &mut out);
        let wanted: Vec<f64> = (0..rows * outputs)
            .map(|at| {
                let (row, o) = (at / outputs, at % outputs);
                let products = weight[o * inputs..][..inputs].iter().zip(&x[row * inputs..][..inputs]);
                products.fold(f64::from(bias[o]), |sum, (w, x)| sum + f64::from(*w) * f64::from(*x)).max(0.0)
            })
            .collect();
        assert_near(&out, &wanted, 1e-6);
    }
}
