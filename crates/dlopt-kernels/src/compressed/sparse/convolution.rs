//! Convolutions with sparse weights, on images `[y, x, channel]`.
//!
//! An image becomes planes once ([`Planes`]); then every weight is a shift: an output channel is the sum over its
//! weights of `weight * plane[offset + pixel]`, for up to 64 neighbouring pixels in registers, across the ends of rows.
//! What is computed between rows is dropped on the way out. No patches are copied.

use super::lanes::Weight;
use super::planes::Planes;
use super::rows::Rows;
use super::shifts::{Job, Shifts, correlate};
use super::stream::with_lines;
use crate::compressed::{Codes, Maps};
use crate::nn::ConvShape;

/// A convolution of which only the weights that are not 0 are in memory, with ReLU and a 2x2 max pool of stride 2 if asked.
///
/// Every sum is what [`crate::nn::Convolution`] makes of the same weights, the bias first, then `[ky, kx, input]` in order;
/// with codes it is the sum of code times pixel, and `bias + scale * sum` follows.
#[derive(Debug)]
pub struct SparseConvolution {
    shape: ConvShape,
    relu: bool,
    pool: bool,
    planes: Planes,
    weights: Values,
    scale: Option<Vec<f32>>,
}

#[derive(Debug)]
enum Values {
    Floats(Shifts<f32>),
    Codes(Shifts<i8>),
}

/// Sums that are held before they are written, in floats: half of a second cache, or less.
const BAND: usize = 1 << 14;

impl SparseConvolution {
    /// Packs a convolution; `row` writes the weights `[ky, kx, input]` of an output channel, and is called once for each,
    /// in order.
    ///
    /// `relu` and `pool` are those of [`crate::nn::Convolution::new`].
    ///
    /// # Panics
    /// When a size is 0, there are several groups of channels, or `pool` is asked without `relu`.
    pub fn pack(shape: ConvShape, relu: bool, pool: bool, row: &mut dyn FnMut(usize, &mut [f32])) -> Self {
        let planes = plan(shape, relu, pool);
        let rows = Rows::read(shape.outputs, shape.weight_len() / shape.outputs, row);
        let weights = Values::Floats(pack_shifts(&rows, &planes));
        Self { shape, relu, pool, planes, weights, scale: None }
    }

    /// Packs a convolution of codes `[outputs, ky * kx * input]`, which stay bytes in memory.
    ///
    /// # Panics
    /// When the codes have other extents, more than one scale a row, or zero points, and as [`Self::pack`] does.
    pub fn pack_codes(shape: ConvShape, relu: bool, pool: bool, codes: Codes) -> Self {
        let planes = plan(shape, relu, pool);
        let Codes { outputs, inputs, group, scale, zero, row, .. } = codes;
        assert!(outputs == shape.outputs && inputs * outputs == shape.weight_len(), "extents of a convolution's codes");
        assert!(group >= inputs && scale.len() == outputs, "one scale for each output");
        assert!(zero.iter().all(|&zero| zero == 0), "a weight of 0 has the code 0");
        let weights = Values::Codes(pack_shifts(&Rows::read(outputs, inputs, row), &planes));
        Self { shape, relu, pool, planes, weights, scale: Some(scale.to_vec()) }
    }

    /// The fraction of weights that are 0.
    pub fn sparsity(&self) -> f64 {
        let nonzeros = match &self.weights {
            Values::Floats(shifts) => shifts.nonzeros(),
            Values::Codes(shifts) => shifts.nonzeros(),
        };
        1.0 - nonzeros as f64 / self.shape.weight_len() as f64
    }

    /// Rows and columns of the output, after the pool if there is one.
    pub fn output_size(&self) -> [usize; 2] {
        let size = [self.shape.out_height(), self.shape.out_width()];
        if self.pool { size.map(|n| n / 2) } else { size }
    }

    fn images<W: Weight>(&self, weights: &Shifts<W>, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let outputs = self.shape.outputs;
        let [rows, columns] = self.output_size().map(|n| if self.pool { n * 2 } else { n });
        let even = if self.pool { 2 } else { 1 };
        let band = (BAND / (outputs * self.planes.row) / even * even).clamp(even, rows);
        // As in `Planes`: no power of two.
        let step = (band * self.planes.row).next_multiple_of(64) + 16;
        let pooled = if self.pool { columns * outputs } else { 0 };
        let job = Job {
            row: self.planes.row,
            rows,
            columns,
            band,
            step,
            outputs,
            bias,
            scale: self.scale.as_deref(),
            relu: self.relu,
            pool: self.pool,
        };
        with_lines(self.planes.len(), |planes| {
            planes.fill(0.0);
            with_lines(outputs * step, |sums| {
                with_lines(pooled, |line| {
                    let images = x.chunks_exact(self.shape.input_len()).zip(out.chunks_exact_mut(self.output_len()));
                    for (image, out) in images {
                        self.planes.fill(image, planes);
                        // SAFETY: the offsets are those of these planes, whose reads end before the planes' end.
                        unsafe { correlate(weights, &job, planes, sums, line, out) };
                    }
                });
            });
        });
    }
}

impl Maps for SparseConvolution {
    fn shape(&self) -> &ConvShape {
        &self.shape
    }

    fn output_len(&self) -> usize {
        self.output_size().iter().product::<usize>() * self.shape.outputs
    }

    fn bytes(&self) -> usize {
        let weights = match &self.weights {
            Values::Floats(shifts) => shifts.bytes(),
            Values::Codes(shifts) => shifts.bytes(),
        };
        weights + self.scale.as_ref().map_or(0, |scale| size_of_val(&**scale))
    }

    fn forward(&self, images: usize, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        assert_eq!(Some(x.len()), images.checked_mul(self.shape.input_len()), "values of the images");
        assert_eq!(Some(out.len()), images.checked_mul(self.output_len()), "values of the outputs");
        assert!(bias.is_none_or(|bias| bias.len() == self.shape.outputs), "one bias for each output channel");
        if out.is_empty() {
            return;
        }
        match &self.weights {
            Values::Floats(shifts) => self.images(shifts, x, bias, out),
            Values::Codes(shifts) => self.images(shifts, x, bias, out),
        }
    }
}

fn plan(shape: ConvShape, relu: bool, pool: bool) -> Planes {
    shape.check();
    assert_eq!(shape.groups, 1, "a sparse convolution has one group of channels");
    assert!(relu || !pool, "a fused pool follows a ReLU");
    let planes = Planes::new(shape);
    assert!(u32::try_from(planes.len()).is_ok(), "offsets in an image have 32 bits, found {shape:?}");
    planes
}

fn pack_shifts<W: Weight>(rows: &Rows<W>, planes: &Planes) -> Shifts<W> {
    Shifts::pack(rows, |weight| planes.offset(weight), |weight| planes.part(weight))
}
