//! A chain of passes over a source: any byte of what the last would write can be asked for, and is worked out from the
//! source through every pass between. Nothing in between is stored.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::buffers::{Buffer, Bytes, Pool};
use crate::error::{Error, Fault, Result};
use crate::header::Header;
use crate::order::{Ordered, order_plan};
use crate::pass::{Block, Decision, Output, Pass, Plan, Read, RowReport, Scope, Span, Unit};
use crate::tensors::Tensors;

/// One pass of a chain with its plan and what was decided.
pub(crate) struct Stage<'a> {
    pub(crate) pass: &'a dyn Pass,
    pub(crate) plan: Plan,
    pub(crate) ordered: Ordered,
    input: Header,
    of_unit: Vec<OnceLock<Decision>>,
    of_model: OnceLock<Decision>,
    nothing: Decision,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(pass: &'a dyn Pass, input: Header) -> Result<Self> {
        let plan = pass.plan(&input)?;
        plan.check_names()?;
        let ordered = order_plan(&plan);
        let of_unit = plan.units.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { pass, ordered, of_unit, of_model: OnceLock::new(), nothing: Arc::new(()), input, plan })
    }

    /// Takes the plan that the decision over the whole model allows.
    pub(crate) fn replan(&mut self) -> Result<()> {
        let Some(decision) = self.of_model.get() else { return Ok(()) };
        if let Some(plan) = self.pass.replan(&self.input, &self.plan, decision)? {
            plan.check_names()?;
            self.ordered = order_plan(&plan);
            self.plan = plan;
        }
        Ok(())
    }

    pub(crate) fn decision(&self, unit: usize) -> Option<&Decision> {
        match self.plan.units[unit].scope {
            Scope::Block => None,
            Scope::Unit => self.of_unit[unit].get(),
            Scope::Model => self.of_model.get(),
        }
    }

    pub(crate) fn is_decided(&self, unit: usize) -> bool {
        self.plan.units[unit].scope == Scope::Block || self.decision(unit).is_some()
    }

    pub(crate) fn decide_unit(&self, unit: usize, decision: Decision) {
        // Two workers may come to the same decision; either will do.
        let _ = self.of_unit[unit].set(decision);
    }

    pub(crate) fn decide_model(&self, decision: Decision) {
        let _ = self.of_model.set(decision);
    }

    /// Units that are decided together, with their positions.
    pub(crate) fn units_of(&self, scope: Scope) -> Vec<usize> {
        (0..self.plan.units.len()).filter(|&u| self.plan.units[u].scope == scope).collect()
    }

    /// The bytes that `rows` own in a part.
    pub(crate) fn part_range(&self, unit: usize, write: usize, rows: &Range<usize>) -> Range<u64> {
        let part = &self.plan.units[unit].writes[write];
        let total = part.info.bytes();
        match part.span {
            Span::Whole if rows.start > 0 => total..total,
            Span::Ragged { .. } => {
                let decision = self.decision(unit).unwrap_or(&self.nothing);
                self.pass.ragged(&self.plan.units[unit], unit, write, rows, decision)
            }
            _ => part.span.range(rows, total).expect("only ragged parts have no range"),
        }
    }

    /// The rows to work out for some bytes of a part, in whole quanta.
    fn rows_of(&self, unit: usize, write: usize, bytes: &Range<u64>) -> Range<usize> {
        let u = &self.plan.units[unit];
        let quantum = u.row_quantum.max(1);
        let whole = |begin: usize, end: usize| {
            let begin = begin / quantum * quantum;
            begin.min(u.rows)..end.next_multiple_of(quantum).min(u.rows)
        };
        match &u.writes[write].span {
            Span::Every { rows, bytes: piece } => {
                let piece = (*piece).max(1) as u64;
                let begin = (bytes.start / piece) as usize * rows;
                let end = bytes.end.div_ceil(piece) as usize * rows;
                whole(begin, end)
            }
            Span::Whole => 0..quantum.min(u.rows),
            Span::Ragged { .. } => {
                let quanta = u.rows.div_ceil(quantum);
                let begin_of = |q: usize| {
                    let rows = q * quantum..((q + 1) * quantum).min(u.rows);
                    self.part_range(unit, write, &rows).start
                };
                // The last quantum that begins at or before the first byte, the first that begins at or after the last.
                let first = partition(quanta, |q| begin_of(q) <= bytes.start).saturating_sub(1);
                let last = partition(quanta, |q| begin_of(q) < bytes.end);
                whole(first * quantum, last * quantum)
            }
        }
    }
}

/// How many of `0..count` satisfy a claim that holds for a prefix.
fn partition(count: usize, claim: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = (low + high) / 2;
        if claim(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Source bytes that a window holds in memory: per tensor one range.
#[derive(Default)]
pub(crate) struct Cache {
    pub(crate) arena: Vec<u8>,
    /// Tensor → first byte in the tensor, where it stands in the arena, how many bytes.
    pub(crate) ranges: HashMap<usize, (u64, usize, usize)>,
}

impl Cache {
    fn get(&self, tensor: usize, range: &Range<u64>) -> Option<&[u8]> {
        let &(begin, at, length) = self.ranges.get(&tensor)?;
        if range.start < begin || range.end > begin + length as u64 {
            return None;
        }
        let from = at + (range.start - begin) as usize;
        Some(&self.arena[from..from + (range.end - range.start) as usize])
    }
}

/// Row reports of a window: stage, unit, first row, and one entry a row.
pub(crate) type Reports = Mutex<Vec<(usize, usize, usize, Vec<RowReport>)>>;

/// What a worker needs to ask the chain for bytes.
#[derive(Clone, Copy)]
pub(crate) struct Context<'w> {
    pub(crate) cache: &'w Cache,
    pub(crate) pool: &'w Pool,
    /// Where row reports go; none while only looking.
    pub(crate) reports: Option<&'w Reports>,
}

/// A source and the passes over it.
pub(crate) struct Chain<'a> {
    /// How errors name the source; empty when the caller names it.
    pub(crate) name: &'a str,
    pub(crate) source: &'a dyn Tensors,
    pub(crate) stages: Vec<Stage<'a>>,
}

impl<'a> Chain<'a> {
    /// Puts the source in front of what a pass says.
    pub(crate) fn named(&self, error: Error) -> Error {
        if self.name.is_empty() || error.fault() != Fault::Input || error.message().starts_with(self.name) {
            return error;
        }
        error.within(self.name)
    }

    /// The header that stage `level` reads: that of the source, or what the pass before it writes.
    pub(crate) fn header(&self, level: usize) -> &Header {
        if level == 0 { self.source.header() } else { &self.stages[level - 1].ordered.header }
    }

    /// The tensor of the source that stage `level` reads as it is, if it does.
    pub(crate) fn copied(&self, level: usize, tensor: usize) -> Option<usize> {
        let Some(level) = level.checked_sub(1) else { return Some(tensor) };
        let stage = &self.stages[level];
        let unit = &stage.plan.units[stage.ordered.parts[tensor].0];
        unit.is_copy.then(|| self.copied(level, unit.reads[0].tensor))?
    }

    /// The bytes of a tensor as stage `level` reads it.
    pub(crate) fn fetch<'w>(
        &'w self,
        context: Context<'w>,
        level: usize,
        tensor: usize,
        range: Range<u64>,
    ) -> Result<Bytes<'w>> {
        let length = (range.end - range.start) as usize;
        if level == 0 {
            if let Some(bytes) = context.cache.get(tensor, &range) {
                return Ok(Bytes::Borrowed(bytes));
            }
            let mut buffer = context.pool.take(length);
            self.source.read(tensor, range.start, &mut buffer)?;
            return Ok(Bytes::Owned(buffer));
        }
        let stage = &self.stages[level - 1];
        let (unit, write) = stage.ordered.parts[tensor];
        let u = &stage.plan.units[unit];
        if u.is_copy {
            return self.fetch(context, level - 1, u.reads[0].tensor, range);
        }
        if range.is_empty() {
            return Ok(Bytes::Borrowed(&[]));
        }
        let rows = stage.rows_of(unit, write, &range);
        let part = stage.part_range(unit, write, &rows);
        let produced = self.produce(context, level - 1, unit, rows)?;
        let bytes = &produced[write];
        let from = (range.start - part.start) as usize;
        if from == 0 && length == bytes.len() {
            let own = produced.into_iter().nth(write).expect("the part was indexed above");
            return Ok(Bytes::Owned(own));
        }
        let mut buffer = context.pool.take(length);
        buffer.copy_from_slice(&bytes[from..from + length]);
        Ok(Bytes::Owned(buffer))
    }

    /// The bytes of every read of a unit for some rows.
    pub(crate) fn inputs<'w>(
        &'w self,
        context: Context<'w>,
        s: usize,
        unit: usize,
        rows: &Range<usize>,
    ) -> Result<Vec<Bytes<'w>>> {
        let u = &self.stages[s].plan.units[unit];
        let mut inputs = Vec::with_capacity(u.reads.len());
        for read in &u.reads {
            let total = self.header(s).tensors[read.tensor].bytes();
            let range = match read.span.range(rows, total) {
                Some(range) => range,
                None => self.ragged_range(context, s, u, read, rows).map_err(|e| self.named(e))?,
            };
            inputs.push(self.fetch(context, s, read.tensor, range)?);
        }
        Ok(inputs)
    }

    /// Where ragged rows lie, from the I64 tensor of row offsets beside them.
    fn ragged_range(
        &self,
        context: Context<'_>,
        s: usize,
        unit: &Unit,
        read: &Read,
        rows: &Range<usize>,
    ) -> Result<Range<u64>> {
        let info = &self.header(s).tensors[read.tensor];
        let Span::Ragged { offsets } = read.span else { return Ok(0..info.bytes()) };
        let offsets = unit.reads[offsets].tensor;
        let width = (info.dtype.bitsize() / 8) as u64;
        let at = |row: usize| -> Result<u64> {
            if row >= unit.rows {
                return Ok(info.bytes());
            }
            let begin = row as u64 * 8;
            let bytes = self.fetch(context, s, offsets, begin..begin + 8)?;
            let element = i64::from_le_bytes(bytes[..8].try_into().expect("eight bytes were fetched"));
            u64::try_from(element).ok().and_then(|e| e.checked_mul(width)).filter(|&b| b <= info.bytes()).ok_or_else(
                || {
                    Error::input(format!(
                        "tensor `{}`: row {row} begins at element {element} of `{}`, which has {}",
                        unit.name,
                        info.name,
                        info.elements()
                    ))
                },
            )
        };
        let (begin, end) = (at(rows.start)?, at(rows.end)?);
        if end < begin {
            return Err(Error::input(format!(
                "tensor `{}`: row offsets go backwards after row {}",
                unit.name, rows.start
            )));
        }
        Ok(begin..end)
    }

    /// Works out the parts of a unit for some rows.
    pub(crate) fn produce<'w>(
        &'w self,
        context: Context<'w>,
        s: usize,
        unit: usize,
        rows: Range<usize>,
    ) -> Result<Vec<Buffer<'w>>> {
        let stage = &self.stages[s];
        let u = &stage.plan.units[unit];
        let inputs = self.inputs(context, s, unit, &rows)?;
        let mut parts: Vec<Buffer<'w>> = (0..u.writes.len())
            .map(|w| {
                let range = stage.part_range(unit, w, &rows);
                context.pool.take((range.end - range.start) as usize)
            })
            .collect();
        let block = Block { rows, inputs: inputs.iter().map(|b| &**b).collect() };
        let mut output = Output { parts: parts.iter_mut().map(|b| &mut **b).collect(), report: Vec::new() };
        stage.pass.apply(u, unit, &block, stage.decision(unit), &mut output).map_err(|e| self.named(e))?;
        if let Some(reports) = context.reports
            && !output.report.is_empty()
        {
            let report = std::mem::take(&mut output.report);
            reports.lock().unwrap_or_else(PoisonError::into_inner).push((s, unit, block.rows.start, report));
        }
        Ok(parts)
    }

    /// Calls `found` with every source range that some rows of a unit of stage `s` need, and every unit on the way.
    pub(crate) fn needs(&self, s: usize, unit: usize, rows: &Range<usize>, found: &mut dyn FnMut(Need)) {
        found(Need::Unit { stage: s, unit });
        let u = &self.stages[s].plan.units[unit];
        for read in &u.reads {
            let total = self.header(s).tensors[read.tensor].bytes();
            // Ragged pieces depend on the data; the whole tensor is sure to hold them.
            let range = read.span.range(rows, total).unwrap_or(0..total);
            self.needs_bytes(s, read.tensor, range, found);
        }
    }

    fn needs_bytes(&self, level: usize, tensor: usize, range: Range<u64>, found: &mut dyn FnMut(Need)) {
        if level == 0 {
            return found(Need::Source { tensor, range });
        }
        let stage = &self.stages[level - 1];
        let (unit, write) = stage.ordered.parts[tensor];
        let u = &stage.plan.units[unit];
        if u.is_copy {
            return self.needs_bytes(level - 1, u.reads[0].tensor, range, found);
        }
        // What must be looked at first needs all of its rows, not only these.
        let rows = if stage.is_decided(unit) { stage.rows_of(unit, write, &range) } else { 0..u.rows };
        self.needs(level - 1, unit, &rows, found);
    }
}

/// Something that must be there before some rows can be worked out.
pub(crate) enum Need {
    /// Bytes of the source.
    Source { tensor: usize, range: Range<u64> },
    /// A unit of a stage, decided if its scope asks for it.
    Unit { stage: usize, unit: usize },
}
