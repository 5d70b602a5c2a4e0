//! Sparse matrices: which layouts one holds, and how work on them is spread.

use std::ops::Range;

use super::blocked::{Blocked, MOST_ROWS};
use super::lanes::Weight;
use super::listed::{Listed, MOST_INPUTS};
use super::rows::Rows;
use super::target::Target;
use super::transpose::transpose;
use super::windowed::Windowed;
use crate::compressed::lines::with_lines;
use crate::compressed::{Codes, Product};
use crate::level::{Level, level};
use crate::nn::Team;

/// How many rows of activations a matrix will see at a time; it works for others too, but slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// One, or a few.
    OneRow,
    /// Many: batches, sequences.
    ManyRows,
    /// Either: the matrix is held twice.
    Both,
}

/// A matrix `[outputs, inputs]` of which only the weights that are not 0 are in memory.
///
/// An output is one chain of fused multiply-adds in ascending order of inputs, which begins at the bias: where activations
/// are finite, what [`crate::nn::Dense`] computes. With codes the chain is that of code times activation, and the
/// result `bias + scale * sum`. Layout and kernel decide no byte. Where an activation is infinite or NaN, outputs without a
/// weight for it may become NaN too.
#[derive(Debug)]
pub struct SparseMatrix {
    outputs: usize,
    inputs: usize,
    nonzeros: usize,
    layouts: Layouts,
    /// One for each output where the weights are codes.
    scale: Option<Vec<f32>>,
}

#[derive(Debug)]
enum Layouts {
    Floats(Layout<f32>),
    Codes(Layout<i8>),
}

#[derive(Debug)]
struct Layout<W> {
    one: Option<One<W>>,
    many: Option<Blocked<W>>,
}

#[derive(Debug)]
enum One<W> {
    Windowed(Windowed<W>),
    Listed(Listed<W>),
}

/// Rows that are taken one by one where both layouts are there.
const FEW_ROWS: usize = 4;

/// Weights whose product is worth a task.
const TASK_WEIGHTS: usize = 1 << 15;

/// Inputs that a task transposes.
const TASK_INPUTS: usize = 256;

/// The width of the narrowest panel.
const LEAST_WIDTH: usize = 16;

/// Panels that are worked on at a time.
const PANELS: usize = 8;

impl SparseMatrix {
    /// Packs a matrix for a use; `row` writes a row of weights, and is called once for each output, in order.
    ///
    /// # Panics
    /// When there are no outputs or no inputs, or more than 2^31.
    pub fn pack(outputs: usize, inputs: usize, purpose: Use, row: &mut dyn FnMut(usize, &mut [f32])) -> Self {
        let rows = Rows::read(outputs, inputs, row);
        let layouts = Layouts::Floats(Layout::pack(&rows, purpose));
        Self { outputs, inputs, nonzeros: rows.nonzeros(), layouts, scale: None }
    }

    /// Packs a matrix of codes, which stay bytes in memory.
    ///
    /// # Panics
    /// When the codes have more than one scale a row or zero points, and as [`Self::pack`] does.
    pub fn pack_codes(codes: Codes, purpose: Use) -> Self {
        let Codes { outputs, inputs, group, scale, zero, row, .. } = codes;
        assert!(group >= inputs && scale.len() == outputs, "one scale for each output");
        assert!(zero.iter().all(|&zero| zero == 0), "a weight of 0 has the code 0");
        let rows = Rows::read(outputs, inputs, row);
        let layouts = Layouts::Codes(Layout::pack(&rows, purpose));
        Self { outputs, inputs, nonzeros: rows.nonzeros(), layouts, scale: Some(scale.to_vec()) }
    }

    /// The fraction of weights that are 0.
    pub fn sparsity(&self) -> f64 {
        1.0 - self.nonzeros as f64 / (self.outputs as f64 * self.inputs as f64)
    }

    /// The name of the layout that one row is multiplied with, and of that for many.
    pub fn layout_names(&self) -> [Option<&'static str>; 2] {
        match &self.layouts {
            Layouts::Floats(layout) => layout.names(),
            Layouts::Codes(layout) => layout.names(),
        }
    }
}

impl Product for SparseMatrix {
    fn extents(&self) -> [usize; 2] {
        [self.outputs, self.inputs]
    }

    fn bytes(&self) -> usize {
        let layouts = match &self.layouts {
            Layouts::Floats(layout) => layout.bytes(),
            Layouts::Codes(layout) => layout.bytes(),
        };
        layouts + self.scale.as_ref().map_or(0, |scale| size_of_val(&**scale))
    }

    fn multiply(&self, team: &Team, rows: usize, x: &[f32], bias: Option<&[f32]>, relu: bool, out: &mut [f32]) {
        assert_eq!(Some(x.len()), rows.checked_mul(self.inputs), "values of the inputs");
        assert!(bias.is_none_or(|bias| bias.len() == self.outputs), "one bias for each output");
        assert_eq!(Some(out.len()), rows.checked_mul(self.outputs), "values of the outputs");
        let target = Target::new(bias, self.scale.as_deref(), relu, out);
        let extents = [self.outputs, self.inputs];
        match &self.layouts {
            Layouts::Floats(layout) => layout.multiply(team, extents, rows, x, target),
            Layouts::Codes(layout) => layout.multiply(team, extents, rows, x, target),
        }
    }
}

impl<W: Weight> Layout<W> {
    fn pack(rows: &Rows<W>, purpose: Use) -> Self {
        Self {
            one: (purpose != Use::ManyRows).then(|| One::pack(rows)),
            many: (purpose != Use::OneRow).then(|| Blocked::pack(rows)),
        }
    }

    fn names(&self) -> [Option<&'static str>; 2] {
        let one = self.one.as_ref().map(|one| match one {
            One::Windowed(_) => "windowed",
            One::Listed(_) => "listed",
        });
        [one, self.many.as_ref().map(|_| "blocked")]
    }

    fn bytes(&self) -> usize {
        self.one.as_ref().map_or(0, One::bytes) + self.many.as_ref().map_or(0, Blocked::bytes)
    }

    fn multiply(&self, team: &Team, extents: [usize; 2], rows: usize, x: &[f32], target: Target) {
        match (&self.one, &self.many) {
            (Some(one), many) if many.is_none() || rows <= FEW_ROWS => {
                for (row, x) in x.chunks_exact(extents[1]).enumerate() {
                    one.multiply(team, x, target.rows(row, extents[0]));
                }
            }
            (_, Some(many)) => panels(many, team, extents, rows, x, target),
            (_, None) => {}
        }
    }
}

/// All rows, in panels of up to 64, several at a time.
fn panels<W: Weight>(
    matrix: &Blocked<W>,
    team: &Team,
    [outputs, inputs]: [usize; 2],
    rows: usize,
    x: &[f32],
    target: Target,
) {
    let mut first = 0;
    let mut most = MOST_ROWS;
    // Few outputs still make work for all threads.
    while most > LEAST_WIDTH && rows.div_ceil(most) * matrix.groups() < team.threads() {
        most /= 2;
    }
    while first < rows {
        let batch = &cut(rows - first, most)[..];
        let width: usize = batch.iter().map(|panel| panel.width).sum();
        with_lines(width * inputs, |panels| {
            let base = Base(panels.as_mut_ptr());
            let pieces = inputs.div_ceil(TASK_INPUTS);
            team.run(batch.len() * pieces, |task| {
                let (panel, piece) = (&batch[task / pieces], task % pieces * TASK_INPUTS);
                let columns = TASK_INPUTS.min(inputs - piece);
                let from = &x[(first + panel.row) * inputs + piece..];
                // SAFETY: every task writes its own inputs of its own panel.
                unsafe {
                    let to = base.at(panel.start * inputs + piece * panel.width);
                    transpose(from.as_ptr(), inputs, panel.rows, columns, to, panel.width);
                    // What is missing is computed too, and must not be slow or trap.
                    for column in 0..columns {
                        to.add(column * panel.width + panel.rows).write_bytes(0, panel.width - panel.rows);
                    }
                }
            });
            let panels = &*panels;
            let groups = matrix.groups();
            team.run(batch.len() * groups, |task| {
                let (panel, group) = (&batch[task / groups], task % groups);
                let values = &panels[panel.start * inputs..][..panel.width * inputs];
                matrix.multiply(group, panel.rows, panel.width, values, target.rows(first + panel.row, outputs));
            });
        });
        first += batch.iter().map(|panel| panel.rows).sum::<usize>();
    }
}

struct Base(*mut f32);
// SAFETY: tasks write disjoint places through it.
unsafe impl Sync for Base {}
impl Base {
    unsafe fn at(&self, place: usize) -> *mut f32 {
        // SAFETY: the caller stays within the scratch.
        unsafe { self.0.add(place) }
    }
}

/// Rows that are multiplied together.
struct Panel {
    /// The first row, counted from the batch's.
    row: usize,
    rows: usize,
    width: usize,
    /// Rows of panels before this one, those that only fill them included.
    start: usize,
}

/// The next panels of `left` rows, of at most `most`.
fn cut(left: usize, most: usize) -> Vec<Panel> {
    let (mut panels, mut row, mut start) = (vec![], 0, 0);
    while row < left && panels.len() < PANELS {
        let rows = (left - row).min(most);
        let width = rows.next_power_of_two().max(LEAST_WIDTH);
        panels.push(Panel { row, rows, width, start });
        (row, start) = (row + rows, start + width);
    }
    panels
}

impl<W: Weight> One<W> {
    fn pack(rows: &Rows<W>) -> Self {
        if rows.inputs > MOST_INPUTS {
            return One::Windowed(Windowed::pack(rows));
        }
        let (windowed, listed) = (Windowed::pack(rows), Listed::pack(rows));
        if is_windowed_faster(windowed.slots(), listed.slots(), windowed.bytes()) {
            One::Windowed(windowed)
        } else {
            One::Listed(listed)
        }
    }

    fn bytes(&self) -> usize {
        match self {
            One::Windowed(matrix) => matrix.bytes(),
            One::Listed(matrix) => matrix.bytes(),
        }
    }

    fn multiply(&self, team: &Team, x: &[f32], target: Target) {
        let (tiles, slots) = match self {
            One::Windowed(matrix) => (matrix.tiles(), matrix.slots()),
            One::Listed(matrix) => (matrix.tiles(), matrix.slots()),
        };
        let tasks = (slots / TASK_WEIGHTS).clamp(1, tiles);
        let run = |x: &[f32]| {
            team.run(tasks, |task| {
                let range: Range<usize> = tiles * task / tasks..tiles * (task + 1) / tasks;
                match self {
                    One::Windowed(matrix) => matrix.multiply(range, x, target),
                    One::Listed(matrix) => matrix.multiply(range, x, target),
                }
            });
        };
        match self {
            One::Windowed(matrix) if matrix.prefers_lines() && !x.as_ptr().addr().is_multiple_of(64) => {
                with_lines(x.len(), |copy| {
                    copy.copy_from_slice(x);
                    run(copy);
                });
            }
            _ => run(x),
        }
    }
}

/// Whether windows with `windowed` slots, `bytes` in all, beat a list of `listed` weights.
///
/// On Zen 3 a slot takes about 0.11 ns and a listed weight 0.25 (they look inputs up one by one), but a slot is 4.5 bytes and
/// a listed weight 6: what comes from memory takes as long as it is large. With AVX-512, on
/// Zen 5, a slot takes 0.05 ns in a cache and 0.13 from memory, a listed weight 0.2 and 0.28.
fn is_windowed_faster(windowed: usize, listed: usize, bytes: usize) -> bool {
    let (slots, weights) = match (level(), bytes > 4 << 20) {
        (Level::Avx512 | Level::Amx, false) => (1, 4),
        (Level::Avx512 | Level::Amx, true) => (1, 2),
        (_, false) => (4, 9),
        (_, true) => (3, 4),
    };
    windowed * slots < listed * weights
}
