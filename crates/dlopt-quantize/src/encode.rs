//! One weight from dense rows to codes, scales and zero points.

use std::sync::Arc;

use dlopt_checkpoint::{
    Block, Dtype, Error, Output, Result, RowReport, Scope, Span, Step, TensorInfo, Unit, Write, dtype_name,
};
use dlopt_kernels::{Float, count_zeros, first_nonfinite, narrow, widen};

use crate::codebook::{self, Census};
use crate::formats::{self, CastScratch, Format, Row, cast, float};
use crate::methods::{Encoding, Method, Pair, Scales, Tile};
use crate::{Granularity, Scheme, Storage, zeros};

/// How one weight is encoded; everything that `apply` needs and the unit does not say.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// With the granularity that the weight really gets.
    pub(crate) scheme: Scheme,
    pub(crate) method: &'static dyn Method,
    pub(crate) from: Float,
    pub(crate) allow_nonfinite: bool,
}

/// The dtype that scales are stored in: the weight's own; F64 is worked on as F32.
fn scale_float(from: Float) -> Float {
    if from == Float::F64 { Float::F32 } else { from }
}

/// Weights of a cast that count as one row.
const CAST_ROW: usize = 4096;

/// A unit that casts a tensor, whatever its shape.
pub(crate) fn cast_unit(tensor: usize, info: &TensorInfo, to: Dtype, key: usize) -> Unit {
    let row = |dtype: Dtype| Span::row(CAST_ROW * dtype.bitsize() / 8);
    Unit {
        name: info.name.clone(),
        reads: vec![dlopt_checkpoint::Read { tensor, span: row(info.dtype) }],
        writes: vec![Write { info: TensorInfo { dtype: to, ..info.clone() }, span: row(to) }],
        rows: info.elements().div_ceil(CAST_ROW),
        row_quantum: 1,
        scope: Scope::Block,
        key,
        is_copy: false,
    }
}

/// Casts one block of a [`cast_unit`].
pub(crate) fn apply_cast(
    unit: &Unit,
    block: &Block<'_>,
    from: Float,
    allow_nonfinite: bool,
    output: &mut Output<'_>,
) -> Result<()> {
    let to = unit.writes[0].info.dtype;
    let to_float = float(to).expect("casts are planned between floats");
    let mut scratch = CastScratch::default();
    let runs = block.inputs[0].chunks(CAST_ROW * from.bytes());
    let outs = output.parts[0].chunks_mut(CAST_ROW * to_float.bytes());
    for (row, (bytes, out)) in (block.rows.start..).zip(runs.zip(outs)) {
        let (report, overflow) = cast(from, bytes, to_float, out, &mut scratch);
        if let Some(index) = overflow.filter(|_| !allow_nonfinite) {
            let index = row * CAST_ROW + index;
            return Err(Error::input(format!(
                "tensor `{}` holds a number at index {index} that {} cannot hold",
                unit.name,
                dtype_name(to)
            ))
            .hint("take bf16, or --allow-nonfinite to make it infinite"));
        }
        output.report.push(report);
    }
    Ok(())
}

impl Job {
    pub(crate) fn encoding(&self, format: &'static dyn Format) -> Encoding {
        let Scheme { bits, is_symmetric, .. } = self.scheme;
        Encoding { format, bits, is_symmetric, stored: scale_float(self.from) }
    }

    /// Rows that share scales; 1 where all do.
    pub(crate) fn height(&self) -> usize {
        match self.scheme.granularity {
            Granularity::Block { rows, .. } => rows,
            _ => 1,
        }
    }

    pub(crate) fn group(&self, columns: usize) -> usize {
        match self.scheme.granularity {
            Granularity::Group(size) => size,
            Granularity::Block { columns: width, .. } => width,
            Granularity::Tensor | Granularity::Channel => columns,
        }
    }

    /// The unit that encodes a weight seen as `[rows, columns]`, and its parts by role.
    pub(crate) fn unit(
        &self,
        tensor: usize,
        info: &TensorInfo,
        [rows, columns]: [usize; 2],
        writes_shape: bool,
        key: usize,
    ) -> (Unit, Vec<(&'static str, String)>) {
        let format = match self.scheme.storage {
            Storage::Dense(to) => return (cast_unit(tensor, info, to, key), Vec::new()),
            Storage::Codes(format) => format,
        };
        let (name, bits) = (&info.name, self.scheme.bits);
        let groups = columns.div_ceil(self.group(columns));
        let stored = scale_float(self.from);
        let is_tensor = self.scheme.granularity == Granularity::Tensor;
        let height = self.height();
        let small = |item: usize| match is_tensor {
            true => Span::Whole,
            false => Span::Every { rows: height, bytes: groups * item },
        };
        let small_shape = if is_tensor { vec![1] } else { vec![rows.div_ceil(height), groups] };
        let entries = format.entries(bits);
        let (scale_role, scale_shape) = match entries {
            Some(entries) if is_tensor => ("codebook", vec![entries]),
            Some(entries) => ("codebook", [&small_shape[..], &[entries]].concat()),
            None => ("scale", small_shape.clone()),
        };
        let mut row_quantum = height;

        let codes = format.codes(name, rows, columns, bits);
        let role = if format.packs() { "packed" } else { "codes" };
        let mut roles = vec![(role, codes.name.clone())];
        let mut writes = vec![Write { info: codes, span: Span::row(format.row_bytes(columns, bits)) }];
        let mut add = |role, dtype, shape, span| {
            let name = format!("{name}_{role}");
            roles.push((role, name.clone()));
            writes.push(Write { info: TensorInfo { name, dtype, shape }, span });
        };
        add(scale_role, formats::dtype(stored), scale_shape, small(entries.unwrap_or(1) * stored.bytes()));
        if !self.scheme.is_symmetric && format.packs() {
            let words = vec![(rows * bits as usize).div_ceil(32), groups];
            row_quantum = zeros::quantum(bits);
            let piece = zeros::words(row_quantum, bits) * groups * 4;
            add("zero_point", Dtype::I32, words, Span::Every { rows: row_quantum, bytes: piece });
        } else if !self.scheme.is_symmetric {
            add("zero_point", Dtype::I8, small_shape, small(1));
        }
        if writes_shape && format.packs() {
            add("shape", Dtype::I64, vec![2], Span::Whole);
        }
        let unit = Unit {
            name: name.clone(),
            reads: vec![dlopt_checkpoint::Read { tensor, span: Span::row(columns * self.from.bytes()) }],
            writes,
            rows,
            row_quantum,
            scope: if is_tensor { Scope::Unit } else { Scope::Block },
            key,
            is_copy: false,
        };
        (unit, roles)
    }

    /// Chooses the scales of a tile, or its codebooks.
    pub(crate) fn choose(&self, tile: &Tile<'_>, scales: &mut Scales) {
        let Encoding { format, bits, stored, .. } = *tile.encoding;
        let Some(entries) = format.entries(bits) else { return self.method.choose(tile, scales) };
        scales.scale.clear();
        scales.zero.clear();
        for x in tile.x.chunks(tile.group) {
            let mut census = Census::default();
            census.count(x);
            scales.scale.extend(codebook::table(&census, entries, stored));
        }
    }

    /// Refuses a row with a NaN or an infinity, unless they are allowed.
    fn check(&self, unit: &Unit, row: usize, bytes: &[u8]) -> Result<()> {
        if self.allow_nonfinite {
            return Ok(());
        }
        let Some(at) = first_nonfinite(self.from, bytes) else { return Ok(()) };
        let element = &bytes[at * self.from.bytes()..(at + 1) * self.from.bytes()];
        let mut value = [0.0];
        widen(self.from, element, &mut value);
        Err(nonfinite(unit, value[0], row * (bytes.len() / self.from.bytes()) + at))
    }

    /// Reads one row as f32. Doubles beyond the range of f32 count as infinite.
    fn read(&self, unit: &Unit, row: usize, bytes: &[u8], x: &mut [f32]) -> Result<()> {
        self.check(unit, row, bytes)?;
        widen(self.from, bytes, x);
        if self.from == Float::F64
            && !self.allow_nonfinite
            && let Some(at) = x.iter().position(|x| !x.is_finite())
        {
            return Err(nonfinite(unit, x[at], row * x.len() + at));
        }
        Ok(())
    }

    /// Encodes one block of rows.
    pub(crate) fn apply(
        &self,
        unit: &Unit,
        block: &Block<'_>,
        chosen: Option<&Chosen>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let format = match self.scheme.storage {
            Storage::Dense(_) => return apply_cast(unit, block, self.from, self.allow_nonfinite, output),
            Storage::Codes(format) => format,
        };
        let row_bytes = block.inputs[0].len() / block.rows.len().max(1);
        let columns = row_bytes / self.from.bytes();
        let (encoding, group, height) = (self.encoding(format), self.group(columns), self.height());
        let groups = columns.div_ceil(group);
        let (stored, bits) = (encoding.stored, encoding.bits);
        let (code_bytes, entries) = (format.row_bytes(columns, bits), format.entries(bits).unwrap_or(1));
        let is_tensor = self.scheme.granularity == Granularity::Tensor;
        let quantum = zeros::quantum(bits);
        let packs_zero = !encoding.is_symmetric && format.packs();

        let mut x = vec![0.0; columns * height.min(block.rows.len())];
        let mut codes = Vec::with_capacity(columns);
        let mut scales = Scales::default();
        let mut zeros: Vec<i8> = Vec::with_capacity(quantum * groups);
        output.report.reserve(block.rows.len().div_ceil(height));
        let tiles = block.inputs[0].chunks(row_bytes * height);
        for (t, bytes) in tiles.enumerate() {
            let rows = bytes.len() / row_bytes;
            let first = block.rows.start + t * height;
            let x = &mut x[..rows * columns];
            for (i, (bytes, x)) in bytes.chunks(row_bytes).zip(x.chunks_mut(columns)).enumerate() {
                self.read(unit, first + i, bytes, x)?;
            }
            let tile = Tile { x, columns, group, encoding: &encoding };
            match chosen {
                Some(chosen) => chosen.measure(&tile, self.method, &mut scales),
                None => self.choose(&tile, &mut scales),
            }

            let mut report = RowReport { weights: x.len() as u64, ..RowReport::default() };
            for (i, (bytes, x)) in bytes.chunks(row_bytes).zip(x.chunks(columns)).enumerate() {
                let row = Row { x, group, scale: &scales.scale, zero: &scales.zero, bits };
                let at = (t * height + i) * code_bytes;
                let (stats, zeros) = format.encode(&row, &mut codes, &mut output.parts[0][at..at + code_bytes]);
                report.zeros_before += count_zeros(self.from, bytes);
                report.zeros_after += zeros;
                report.signal += stats.signal;
                report.noise += stats.noise;
                report.max_error = report.max_error.max(stats.max_error);
            }
            if !scales.plain_error.is_empty() {
                let sum = |errors: &[f32]| errors.iter().map(|e| f64::from(*e)).sum();
                report.noise = sum(&scales.error);
                report.plain_noise = Some(sum(&scales.plain_error));
            }
            output.report.push(report);

            let scale_bytes = groups * entries * stored.bytes();
            if !is_tensor {
                narrow(stored, &scales.scale, &mut output.parts[1][t * scale_bytes..(t + 1) * scale_bytes]);
            } else if first == 0 {
                narrow(stored, &scales.scale, output.parts[1]);
            }
            if packs_zero {
                zeros.extend(scales.zero.iter().map(|z| *z as i8));
                if zeros.len() == quantum * groups {
                    zeros::pack(&zeros, groups, bits, zeros::words(t + 1 - quantum, bits), output.parts[2]);
                    zeros.clear();
                }
            } else if !encoding.is_symmetric && (!is_tensor || first == 0) {
                let out = &mut output.parts[2][if is_tensor { 0..groups } else { t * groups..(t + 1) * groups }];
                out.iter_mut().zip(&scales.zero).for_each(|(out, zero)| *out = *zero as i8 as u8);
            }
        }
        if !zeros.is_empty() {
            let done = (block.rows.len() - 1) / quantum * quantum;
            zeros::pack(&zeros, groups, bits, zeros::words(done, bits), output.parts[2]);
        }
        if block.rows.start == 0
            && let Some(at) = unit.writes.iter().position(|w| w.info.dtype == Dtype::I64)
        {
            let shape = [unit.rows as u64, columns as u64];
            output.parts[at].copy_from_slice(&shape.map(u64::to_le_bytes).concat());
        }
        Ok(())
    }
}

fn nonfinite(unit: &Unit, value: f32, index: usize) -> Error {
    Error::input(format!("tensor `{}` holds {value} at index {index}", unit.name)).hint("--allow-nonfinite goes on")
}

/// What is known of a weight with one scale: first its extremes, then the pairs to try, then the one to take.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pairs: Vec<Pair>,
    best: usize,
    /// The values of a codebook, in place of all that.
    table: Vec<f32>,
}

/// What a survey sees of a weight with one scale.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    low: f32,
    high: f32,
    /// Where codes are places in a table.
    census: Census,
    /// Squared error of each row under each pair, by row.
    errors: Vec<(usize, Vec<f64>)>,
}

impl Seen {
    /// Looks at one row: its extremes, or its error under each pair to try.
    pub(crate) fn look(&mut self, row: usize, x: &[f32], encoding: &Encoding, chosen: Option<&Chosen>) {
        let columns = x.len();
        if encoding.format.entries(encoding.bits).is_some() {
            return self.census.count(x);
        }
        let Some(chosen) = chosen else {
            let (mut low, mut high) = ([0.0], [0.0]);
            dlopt_kernels::group_extremes(x, columns, &mut low, &mut high);
            (self.low, self.high) = (self.low.min(low[0]), self.high.max(high[0]));
            return;
        };
        let tile = Tile { x, columns, group: columns, encoding };
        let errors = chosen.pairs.iter().map(|pair| f64::from(error_of(&tile, *pair))).collect();
        self.errors.push((row, errors));
    }

    pub(crate) fn merge(&mut self, mut other: Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.errors.append(&mut other.errors);
        self.census.merge(other.census);
    }
}

impl Chosen {
    /// Fills in the one pair, or the table.
    pub(crate) fn fill(&self, is_symmetric: bool, scales: &mut Scales) {
        if !self.table.is_empty() {
            scales.zero.clear();
            return set(&mut scales.scale, &self.table);
        }
        let Pair { scale, zero } = self.pairs[self.best];
        set(&mut scales.scale, &[scale]);
        set(&mut scales.zero, if is_symmetric { &[] } else { std::slice::from_ref(&zero) });
    }

    /// Fills in the one pair; where the method searches, the errors as well.
    fn measure(&self, tile: &Tile<'_>, method: &'static dyn Method, scales: &mut Scales) {
        self.fill(tile.encoding.is_symmetric, scales);
        if method.searches() && self.table.is_empty() {
            set(&mut scales.error, &[error_of(tile, self.pairs[self.best])]);
            set(&mut scales.plain_error, &[error_of(tile, self.pairs[0])]);
        }
    }
}

fn set(to: &mut Vec<f32>, values: &[f32]) {
    to.clear();
    to.extend_from_slice(values);
}

fn error_of(tile: &Tile<'_>, pair: Pair) -> f32 {
    let Encoding { format, bits, is_symmetric, .. } = *tile.encoding;
    let zero = if is_symmetric { &[][..] } else { std::slice::from_ref(&pair.zero) };
    let mut error = [0.0];
    format.error(&Row { x: tile.x, group: tile.group, scale: &[pair.scale], zero, bits }, &mut error);
    error[0]
}

impl Job {
    /// Looks at one block of a weight with one scale.
    pub(crate) fn survey(
        &self,
        unit: &Unit,
        block: &Block<'_>,
        chosen: Option<&Chosen>,
        seen: &mut Seen,
    ) -> Result<()> {
        let Some(format) = self.scheme.format() else { return Ok(()) };
        let row_bytes = block.inputs[0].len() / block.rows.len().max(1);
        let columns = row_bytes / self.from.bytes();
        let mut x = vec![0.0; columns];
        let encoding = self.encoding(format);
        for (row, bytes) in block.rows.clone().zip(block.inputs[0].chunks(row_bytes)) {
            self.read(unit, row, bytes, &mut x)?;
            seen.look(row, &x, &encoding, chosen);
        }
        Ok(())
    }

    /// Concludes a round of the executor.
    pub(crate) fn decide(&self, chosen: Option<&Chosen>, seen: Seen) -> Step {
        match self.conclude(chosen, seen) {
            (chosen, true) => Step::Again(Arc::new(chosen)),
            (chosen, false) => Step::Done(Arc::new(chosen)),
        }
    }

    /// The pairs to try, and whether there is something to try, or the one to take.
    pub(crate) fn conclude(&self, chosen: Option<&Chosen>, mut seen: Seen) -> (Chosen, bool) {
        let Some(chosen) = chosen else {
            let (mut pairs, mut table) = (Vec::new(), Vec::new());
            if let Some(format) = self.scheme.format() {
                let encoding = self.encoding(format);
                match format.entries(encoding.bits) {
                    Some(entries) => table = codebook::table(&seen.census, entries, encoding.stored),
                    None => pairs = self.method.candidates(&encoding, seen.low, seen.high),
                }
            }
            let is_open = pairs.len() > 1;
            return (Chosen { pairs, best: 0, table }, is_open);
        };
        // In row order, so that the sums do not depend on blocks.
        seen.errors.sort_by_key(|(row, _)| *row);
        let mut sums = vec![0.0; chosen.pairs.len()];
        for (_, errors) in &seen.errors {
            sums.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error);
        }
        let mut best = 0;
        for (i, sum) in sums.iter().enumerate() {
            if *sum < sums[best] {
                best = i;
            }
        }
        (Chosen { best, ..chosen.clone() }, false)
    }
}
