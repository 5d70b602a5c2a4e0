//! Convolutions for training, on images `[y, x, channel]` and weights `[ky, kx, inputs / groups, outputs]`.
//!
//! Inside one kernel row the `kw * inputs` inputs of an output are contiguous, so a convolution is `kh` long products an
//! output: no patches are copied out, and no layout changes anywhere in a training step. Sums live in registers from the
//! first product to the last.

pub(crate) mod correlate;
mod depthwise;
mod frame;
mod maps;
pub(crate) mod pack;
pub(crate) mod plan;
mod pooled;
mod run;
mod shape;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod weight;

pub(crate) use maps::{bias_gradient, mask};
pub use shape::ConvShape;
pub(crate) use shape::extent;

use self::correlate::Grid;
use self::depthwise::depthwise_weight;
use self::frame::Frame;
use self::maps::unpool;
use self::pack::{PANEL, pack_columns, pack_rows, packed_len};
use self::plan::{Correlation, Run, Sides};
use self::run::{Operands, pooled_scratch, run, run_pooled};
use self::weight::{Gradient, weight_gradient};
use std::ops::Range;

use super::Team;
use super::scratch::with_scratch;

/// Floats of the two maps that a weight gradient walks at a time, so that they stay in the first cache.
const BAND_FLOATS: usize = 6 << 10;

/// The plan of one convolution, with bias, ReLU and max pool fused behind it if asked.
///
/// Kernels are chosen once, by the shape. Packed weights fit the plan that packed them and no other.
#[derive(Clone, Debug)]
pub struct Convolution {
    shape: ConvShape,
    relu: bool,
    pool: bool,
    input: Frame,
    forward: Correlation,
    /// The operands of the weight gradient.
    weight_input: Frame,
    weights: Correlation,
    /// The input gradient, one correlation for each phase of the stride.
    phases: Vec<Correlation>,
}

impl Convolution {
    /// Plans a convolution; `relu` puts max(0, value) behind the bias.
    ///
    /// `pool` puts a 2x2 max pool of stride 2 behind ReLU, without which it cannot be; an odd last row or column is
    /// dropped, and never computed.
    ///
    /// # Panics
    /// When a size is 0, channels are no multiple of the groups, or `pool` is asked without `relu`.
    pub fn new(shape: ConvShape, relu: bool, pool: bool) -> Self {
        shape.check();
        assert!(relu || !pool, "a fused pool follows a ReLU");
        let even = |n: usize| if pool { n - n % 2 } else { n };
        let (rows, columns) = (even(shape.out_height()), even(shape.out_width()));
        let (input, forward) = plan::forward(&shape, rows, columns, Sides::Cut);
        // Sums over pixels are cheapest where all taps of a kernel row take the same pixels.
        let sides = if shape.is_depthwise() { Sides::Cut } else { Sides::Zeros };
        let (weight_input, weights) = plan::forward(&shape, rows, columns, sides);
        let phases = plan::backward(&shape, rows, columns);
        Self { shape, relu, pool, input, forward, weight_input, weights, phases }
    }

    /// The sizes it was planned for.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Rows and columns of the output, after the pool if there is one.
    pub fn output_size(&self) -> [usize; 2] {
        let [rows, columns] = [self.forward.rows, self.forward.columns];
        if self.pool { [rows / 2, columns / 2] } else { [rows, columns] }
    }

    /// Values of the output of one image, after the pool if there is one.
    pub fn output_len(&self) -> usize {
        self.output_size().iter().product::<usize>() * self.shape.outputs
    }

    /// Values of a weight that is laid out for [`Self::forward`].
    pub fn packed_len(&self) -> usize {
        self.forward.packed_len()
    }

    /// Lays the weight out for [`Self::forward`]; once a step.
    ///
    /// # Panics
    /// When `weight` does not hold `weight_len` values.
    pub fn pack_forward(&self, team: &Team, weight: &[f32], packed: &mut Vec<f32>) {
        assert_eq!(weight.len(), self.shape.weight_len(), "values of a convolution's weight");
        let plan = &self.forward;
        packed.resize(plan.packed_len(), 0.0);
        if plan.is_depthwise {
            return pack_taps(weight, plan, packed);
        }
        let len = packed_len(plan.depth(), plan.channels);
        for (group, packed) in packed.chunks_exact_mut(len).enumerate() {
            let rows = |k: usize| k * self.shape.outputs + group * plan.channels;
            pack_rows(team, weight, &rows, plan.depth(), plan.channels, packed);
        }
    }

    /// Lays the weight out for the input gradient of [`Self::backward`]; once a step, where that gradient is wanted.
    ///
    /// # Panics
    /// When `weight` does not hold `weight_len` values.
    pub fn pack_backward(&self, team: &Team, weight: &[f32], packed: &mut Vec<f32>) {
        assert_eq!(weight.len(), self.shape.weight_len(), "values of a convolution's weight");
        packed.resize(self.packed_backward_len(), 0.0);
        let mut rest = &mut packed[..];
        for plan in self.phases.iter().filter(|plan| plan.depth() > 0) {
            let (packed, after) = rest.split_at_mut(plan.packed_len());
            rest = after;
            if plan.is_depthwise {
                pack_taps(weight, plan, packed);
                continue;
            }
            let outputs = plan.sees;
            let len = packed_len(plan.depth(), plan.channels);
            for (group, packed) in packed.chunks_exact_mut(len).enumerate() {
                let place = |k: usize, channel: usize| {
                    (plan.taps[k / outputs] * plan.channels + channel) * self.shape.outputs + group * outputs
                };
                pack_columns(team, weight, &place, plan.depth(), outputs, plan.channels, packed);
            }
        }
    }

    fn packed_backward_len(&self) -> usize {
        self.phases.iter().map(Correlation::packed_len).sum()
    }

    /// Computes `out`, `[images, rows, columns, outputs]`, from `x`, `[images, height, width, inputs]`.
    ///
    /// `packed` comes from [`Self::pack_forward`]. With a pool, `won` is given for training: it remembers for each output
    /// which of the four was greatest (0 to 3, the first of equals), or 4 where ReLU is off. ReLU and pool turn NaN into 0
    /// or pass over it, so watch the loss for NaN.
    ///
    /// # Panics
    /// When a slice does not have the length it should, or `won` is given without a pool.
    pub fn forward(
        &self,
        images: usize,
        x: &[f32],
        packed: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
        mut won: Option<&mut [u8]>,
    ) {
        let (input_len, output_len) = (self.shape.input_len(), self.output_len());
        assert_eq!(x.len(), images * input_len, "values of the images");
        assert_eq!(packed.len(), self.forward.packed_len(), "values of the weight packed for the forward pass");
        assert_eq!(out.len(), images * output_len, "values of the outputs");
        assert!(bias.is_none_or(|bias| bias.len() == self.shape.outputs), "one bias for each output channel");
        assert!(
            won.as_ref().is_none_or(|won| self.pool && won.len() == out.len()),
            "one winner for each pooled output"
        );
        let two = if self.pool { pooled_scratch(&self.forward) } else { 0 };
        with_scratch(self.input.copy_len(), |copy| {
            self.input.clear_sides(copy);
            with_scratch(two, |two| {
                for image in 0..images {
                    let map = self.input.map(&x[image * input_len..][..input_len], copy);
                    let (packed, bias) = (packed.as_ptr(), bias.map(<[f32]>::as_ptr));
                    let operands = Operands { map: map.as_ptr(), packed, bias, relu: self.relu };
                    let range = image * output_len..(image + 1) * output_len;
                    let out = out[range.clone()].as_mut_ptr();
                    // SAFETY: the map is the one planned for, and all lengths were checked above.
                    unsafe {
                        if self.pool {
                            let won = won.as_mut().map(|won| won[range].as_mut_ptr());
                            run_pooled(&self.forward, operands, two.as_mut_ptr(), out, won);
                        } else {
                            run(&self.forward, operands, out);
                        }
                    }
                }
            });
        });
    }

    /// Adds to the gradients of weight and bias, and writes that of the input.
    ///
    /// `out` and `won` are what [`Self::forward`] wrote, `gradient` has the shape of `out`. `out` is read only with ReLU
    /// and without a pool, `won` only with a pool; they may be empty otherwise. `packed` comes from
    /// [`Self::pack_backward`] and must be given with `dx`.
    ///
    /// # Panics
    /// When a slice does not have the length it should.
    #[allow(clippy::too_many_arguments, reason = "a layer's operands")]
    pub fn backward(
        &self,
        images: usize,
        x: &[f32],
        out: &[f32],
        won: &[u8],
        gradient: &[f32],
        packed: Option<&[f32]>,
        dw: &mut [f32],
        mut db: Option<&mut [f32]>,
        mut dx: Option<&mut [f32]>,
    ) {
        let (input_len, output_len) = (self.shape.input_len(), self.output_len());
        let masked = self.relu && !self.pool;
        assert_eq!(x.len(), images * input_len, "values of the images");
        assert_eq!(gradient.len(), images * output_len, "values of the outputs' gradient");
        assert!(!masked || out.len() == gradient.len(), "one output for each gradient");
        assert!(!self.pool || won.len() == gradient.len(), "one winner for each gradient");
        assert_eq!(dw.len(), self.shape.weight_len(), "values of the weight's gradient");
        assert!(db.as_ref().is_none_or(|db| db.len() == self.shape.outputs), "one bias for each output channel");
        assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()), "values of the images' gradient");
        let packed = dx.as_ref().map(|_| packed.expect("the weight packed for the input gradient is given with `dx`"));
        let fits = packed.is_none_or(|packed| packed.len() == self.packed_backward_len());
        assert!(fits, "values of the weight packed for the input gradient");
        if output_len == 0 {
            return dx.into_iter().for_each(|dx| dx.fill(0.0));
        }
        let unmasked_len = if self.relu { self.forward.rows * self.forward.columns * self.shape.outputs } else { 0 };
        with_scratch(self.weight_input.copy_len(), |copy| {
            self.weight_input.clear_sides(copy);
            with_scratch(unmasked_len, |sums| {
                for image in 0..images {
                    let range = image * output_len..(image + 1) * output_len;
                    let out = if masked { &out[range.clone()] } else { &[] };
                    let won = if self.pool { &won[range.clone()] } else { &[] };
                    let gradient = self.sum_gradient(&gradient[range], out, won, db.as_deref_mut(), sums);
                    let map = self.weight_input.map(&x[image * input_len..][..input_len], copy);
                    self.weight_gradient(map, gradient, dw);
                    if let (Some(dx), Some(packed)) = (&mut dx, packed) {
                        self.input_gradient(gradient, packed, &mut dx[image * input_len..][..input_len]);
                    }
                }
            });
        });
    }

    /// The gradient of the sums before ReLU and pool, `[rows, columns, outputs]`.
    fn sum_gradient<'a>(
        &self,
        gradient: &'a [f32],
        out: &[f32],
        won: &[u8],
        db: Option<&mut [f32]>,
        sums: &'a mut [f32],
    ) -> &'a [f32] {
        let Correlation { rows, columns, .. } = self.forward;
        let outputs = self.shape.outputs;
        let mut db = db.map(<[f32]>::as_mut_ptr);
        let to = sums.as_mut_ptr();
        // SAFETY: `sums` holds the map if there is a ReLU; the other slices are one image each, `db` one value a channel.
        unsafe {
            if self.pool {
                unpool(gradient.as_ptr(), won.as_ptr(), rows / 2, columns / 2, outputs, to, db.take());
            } else if self.relu {
                mask(gradient.as_ptr(), out.as_ptr(), gradient.len(), to);
            }
        }
        let sums = if self.relu { sums } else { gradient };
        if let Some(db) = db {
            // SAFETY: as above.
            unsafe { bias_gradient(sums.as_ptr(), rows * columns, outputs, db) };
        }
        sums
    }

    fn weight_gradient(&self, map: &[f32], gradient: &[f32], dw: &mut [f32]) {
        let plan = &self.weights;
        let gradient_row = plan.columns * self.shape.outputs;
        let mut part = |rows: &Range<usize>, columns: &Range<usize>, runs: &[Run], len: usize| {
            let step = (BAND_FLOATS / (plan.row + gradient_row)).max(64_usize.div_ceil(columns.len().max(1)));
            for start in rows.clone().step_by(step) {
                let place = start * plan.row + columns.start * plan.pixel;
                let grid = Grid {
                    rows: step.min(rows.end - start),
                    columns: columns.len(),
                    pixel: plan.pixel,
                    row: plan.row,
                    runs,
                    len,
                    out_pixel: self.shape.outputs,
                    out_row: gradient_row,
                };
                let values = &gradient[start * gradient_row + columns.start * self.shape.outputs..];
                // SAFETY: map and gradient hold all that was planned for, `dw` all taps of all groups.
                unsafe { self.weight_gradient_part(map.as_ptr().wrapping_add(place), grid, values.as_ptr(), dw) };
            }
        };
        if plan.is_depthwise || plan.len < 6 {
            // Runs so short are better taken together.
            plan.cells.iter().for_each(|cell| part(&cell.rows, &cell.columns, &cell.runs, cell.len));
        } else {
            for (run, rows) in &plan.runs {
                part(rows, &(0..plan.columns), &[*run], plan.len);
            }
        }
    }

    /// # Safety
    /// `map` and `gradient` are valid for the grid, whose outputs lie in `gradient`.
    unsafe fn weight_gradient_part(&self, map: *const f32, grid: Grid, gradient: *const f32, dw: &mut [f32]) {
        let (plan, outputs, dw) = (&self.weights, self.shape.outputs, dw.as_mut_ptr());
        if plan.is_depthwise {
            // SAFETY: as promised by the caller.
            return unsafe { depthwise_weight(map, grid, gradient, outputs, dw) };
        }
        for group in 0..plan.groups {
            let (first, channels) = (group * plan.channels, plan.channels);
            let map = map.wrapping_add(group * plan.sees);
            // SAFETY: as promised by the caller, for each group.
            unsafe {
                let values = gradient.add(first);
                let gradient = Gradient { values, pixel: outputs, row: grid.out_row, channels };
                weight_gradient(map, grid, gradient, dw.add(first), outputs);
            }
        }
    }

    fn input_gradient(&self, map: &[f32], packed: &[f32], dx: &mut [f32]) {
        let multiplier = self.input.repeat;
        let wide = if multiplier > 1 { dx.len() * multiplier } else { 0 };
        with_scratch(wide, |wide| {
            let out = if multiplier > 1 { wide.as_mut_ptr() } else { dx.as_mut_ptr() };
            let mut first = 0;
            for plan in &self.phases {
                let packed = packed[first..].as_ptr();
                let operands = Operands { map: map.as_ptr(), packed, bias: None, relu: false };
                // SAFETY: the map is the gradient that the phases were planned for, `out` the input of one image.
                unsafe { run(plan, operands, out) };
                first += plan.packed_len();
            }
            for (value, parts) in dx.iter_mut().zip(wide.chunks_exact(multiplier)) {
                *value = parts.iter().sum();
            }
        });
    }
}

/// The taps of a depthwise correlation, `[tap, channel]`, rows filled up to whole panels.
fn pack_taps(weight: &[f32], plan: &Correlation, packed: &mut [f32]) {
    let channels = plan.channels;
    for (lanes, &tap) in packed.chunks_exact_mut(channels.next_multiple_of(PANEL)).zip(&plan.taps) {
        lanes[..channels].copy_from_slice(&weight[tap * channels..][..channels]);
        lanes[channels..].fill(0.0);
    }
}
