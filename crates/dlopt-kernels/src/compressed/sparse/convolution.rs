//! Convolutions with sparse weights, on images `[y, x, channel]`.
//!
//! An image becomes planes once ([`Planes`]); then every weight is a shift: an output channel is the sum over its
//! weights of `weight * plane[offset + pixel]`, for up to 64 neighbouring pixels in registers, across the ends of rows.
//! What is computed between rows is dropped on the way out. No patches are copied. Many images lie abreast instead, one a
//! lane ([`Abreast`]).

use super::abreast::{self, Abreast, lanes};
use super::lanes::Weight;
use super::planes::Planes;
use super::rows::Rows;
use super::shifts::{Ends, Job, Shifts, correlate};
use crate::compressed::lines::with_lines;
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
    layout: Layout,
    weights: Values,
    scale: Option<Vec<f32>>,
}

/// How pixels lie.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Planes(Planes),
    Abreast(Abreast),
}

impl Layout {
    fn new(shape: ConvShape, images: usize) -> Self {
        if images >= lanes() { Self::Abreast(Abreast::new(shape)) } else { Self::Planes(Planes::new(shape)) }
    }
}

#[derive(Debug)]
enum Values {
    Floats(Shifts<f32>),
    Codes(Shifts<i8>),
}

/// Sums that are held before they are written, in floats: half of a second cache, or less.
const BAND: usize = 1 << 14;

impl SparseConvolution {
    /// Packs a convolution that is mostly given so many images at a time; `row` writes the weights `[ky, kx, input]` of an
    /// output channel, and is called once for each, in order.
    ///
    /// `relu` and `pool` are those of [`crate::nn::Convolution::new`].
    ///
    /// # Panics
    /// When a size is 0, there are several groups of channels, or `pool` is asked without `relu`.
    pub fn pack(
        shape: ConvShape,
        relu: bool,
        pool: bool,
        images: usize,
        row: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Self {
        check(&shape, relu, pool);
        let layout = Layout::new(shape, images);
        let rows = Rows::read(shape.outputs, shape.weight_len() / shape.outputs, row);
        let weights = Values::Floats(pack_shifts(&rows, &layout));
        Self { shape, relu, pool, layout, weights, scale: None }
    }

    /// Packs a convolution of codes `[outputs, ky * kx * input]`, which stay bytes in memory.
    ///
    /// # Panics
    /// When the codes have other extents, more than one scale a row, or zero points, and as [`Self::pack`] does.
    pub fn pack_codes(shape: ConvShape, relu: bool, pool: bool, images: usize, codes: Codes) -> Self {
        check(&shape, relu, pool);
        let layout = Layout::new(shape, images);
        let Codes { outputs, inputs, group, scale, zero, row, .. } = codes;
        assert!(outputs == shape.outputs && inputs * outputs == shape.weight_len(), "extents of a convolution's codes");
        assert!(group >= inputs && scale.len() == outputs, "one scale for each output");
        assert!(zero.iter().all(|&zero| zero == 0), "a weight of 0 has the code 0");
        let weights = Values::Codes(pack_shifts(&Rows::read(outputs, inputs, row), &layout));
        Self { shape, relu, pool, layout, weights, scale: Some(scale.to_vec()) }
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

    fn images<W: Weight>(&self, weights: &Shifts<W>, images: usize, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let even = if self.pool { 2 } else { 1 };
        let size = self.output_size().map(|n| n * even);
        let ends = Ends { bias, scale: self.scale.as_deref(), relu: self.relu };
        match self.layout {
            Layout::Planes(planes) => self.planes(planes, weights, (size, ends), x, out),
            Layout::Abreast(pixels) => {
                let job = abreast::Job { pixels, size, ends, pool: self.pool };
                abreast::correlate(weights, &job, images, x, out);
            }
        }
    }

    /// One image after the other.
    fn planes<W: Weight>(
        &self,
        planned: Planes,
        weights: &Shifts<W>,
        ([rows, columns], ends): ([usize; 2], Ends<'_>),
        x: &[f32],
        out: &mut [f32],
    ) {
        let outputs = self.shape.outputs;
        let even = if self.pool { 2 } else { 1 };
        let band = (BAND / (outputs * planned.row) / even * even).clamp(even, rows);
        // As in `Planes`: no power of two.
        let step = (band * planned.row).next_multiple_of(64) + 16;
        let pooled = if self.pool { columns * outputs } else { 0 };
        let job = Job { row: planned.row, rows, columns, band, step, outputs, ends, pool: self.pool };
        with_lines(planned.len(), |planes| {
            planes.fill(0.0);
            with_lines(outputs * step, |sums| {
                with_lines(pooled, |line| {
                    let images = x.chunks_exact(self.shape.input_len()).zip(out.chunks_exact_mut(self.output_len()));
                    for (image, out) in images {
                        planned.fill(image, planes);
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
            Values::Floats(shifts) => self.images(shifts, images, x, bias, out),
            Values::Codes(shifts) => self.images(shifts, images, x, bias, out),
        }
    }
}

fn check(shape: &ConvShape, relu: bool, pool: bool) {
    shape.check();
    assert_eq!(shape.groups, 1, "a sparse convolution has one group of channels");
    assert!(relu || !pool, "a fused pool follows a ReLU");
    assert!(u32::try_from(Planes::new(*shape).len()).is_ok(), "offsets in an image have 32 bits, found {shape:?}");
}

fn pack_shifts<W: Weight>(rows: &Rows<W>, layout: &Layout) -> Shifts<W> {
    match layout {
        Layout::Planes(planes) => Shifts::pack(rows, |weight| planes.offset(weight), |weight| planes.part(weight)),
        Layout::Abreast(pixels) => Shifts::pack(rows, |weight| pixels.offset(weight), |weight| pixels.part(weight)),
    }
}
