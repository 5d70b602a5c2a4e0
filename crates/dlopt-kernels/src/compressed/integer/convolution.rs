//! Convolutions of images `[y, x, channel]` by codes in bytes: an image is quantized once, and blocks of its patches are
//! the rows of a product.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Integers`, and of `Task`")]
#![allow(clippy::needless_range_loop, reason = "tiles of registers read best by their indices")]

use super::activations::{is_scale, quantize_row};
use super::blocks::patches;
use super::matrix::{TILE_ROWS, padded_quads};
use super::packing::{InBytes, Packing};
use super::patches::Patches;
use super::registers::{BLOCK, Floats, Integers, PANEL};
use super::source::{Bytes, Pairs, Place, QUAD, Source};
use super::tile::{Ahead, Part, ScalePlace, Task, finish, fold, start, tiles};
use super::unit::Unit;
use super::{MOST_INPUTS, Target, Work};
use crate::compressed::lines::{Lines, with_bytes};
use crate::compressed::{Codes, Maps};
use crate::nn::ConvShape;

/// Bytes of the patches that are multiplied at a time: half of a first cache.
const PATCH_BYTES: usize = 16 << 10;
/// Patches at a time: whole tiles and whole windows.
const STEP: usize = 12;
/// Patches at a time for tiles of the machine's own.
const TILED: usize = 4 * TILE_ROWS;

/// A convolution by codes of 2 to 8 bits, one a byte, on images that are quantized to 8 bits, with ReLU and a 2x2 max pool
/// of stride 2 if asked.
///
/// An image is quantized as a whole: `code = round(x / scale)`, ties to even, with `scale = max |x| / 127`, or the one given
/// with [`Self::with_input_scale`], beyond which values are clipped. Sums are exact;
/// `out = (sum * scale[output]) * scale[image] + bias` in `f32`. An image that holds NaN or infinity gives NaN for all
/// outputs, ReLU or not; one whose magnitudes are all below 2^-120 counts as zeros.
#[derive(Debug)]
pub struct Int8Convolution {
    shape: ConvShape,
    relu: bool,
    pool: bool,
    /// `[panel][quad][PANEL][4]`, each 128 above its code.
    codes: Lines,
    /// One for each output of each panel.
    scales: Vec<f32>,
    given: Option<f32>,
}

impl Int8Convolution {
    /// Packs the codes of a convolution, `[outputs, ky * kx * input]`.
    ///
    /// `relu` and `pool` are those of [`crate::nn::Convolution::new`].
    ///
    /// # Errors
    /// Says why where this kernel is not for such a convolution, so that the caller takes another one: several groups of
    /// channels, more than one scale an output, zero points, more than 65,536 weights an output, scales that are
    /// negative or not finite, codes out of range.
    ///
    /// # Panics
    /// When a size is 0, `pool` is asked without `relu`, or the codes have other extents than the shape.
    pub fn pack(shape: ConvShape, relu: bool, pool: bool, codes: &mut Codes<'_>) -> Result<Self, &'static str> {
        shape.check();
        assert!(relu || !pool, "a fused pool follows a ReLU");
        let Codes { outputs, inputs, bits, group, scale, zero, .. } = *codes;
        assert!(outputs == shape.outputs && inputs * outputs == shape.weight_len(), "extents of a convolution's codes");
        if shape.groups > 1 {
            return Err("its channels are in groups");
        }
        if group < inputs {
            return Err("an output has several scales");
        }
        assert_eq!(scale.len(), outputs, "a scale for each output");
        if zero.iter().any(|&zero| zero != 0) {
            return Err("it has zero points");
        }
        if inputs > MOST_INPUTS {
            return Err("its sums could leave 32 bits");
        }
        if !scale.iter().all(|scale| scale.is_finite() && *scale >= 0.0) {
            return Err("a scale is negative or not finite");
        }
        if !(2..=8).contains(&bits) {
            return Err("its codes have other bits");
        }
        let panel = Bytes::bytes(padded_quads(inputs));
        let mut packed = Lines::new(outputs.div_ceil(PANEL) * panel);
        let bytes = packed.bytes_mut();
        let mut row = vec![0_i8; inputs];
        for output in 0..outputs {
            (codes.row)(output, &mut row);
            let first = output / PANEL * panel + output % PANEL * 4;
            for (input, &code) in row.iter().enumerate() {
                if i32::from(code) >> (bits - 1) != i32::from(code) >> 7 {
                    return Err("a code is out of range");
                }
                bytes[first + input / 4 * QUAD + input % 4] = code.cast_unsigned() ^ 128;
            }
        }
        let mut scales = scale.to_vec();
        scales.resize(outputs.next_multiple_of(PANEL), 0.0);
        Ok(Self { shape, relu, pool, codes: packed, scales, given: None })
    }

    /// Quantizes all images with this scale from now on.
    ///
    /// # Panics
    /// When `scale` is not a number from 2^-120.
    #[must_use]
    pub fn with_input_scale(mut self, scale: f32) -> Self {
        assert!(is_scale(scale), "a scale of activations is a number from 2^-120, found {scale}");
        self.given = Some(scale);
        self
    }

    /// Rows and columns of the output, after the pool if there is one.
    pub fn output_size(&self) -> [usize; 2] {
        let size = [self.shape.out_height(), self.shape.out_width()];
        if self.pool { size.map(|n| n / 2) } else { size }
    }

    /// Weights of an output.
    fn inputs(&self) -> usize {
        self.shape.weight_len() / self.shape.outputs
    }

    fn quads(&self) -> usize {
        self.inputs().div_ceil(4)
    }

    /// Quads that a panel has room for.
    fn padded_quads(&self) -> usize {
        padded_quads(self.inputs())
    }

    /// Patches that are multiplied at a time.
    fn block(&self, target: Target) -> usize {
        if target.has_tiles() {
            return TILED;
        }
        (PATCH_BYTES / (8 * self.quads()) / STEP * STEP).clamp(STEP, 8 * STEP)
    }
}

impl Maps for Int8Convolution {
    fn shape(&self) -> &ConvShape {
        &self.shape
    }

    fn output_len(&self) -> usize {
        self.output_size().iter().product::<usize>() * self.shape.outputs
    }

    fn bytes(&self) -> usize {
        self.codes.bytes().len() + size_of_val(&*self.scales)
    }

    fn forward(&self, images: usize, x: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        assert_eq!(Some(x.len()), images.checked_mul(self.shape.input_len()), "values of the images");
        assert_eq!(Some(out.len()), images.checked_mul(self.output_len()), "values of the outputs");
        assert!(bias.is_none_or(|bias| bias.len() == self.shape.outputs), "one bias for each output channel");
        if out.is_empty() {
            return;
        }
        let patches = Patches::new(&self.shape, self.pool, self.output_size());
        let target = Target::now();
        let block = self.block(target);
        let weights = Pairs::bytes(self.padded_quads()) * self.scales.len() / PANEL;
        let lens = [
            self.shape.input_len().next_multiple_of(BLOCK),
            patches.frame_len(),
            weights,
            block * patches.row_bytes(),
            2 * block * patches.row_bytes(),
            8 * block,
        ];
        let starts: [usize; 6] = std::array::from_fn(|i| lens[..i].iter().map(|len| len.next_multiple_of(64)).sum());
        with_bytes(starts[5] + lens[5], |scratch| {
            // SAFETY: the scratch holds the frame.
            unsafe { scratch.add(starts[1]).write_bytes(0, lens[1]) };
            let [image, frame, weights, narrow, wide, rows] = starts.map(|start| scratch.wrapping_add(start));
            let (x, out) = (x.as_ptr(), out.as_mut_ptr());
            target.run(&Convolve {
                of: self,
                block,
                patches,
                images,
                x,
                bias,
                out,
                image,
                frame,
                weights,
                narrow,
                wide,
                rows,
            });
        });
    }
}

/// Images to convolve, and scratch.
struct Convolve<'a> {
    of: &'a Int8Convolution,
    /// Patches that are multiplied at a time.
    block: usize,
    patches: Patches,
    images: usize,
    x: *const f32,
    bias: Option<&'a [f32]>,
    out: *mut f32,
    /// Codes of the image, and with zeros around it.
    image: *mut u8,
    frame: *mut u8,
    /// Unpacked weights.
    weights: *mut u8,
    /// Patches as bytes and as tiles read them, their sums and their scales.
    narrow: *mut u8,
    wide: *mut u8,
    rows: *mut u8,
}

impl Work for Convolve<'_> {
    #[inline(always)]
    unsafe fn run<T: Integers>(&self) {
        let of = self.of;
        if T::IS_WIDE {
            InBytes::unpack::<T>(
                of.codes.bytes().as_ptr(),
                of.padded_quads() * of.scales.len() / PANEL,
                0,
                self.weights,
            );
        }
        for image in 0..self.images {
            let x = self.x.add(image * of.shape.input_len());
            let (len, mut sum) = (of.shape.input_len(), 0);
            let scale = quantize_row::<T>(x, len, of.given, usize::MAX, false, self.image, &mut sum);
            self.patches.fill_frame(self.image, self.frame);
            for i in 0..self.block {
                (self.rows as *mut f32).add(self.block + i).write(scale);
            }
            self.image::<T>(self.out.add(image * of.output_len()));
        }
    }
}

impl Convolve<'_> {
    #[inline(always)]
    unsafe fn image<T: Integers>(&self, out: *mut f32) {
        let (patches, outputs) = (&self.patches, self.of.shape.outputs);
        let row = patches.row_bytes();
        for first in (0..patches.count()).step_by(self.block) {
            let count = self.block.min(patches.count() - first);
            patches.gather(self.frame, first, count, self.narrow);
            for patch in 0..count {
                let codes = self.narrow.add(patch * row) as *const i8;
                if T::IS_WIDE {
                    for at in (0..patches.len()).step_by(BLOCK) {
                        T::widen(codes.add(at), self.wide.add(2 * (patch * row + at)));
                    }
                }
                let sum = if T::IS_WIDE { 0 } else { T::sum(codes, patches.len().div_ceil(BLOCK)) };
                (self.rows as *mut i32).add(patch).write(sum);
            }
            let pixel = if self.of.pool { first / 4 } else { first };
            self.block::<T>(count, out.add(pixel * outputs));
        }
    }

    #[inline(always)]
    unsafe fn block<T: Integers>(&self, count: usize, out: *mut f32) {
        if T::HAS_TILES {
            return self.block_in_tiles::<T>(count, out);
        }
        let mut panel = 0;
        while panel < self.of.scales.len() / PANEL {
            let left = self.of.scales.len() / PANEL - panel;
            if left >= T::PANELS && T::PANELS == 4 {
                self.panels::<T, 4>(count, panel, out);
                panel += 4;
            } else if left >= 2 && T::PANELS == 2 || T::N < PANEL {
                self.panels::<T, 2>(count, panel, out);
                panel += 2 * T::N / PANEL;
            } else {
                self.panels::<T, 1>(count, panel, out);
                panel += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn block_in_tiles<T: Integers>(&self, count: usize, out: *mut f32) {
        let mut unit = T::Unit::new();
        let panels = self.of.scales.len() / PANEL;
        for panel in (0..panels).step_by(2) {
            let is_two = panel + 1 < panels;
            let (task, part) = if is_two {
                self.operands::<T, 2>(count, panel, out)
            } else {
                self.operands::<T, 1>(count, panel, out)
            };
            match (self.of.pool, is_two) {
                (false, false) => patches::<T, 1, false>(&task, &part, &mut unit),
                (false, true) => patches::<T, 2, false>(&task, &part, &mut unit),
                (true, false) => patches::<T, 1, true>(&task, &part, &mut unit),
                (true, true) => patches::<T, 2, true>(&task, &part, &mut unit),
            }
        }
    }

    /// As many panels as `NR` registers hold.
    #[inline(always)]
    unsafe fn panels<T: Integers, const NR: usize>(&self, count: usize, panel: usize, out: *mut f32) {
        let (task, part) = self.operands::<T, NR>(count, panel, out);
        match (self.of.pool, T::IS_WIDE) {
            (false, false) => tiles::<T, Bytes, NR>(&task, &part),
            (false, true) => tiles::<T, Pairs, NR>(&task, &part),
            (true, false) => pooled::<T, Bytes, NR>(&task, &part),
            (true, true) => pooled::<T, Pairs, NR>(&task, &part),
        }
    }

    /// Patches and `NR` registers of outputs.
    #[inline(always)]
    unsafe fn operands<T: Integers, const NR: usize>(&self, count: usize, panel: usize, out: *mut f32) -> (Task, Part) {
        let (of, row) = (self.of, self.patches.row_bytes());
        let first = panel * PANEL;
        let task = Task {
            offset: if T::IS_WIDE { 0 } else { InBytes::OFFSET },
            scales: ScalePlace::Single(of.scales.as_ptr().add(first)),
            zeros: std::ptr::null(),
            groups: 1,
            x: if T::IS_WIDE { self.wide } else { self.narrow },
            x_row: if T::IS_WIDE { 2 * row } else { row },
            sums: self.rows as *const i32,
            row_scales: (self.rows as *const f32).add(self.block),
            rows: count,
            carry: std::ptr::null_mut(),
            bias: self.bias.map(|bias| bias.as_ptr().add(first)),
            outputs: (of.shape.outputs - first).min(NR * T::N),
            relu: of.relu,
            out: out.add(first),
            out_row: of.shape.outputs,
        };
        let quads = of.padded_quads();
        let bytes = if T::IS_WIDE { Pairs::bytes(quads) } else { Bytes::bytes(quads) };
        let codes = if T::IS_WIDE { self.weights } else { of.codes.bytes().as_ptr() };
        let part = Part {
            codes: codes.add(panel * bytes),
            panel: bytes,
            is_streamed: false,
            quad: 0,
            first_group: 0,
            groups: 1,
            // Padding is zeros, whatever lies behind patches.
            quads: if T::HAS_TILES { quads } else { of.quads() },
            follows_groups: false,
            begins_inside: false,
            ends_inside: false,
            is_last: true,
            ahead: Ahead::NOTHING,
        };
        (task, part)
    }
}

/// The greatest of each four rows. Scales are not negative, so it may be taken before they are applied.
#[inline(always)]
unsafe fn pooled<T: Integers, S: Source, const NR: usize>(task: &Task, part: &Part) {
    for window in 0..task.rows / 4 {
        let mut x = [task.x; 4];
        for m in 0..4 {
            x[m] = task.x.add((4 * window + m) * task.x_row);
        }
        let place = Place { codes: part.codes, panel: part.panel, x, is_streamed: false };
        let mut sums = start::<T, 4, NR>(task, 4 * window, 0);
        S::add::<T, 4, NR>(&mut sums, place, part.quads);
        let mut most = [sums[0]];
        for n in 0..NR {
            most[0][n] = sums[0][n].max(sums[1][n]).max(sums[2][n].max(sums[3][n]));
        }
        let mut totals = [[T::Floats::splat(0.0); NR]];
        fold::<T, 1, NR>(task, window, 0, most, &mut totals);
        finish::<T, 1, NR>(task, window, totals);
    }
}
