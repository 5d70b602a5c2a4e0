//! The way back from bitmask storage: every `sparse-bitmask` tensor becomes dense again, under its own name.
//!
//! Reads what [`crate::Prune`] stored (by `dlopt.layout`), and files of compressed-tensors up to 0.12 that have the parts
//! and no layout: `sparse-bitmask` (`NAME.compressed`, `.bitmask`, `.row_offsets`, `.shape`) and `sparse-24-bitmask`
//! (`MODULE.compressed` `[rows, columns / 2]`, `.bitmask`, `.shape`; the tensor is `MODULE.weight`). Without a layout
//! the extents of a `sparse-bitmask` stand in the data only, so the pass looks at `NAME.shape` before it plans.
//! What a pass before pruning put into `dlopt.layout` for other tensors is left there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use dlopt_checkpoint::{
    Block, Decision, Dtype, Error, HISTORY_KEY, Header, LAYOUT_KEY, Note, Output, Partial, Pass, Plan, Read, Result,
    Scope, Span, Step, StoredTensor, TensorInfo, Unit, Write, dtype_named, extend_history, layout_text, read_layout,
    tensor_bytes,
};
use serde_json::json;

use crate::stores::bitmask::{FORMAT, ROLES};

/// The older layout that holds two of each four.
const FORMAT_24: &str = "sparse-24-bitmask";

/// Makes bitmask storage dense again; everything else goes through untouched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Densify;

/// One stored tensor.
struct Found {
    /// What it becomes.
    info: TensorInfo,
    /// Positions of `compressed`, `bitmask`, `row_offsets` (not in the older layout) and `shape` (not needed when
    /// there is a layout) in the input.
    parts: [Option<usize>; 4],
    rows: usize,
    columns: usize,
    /// The extents of `info` are a guess until `shape` was read.
    is_guess: bool,
}

/// What was read of the shapes, by the unit's place in the plan.
type Shapes = BTreeMap<usize, Vec<usize>>;

impl Pass for Densify {
    fn verb(&self) -> &'static str {
        "convert"
    }

    fn options(&self) -> serde_json::Value {
        json!({ "decompress": FORMAT })
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        let mut layout = read_layout(input)?;
        let found = find(input, &layout)?;
        layout.retain(|_, stored| stored.format != FORMAT);
        let mut plan = Plan { metadata: input.metadata.clone(), ..Plan::default() };
        if layout.is_empty() {
            plan.metadata.remove(LAYOUT_KEY);
        } else {
            plan.metadata.insert(LAYOUT_KEY.to_owned(), layout_text(layout));
        }
        if !found.is_empty() {
            plan.metadata.insert(HISTORY_KEY.to_owned(), extend_history(input, self.verb(), self.options())?);
        }
        // A stored tensor stands where its first part stood.
        let parts: BTreeSet<usize> = found.iter().flat_map(|f| f.parts).flatten().collect();
        let mut first_part: BTreeMap<usize, Found> =
            found.into_iter().filter_map(|f| Some((f.parts.into_iter().flatten().min()?, f))).collect();
        for (index, tensor) in input.tensors.iter().enumerate() {
            if let Some(found) = first_part.remove(&index) {
                plan.notes.push(Note {
                    tensor: found.info.name.clone(),
                    kind: if found.parts[2].is_some() { FORMAT } else { FORMAT_24 }.to_owned(),
                    action: "make dense".to_owned(),
                    reason: "stored as a bitmask".to_owned(),
                });
                plan.units.push(unit(&found));
            } else if !parts.contains(&index) {
                plan.units.push(Unit::copy(index, tensor));
            }
        }
        plan.check_names()?;
        Ok(plan)
    }

    fn replan(&self, _input: &Header, plan: &Plan, decision: &Decision) -> Result<Option<Plan>> {
        let shapes = decision.downcast_ref::<Shapes>().expect("the executor hands back what was decided");
        let mut plan = plan.clone();
        for (position, shape) in shapes {
            let unit = &mut plan.units[*position];
            let size = unit.writes[0].info.dtype.bitsize() / 8;
            let columns = check_shape(unit, shape)?;
            unit.writes[0].info.shape.clone_from(shape);
            unit.writes[0].span = Span::row(columns * size);
        }
        Ok(Some(plan))
    }

    fn sizes_need_a_look(&self) -> bool {
        true
    }

    fn begin(&self, _so_far: Option<&Decision>) -> Partial {
        Box::new(Shapes::new())
    }

    fn looks_at(&self, _unit: &Unit, rows: &Range<usize>, _so_far: Option<&Decision>) -> bool {
        rows.start == 0
    }

    fn survey(
        &self,
        unit: &Unit,
        position: usize,
        block: &Block<'_>,
        _so_far: Option<&Decision>,
        partial: &mut Partial,
    ) -> Result<()> {
        let shapes = partial.downcast_mut::<Shapes>().expect("the executor hands back what `begin` made");
        let shape = block.inputs[3].as_chunks().0.iter().map(|dim| usize::try_from(i64::from_le_bytes(*dim)).ok());
        let shape = shape.collect::<Option<Vec<_>>>();
        shapes.insert(position, shape.ok_or_else(|| broken(unit, "its shape has a negative extent"))?);
        Ok(())
    }

    fn merge(&self, into: &mut Partial, from: Partial) {
        let into = into.downcast_mut::<Shapes>().expect("the executor merges what `begin` made");
        into.extend(*from.downcast::<Shapes>().expect("the executor merges what `begin` made"));
    }

    fn decide(&self, _units: &[(usize, &Unit)], _so_far: Option<&Decision>, all: Partial) -> Result<Step> {
        let shapes = all.downcast::<Shapes>().expect("the executor hands back what `begin` made");
        Ok(Step::Done(Arc::new(*shapes)))
    }

    fn apply(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        _decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let size = unit.writes[0].info.dtype.bitsize() / 8;
        let Span::Every { bytes: row_bytes, .. } = unit.writes[0].span else { unreachable!("planned row by row") };
        let mut kept = block.inputs[0];
        let is_24 = unit.reads.len() < 3;
        let mask_bytes = (row_bytes / size).div_ceil(8);
        let base = if is_24 { None } else { offset(block.inputs[2], 0) };
        let mut taken = 0;
        for i in 0..block.rows.len() {
            let row = block.rows.start + i;
            let bits = &block.inputs[1][i * mask_bytes..(i + 1) * mask_bytes];
            let out = &mut output.parts[0][i * row_bytes..(i + 1) * row_bytes];
            if !is_24 {
                check_offset(unit, row, offset(block.inputs[2], i), base, taken)?;
            }
            let stored = fill_row(unit, row, bits, size, &mut kept, out)?;
            taken += stored;
            if is_24 && stored * 2 != row_bytes / size {
                return Err(broken(unit, &format!("row {row} stores {stored} weights, not two of each four")));
            }
        }
        if !kept.is_empty() {
            let row = block.rows.end.saturating_sub(1);
            return Err(broken(unit, &format!("row {row} has {} more weights than its bits say", kept.len() / size)));
        }
        Ok(())
    }
}

fn broken(unit: &Unit, what: &str) -> Error {
    Error::input(format!("tensor `{}`: {what}", unit.name)).hint("the file is damaged: fetch it again")
}

/// The offset of a row of this block.
fn offset(offsets: &[u8], row: usize) -> Option<i64> {
    offsets.as_chunks().0.get(row).map(|b| i64::from_le_bytes(*b))
}

fn check_offset(unit: &Unit, row: usize, found: Option<i64>, base: Option<i64>, taken: usize) -> Result<()> {
    let expected = if row == 0 { Some(0) } else { base.and_then(|b| b.checked_add(taken as i64)) };
    if found.is_some() && found == expected {
        return Ok(());
    }
    let say = |offset: Option<i64>| offset.map_or("nowhere".to_owned(), |o| o.to_string());
    Err(broken(unit, &format!("row {row} begins at {}, its bits say {}", say(found), say(expected))))
}

/// Spreads the kept weights of one row. Returns how many there are.
fn fill_row(unit: &Unit, row: usize, bits: &[u8], size: usize, kept: &mut &[u8], out: &mut [u8]) -> Result<usize> {
    out.fill(0);
    let columns = out.len() / size;
    let stored: usize = bits.iter().map(|b| b.count_ones() as usize).sum();
    if bits.last().is_some_and(|last| !columns.is_multiple_of(8) && last >> (columns % 8) != 0) {
        return Err(broken(unit, &format!("row {row} has bits past its {columns} columns")));
    }
    let Some((own, rest)) = kept.split_at_checked(stored * size) else {
        let held = kept.len() / size;
        return Err(broken(unit, &format!("row {row} should store {stored} weights, {held} are left")));
    };
    *kept = rest;
    let mut own = own.chunks_exact(size);
    for (byte, out) in bits.iter().zip(out.chunks_mut(8 * size)) {
        let mut byte = *byte;
        while byte != 0 {
            let at = byte.trailing_zeros() as usize * size;
            byte &= byte - 1;
            if let Some(weight) = own.next() {
                out[at..at + size].copy_from_slice(weight);
            }
        }
    }
    Ok(stored)
}

/// The columns that a shape gives, when it agrees with the other parts.
fn check_shape(unit: &Unit, shape: &[usize]) -> Result<usize> {
    let Span::Every { bytes: mask_bytes, .. } = unit.reads[1].span else { unreachable!("planned row by row") };
    let info = &unit.writes[0].info;
    tensor_bytes(info.dtype, shape).map_err(|e| broken(unit, e.message()))?;
    let columns = shape.iter().skip(1).fold(1, |all: usize, &dim| all.saturating_mul(dim));
    if shape.first().copied().unwrap_or(1) != unit.rows || columns.div_ceil(8) != mask_bytes {
        return Err(broken(
            unit,
            &format!("its shape is {shape:?}, its bitmask has {} rows of {mask_bytes} bytes", unit.rows),
        ));
    }
    Ok(columns)
}

/// The unit of a stored tensor.
fn unit(found: &Found) -> Unit {
    let size = found.info.dtype.bitsize() / 8;
    let [compressed, bitmask, offsets, shape] = found.parts;
    let spans = [
        if offsets.is_some() { Span::Ragged { offsets: 2 } } else { Span::row(found.columns / 2 * size) },
        Span::row(found.columns.div_ceil(8)),
        Span::row(8),
        Span::Whole,
    ];
    let is_read = [true, true, offsets.is_some(), found.is_guess];
    Unit {
        name: found.info.name.clone(),
        reads: [compressed, bitmask, offsets, shape]
            .into_iter()
            .zip(spans)
            .zip(is_read)
            .filter_map(|((tensor, span), is_read)| Some(Read { tensor: tensor.filter(|_| is_read)?, span }))
            .collect(),
        writes: vec![Write { info: found.info.clone(), span: Span::row(found.columns * size) }],
        rows: found.rows,
        row_quantum: 1,
        scope: if found.is_guess { Scope::Model } else { Scope::Block },
        key: 0,
        is_copy: false,
    }
}

/// Every tensor that is stored as a bitmask.
fn find(input: &Header, layout: &BTreeMap<String, StoredTensor>) -> Result<Vec<Found>> {
    let by_name = input.by_name();
    let mut found = Vec::new();
    let mut taken = BTreeSet::new();
    for (name, stored) in layout {
        taken.extend(stored.parts.values().map(String::as_str));
        if stored.format == FORMAT {
            found.push(of_layout(input, &by_name, name, stored)?);
        }
    }
    for tensor in &input.tensors {
        if let Some(stem) = tensor.name.strip_suffix(".compressed")
            && !taken.contains(tensor.name.as_str())
        {
            found.extend(bare(input, &by_name, stem)?);
        }
    }
    Ok(found)
}

fn of_layout(input: &Header, by_name: &HashMap<&str, usize>, name: &str, stored: &StoredTensor) -> Result<Found> {
    let bad = |what: String| Error::input(format!("tensor `{name}`: {what}"));
    let dtype = dtype_named(&stored.dtype).filter(|d| d.bitsize() >= 8);
    let dtype = dtype.ok_or_else(|| bad(format!("`{}` is no dtype that a bitmask can store", stored.dtype)))?;
    tensor_bytes(dtype, &stored.shape).map_err(|e| bad(e.message().to_owned()))?;
    let mut parts = [None; 4];
    for (place, role) in parts.iter_mut().zip(ROLES) {
        let part = stored.parts.get(role).ok_or_else(|| bad(format!("the layout names no part `{role}`")))?;
        let index = by_name.get(part.as_str());
        *place = Some(*index.ok_or_else(|| bad(format!("its part `{part}` is not there")))?);
    }
    let rows = stored.shape.first().copied().unwrap_or(1);
    let columns = stored.shape.iter().skip(1).fold(1, |all: usize, &dim| all.saturating_mul(dim));
    let info = TensorInfo::new(name, dtype, stored.shape.clone());
    let found = Found { info, parts, rows, columns, is_guess: false };
    found.check(input)?;
    Ok(found)
}

/// Parts that stand beside each other without a layout; `None` when they are something else.
fn bare(input: &Header, by_name: &HashMap<&str, usize>, stem: &str) -> Result<Option<Found>> {
    let part = |role: &str| by_name.get(format!("{stem}.{role}").as_str()).copied();
    let [Some(compressed), Some(bitmask), offsets, Some(shape)] = ROLES.map(part) else { return Ok(None) };
    let values = &input.tensors[compressed];
    let [rows, mask_bytes] = input.tensors[bitmask].shape[..] else { return Ok(None) };
    if values.dtype.bitsize() < 8 {
        return Ok(None);
    }
    let found = if offsets.is_some() {
        let rank = input.tensors[shape].elements();
        let columns = mask_bytes.saturating_mul(8);
        // The last byte of a row may be used in part: the true extents are in `shape`, which is read first.
        let mut guess = vec![1; rank.clamp(2, 8)];
        (guess[0], guess[1]) = (rows, columns);
        let info = TensorInfo::new(stem, values.dtype, guess);
        Found { info, parts: [Some(compressed), Some(bitmask), offsets, Some(shape)], rows, columns, is_guess: true }
    } else {
        let [_, half] = values.shape[..] else { return Ok(None) };
        let columns = half.saturating_mul(2);
        let info = TensorInfo::new(format!("{stem}.weight"), values.dtype, vec![rows, columns]);
        Found { info, parts: [Some(compressed), Some(bitmask), None, Some(shape)], rows, columns, is_guess: false }
    };
    tensor_bytes(found.info.dtype, &found.info.shape).map_err(|e| e.within(format!("tensor `{}`", found.info.name)))?;
    found.check(input)?;
    Ok(Some(found))
}

impl Found {
    /// Refuses parts whose dtypes or shapes do not fit.
    fn check(&self, input: &Header) -> Result<()> {
        let part = |i: usize| self.parts[i].map(|p| &input.tensors[p]);
        let refuse = |part: &TensorInfo, wanted: String| {
            Err(Error::input(format!(
                "tensor `{}`: its part `{}` is {:?} {:?}, not {wanted}",
                self.info.name, part.name, part.dtype, part.shape
            ))
            .hint("the file is damaged: fetch it again"))
        };
        let mask_bytes = self.columns.div_ceil(8);
        let is_24 = self.parts[2].is_none();
        if let Some(values) = part(0) {
            let fits = if is_24 {
                values.shape == [self.rows, self.columns / 2]
            } else {
                values.shape.len() == 1 && values.elements() <= self.info.elements()
            };
            if values.dtype != self.info.dtype || !fits {
                return refuse(values, format!("the kept weights of {:?} {:?}", self.info.dtype, self.info.shape));
            }
        }
        if let Some(bits) = part(1)
            && (bits.dtype != Dtype::U8 || bits.shape != [self.rows, mask_bytes])
        {
            return refuse(bits, format!("U8 [{}, {mask_bytes}]", self.rows));
        }
        if let Some(offsets) = part(2)
            && (offsets.dtype != Dtype::I64 || offsets.shape != [self.rows])
        {
            return refuse(offsets, format!("I64 [{}]", self.rows));
        }
        if let Some(shape) = part(3)
            && (shape.dtype != Dtype::I64 || shape.elements() > 8)
        {
            return refuse(shape, "the extents, I64".to_owned());
        }
        Ok(())
    }
}
