//! The contract of a pass: what it decides from a header alone, and what it does to blocks of rows.
//!
//! A pass first **plans**: from names, dtypes, shapes and metadata it says every tensor it will write. The plan is cut
//! into **units**, each reading some input tensors and writing some output tensors row by row. If a unit must be looked
//! at before it can be written (a threshold, a scale for the whole tensor) the executor runs rounds of **survey** and
//! **decide**; then **apply** fills the output rows, from many threads, in any order. Passes own no threads, buffers,
//! files or state, so chains can recompute them at will.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::header::{Header, TensorInfo};

/// How the bytes of a tensor belong to the rows of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// Every `rows` rows own the next `bytes` bytes; the last piece ends with the tensor.
    /// `rows` is 1 for plain matrices, 8 for packed int4 zero points, 128 for scales of fp8 blocks.
    Every {
        /// Rows that share one piece.
        rows: usize,
        /// Bytes of a piece.
        bytes: usize,
    },
    /// The whole tensor belongs to every block. When written, it is filled once, with the block that begins at row 0.
    Whole,
    /// Pieces of uneven length. When read, `offsets` is the position in [`Unit::reads`] of the I64 tensor that holds the
    /// first **element** of each row; when written, [`Pass::ragged`] gives the range.
    Ragged {
        /// Position in [`Unit::reads`] of the row offsets; unused when written.
        offsets: usize,
    },
}

impl Span {
    /// One piece of `bytes` bytes for each row.
    pub fn row(bytes: usize) -> Self {
        Self::Every { rows: 1, bytes }
    }

    /// The byte range that `rows` own in a tensor of `total` bytes; `None` when ragged.
    pub fn range(&self, rows: &Range<usize>, total: u64) -> Option<Range<u64>> {
        match self {
            Self::Every { rows: per, bytes } => {
                let begin = (rows.start / per) as u64 * *bytes as u64;
                let end = rows.end.div_ceil(*per) as u64 * *bytes as u64;
                Some(begin.min(total)..end.min(total))
            }
            Self::Whole => Some(0..total),
            Self::Ragged { .. } => None,
        }
    }
}

/// A tensor that a unit reads, by its position in the input header.
#[derive(Clone, Debug)]
pub struct Read {
    /// Position in the input header.
    pub tensor: usize,
    /// Which of its bytes belong to which rows.
    pub span: Span,
}

/// A tensor that a unit writes.
#[derive(Clone, Debug)]
pub struct Write {
    /// What the output header will say.
    pub info: TensorInfo,
    /// Which of its bytes belong to which rows.
    pub span: Span,
}

/// What must be seen before a unit can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Only the block itself.
    Block,
    /// All rows of this unit.
    Unit,
    /// All units of the plan with this scope.
    Model,
}

/// The smallest thing a pass works on: what it reads, what it writes, and how its rows may be cut.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The tensor it is about, as people know it (`fc1.weight`).
    pub name: String,
    /// What it reads.
    pub reads: Vec<Read>,
    /// What it writes.
    pub writes: Vec<Write>,
    /// Its rows.
    pub rows: usize,
    /// Blocks begin at multiples of it.
    pub row_quantum: usize,
    /// What must be seen first.
    pub scope: Scope,
    /// The pass's own key (a position in a table it made while planning).
    pub key: usize,
    /// The tensor goes through untouched, and [`Pass::apply`] is never called.
    pub is_copy: bool,
}

/// Bytes that a copied tensor moves as one row.
pub const COPY_ROW_BYTES: usize = 64 * 1024;

impl Unit {
    /// A unit that carries one tensor through untouched, under its own name.
    pub fn copy(tensor: usize, info: &TensorInfo) -> Self {
        Self::rename(tensor, info, info.name.clone())
    }

    /// A unit that carries one tensor through under another name.
    pub fn rename(tensor: usize, info: &TensorInfo, name: String) -> Self {
        let span = Span::row(COPY_ROW_BYTES);
        Self {
            name: name.clone(),
            reads: vec![Read { tensor, span: span.clone() }],
            writes: vec![Write { info: TensorInfo { name, ..info.clone() }, span }],
            rows: (info.bytes() as usize).div_ceil(COPY_ROW_BYTES),
            row_quantum: 1,
            scope: Scope::Block,
            key: 0,
            is_copy: true,
        }
    }
}

/// Why a tensor is treated as it is, for `--explain` and reports.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Note {
    /// The tensor.
    pub tensor: String,
    /// Its layer kind, by the table of layer kinds.
    pub kind: String,
    /// What is done (`w4a16 group 128`, `skipped`).
    pub action: String,
    /// Why.
    pub reason: String,
}

/// What a pass decided from the header alone.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What it reads and writes. Every input tensor that should survive is in some unit, copied ones too.
    /// Units stand in the order of the input; [`crate::order_plan`] derives the order of the output.
    pub units: Vec<Unit>,
    /// The metadata of the output (`config`, `dlopt.layout`… included).
    pub metadata: std::collections::BTreeMap<String, String>,
    /// Why each tensor is treated as it is.
    pub notes: Vec<Note>,
    /// What people should know before they use the result.
    pub warnings: Vec<String>,
    /// A gate that was not met: the work is done, and the exit code is 3.
    pub gate: Option<String>,
}

/// One block of rows of a unit, as its reads say.
pub struct Block<'a> {
    /// The rows, counted in the unit.
    pub rows: Range<usize>,
    /// The bytes of each read, in the order of [`Unit::reads`].
    pub inputs: Vec<&'a [u8]>,
}

/// What a pass learned from looking; partial results merge exactly, in any order.
pub type Partial = Box<dyn Any + Send>;

/// What a pass concluded from looking (a threshold, a scale).
pub type Decision = Arc<dyn Any + Send + Sync>;

/// What follows a round of looking.
pub enum Step {
    /// Look again, knowing this.
    Again(Decision),
    /// This is the decision.
    Done(Decision),
}

/// What changed in a row (or in any run of weights the pass reports on as one).
#[derive(Clone, Copy, Debug, Default)]
pub struct RowReport {
    /// Weights in it.
    pub weights: u64,
    /// Weights that were zero.
    pub zeros_before: u64,
    /// Weights that are zero now.
    pub zeros_after: u64,
    /// Sum of squares of the weights.
    pub signal: f64,
    /// Sum of squares of the changes.
    pub noise: f64,
    /// Sum of squares of the changes that the plain method would have made (`mse` against `rtn`), when known.
    pub plain_noise: Option<f64>,
    /// Largest absolute change.
    pub max_error: f32,
}

/// Where a pass puts the rows of one block.
pub struct Output<'a> {
    /// One buffer for each of [`Unit::writes`], of exactly the bytes these rows own; every byte must be set.
    /// A [`Span::Whole`] part has its bytes in the block that begins at row 0, and is empty in all others.
    pub parts: Vec<&'a mut [u8]>,
    /// One entry for each row (or other fixed run) of the block, in order. May stay empty.
    pub report: Vec<RowReport>,
}

/// Maps one checkpoint to another. Pure: no interior state, so chains can recompute it.
pub trait Pass: Send + Sync {
    /// The verb, as history and reports name it.
    fn verb(&self) -> &'static str;

    /// The resolved options, as history names them. No time, path or thread count.
    fn options(&self) -> serde_json::Value;

    /// Decides everything that the header allows to decide.
    ///
    /// # Errors
    /// When the pass does not apply to this checkpoint, with what to do about it.
    fn plan(&self, input: &Header) -> Result<Plan>;

    /// A plan whose sizes depend on the weights: called after the survey of [`Scope::Model`] with its decision, before
    /// any byte is written. `None`: the first plan stands.
    ///
    /// # Errors
    /// As [`Pass::plan`].
    fn replan(&self, _input: &Header, _plan: &Plan, _decision: &Decision) -> Result<Option<Plan>> {
        Ok(None)
    }

    /// Whether sizes are known only after looking; then `--dry-run` must look too.
    fn sizes_need_a_look(&self) -> bool {
        false
    }

    /// An empty partial result for a round of looking at `unit` (or, for [`Scope::Model`], at all).
    fn begin(&self, _so_far: Option<&Decision>) -> Partial {
        Box::new(())
    }

    /// Whether this round needs to see these rows at all.
    fn looks_at(&self, _unit: &Unit, _rows: &Range<usize>, _so_far: Option<&Decision>) -> bool {
        true
    }

    /// Looks at one block and adds what it sees to `partial`. `position` is the unit's place in the plan.
    ///
    /// # Errors
    /// When a weight cannot be handled (NaN, infinity).
    fn survey(
        &self,
        _unit: &Unit,
        _position: usize,
        _block: &Block<'_>,
        _so_far: Option<&Decision>,
        _partial: &mut Partial,
    ) -> Result<()> {
        Ok(())
    }

    /// Adds one partial result to another.
    fn merge(&self, _into: &mut Partial, _from: Partial) {}

    /// Concludes a round. `units` are the units it looked at with their places in the plan.
    ///
    /// # Errors
    /// When what was seen allows no decision.
    fn decide(&self, _units: &[(usize, &Unit)], _so_far: Option<&Decision>, _all: Partial) -> Result<Step> {
        Ok(Step::Done(Arc::new(())))
    }

    /// The byte range that `rows` own in a ragged part (`write` is its position in [`Unit::writes`]).
    fn ragged(
        &self,
        _unit: &Unit,
        _position: usize,
        _write: usize,
        _rows: &Range<usize>,
        _decision: &Decision,
    ) -> Range<u64> {
        0..0
    }

    /// Fills the planned parts for one block of rows; called from many threads. Never called for copies.
    ///
    /// # Errors
    /// When a weight cannot be handled (NaN, infinity).
    fn apply(
        &self,
        unit: &Unit,
        position: usize,
        block: &Block<'_>,
        decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()>;
}

impl Plan {
    /// Refuses outputs whose names collide.
    ///
    /// # Errors
    /// When two units write the same name.
    pub fn check_names(&self) -> Result<()> {
        let mut seen = std::collections::HashSet::new();
        for write in self.units.iter().flat_map(|u| &u.writes) {
            if !seen.insert(write.info.name.as_str()) {
                return Err(Error::input(format!("two tensors of the output would be named `{}`", write.info.name))
                    .hint("leave one of them out with --exclude"));
            }
        }
        Ok(())
    }
}
