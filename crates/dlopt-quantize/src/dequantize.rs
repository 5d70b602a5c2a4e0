//! Decompression: codes and scales back to dense weights, as the loaders would compute them.

use dlopt_checkpoint::{
    Block, Decision, Error, HISTORY_KEY, Header, LAYOUT_KEY, Note, Output, Pass, Plan, Read, Result, Scope, Span, Unit,
    Write, extend_history, layout_text, read_layout,
};
use dlopt_kernels::{decode_fp8, narrow, unpack, widen};
use serde_json::{Value, json};

use crate::formats::{Steps, e8m0, float};
use crate::layouts::{Codes, ScaleType, Stored, compressed_tensors, dlopt, stored_weights};

/// The pass that makes quantized weights dense again.
///
/// It reads both layouts. A product `(code - zero) * scale` is rounded once, to the dtype of the scales, or to the dtype
/// that `dlopt.layout` recorded. Bitmask storage is left to another pass. `inspect` and `diff` read any checkpoint
/// through it: the plan's units carry the logical names, dtypes and shapes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dequantize;

/// Whether a checkpoint holds weights that [`Dequantize`] would decode.
///
/// # Errors
/// When parts of one are missing or do not fit each other.
pub fn is_quantized(header: &Header) -> Result<bool> {
    Ok(!stored_weights(header)?.is_empty())
}

/// How a unit is decoded, as a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) codes: Codes,
    pub(crate) scale_type: ScaleType,
    pub(crate) bits: u32,
    pub(crate) has_zero: bool,
    pub(crate) has_shape: bool,
    pub(crate) group: usize,
}

impl Key {
    fn of(stored: &Stored) -> Self {
        Self {
            codes: stored.codes,
            scale_type: stored.scale_type,
            bits: stored.bits,
            has_zero: stored.parts.zero.is_some(),
            has_shape: stored.parts.shape.is_some(),
            group: stored.group,
        }
    }

    /// Values in the table of a group, where codes are places in one.
    pub(crate) fn entries(self) -> Option<usize> {
        self.codes.decoder().entries(self.bits)
    }

    /// Twelve bits and the group size; `None` if that is more than a number holds.
    fn pack(self) -> Option<usize> {
        let codes = Codes::ALL.iter().position(|c| *c == self.codes)?;
        let scale = ScaleType::ALL.iter().position(|s| *s == self.scale_type)?;
        let flags = usize::from(self.has_zero) | usize::from(self.has_shape) << 1;
        let low = codes | scale << 3 | (self.bits as usize) << 6 | flags << 10;
        self.group.checked_mul(1 << 12).map(|high| high | low)
    }

    pub(crate) fn unpack(key: usize) -> Self {
        Self {
            codes: Codes::ALL[(key & 7) % Codes::ALL.len()],
            scale_type: ScaleType::ALL[(key >> 3 & 7) % ScaleType::ALL.len()],
            bits: (key >> 6 & 15) as u32,
            has_zero: key >> 10 & 1 == 1,
            has_shape: key >> 11 & 1 == 1,
            group: key >> 12,
        }
    }
}

pub(crate) fn unit_of(stored: &Stored, header: &Header) -> Result<Unit> {
    let key = Key::of(stored).pack();
    let key = key.ok_or_else(|| Error::input(format!("tensor `{}` is too wide for this machine", stored.info.name)))?;
    let row_bytes = stored.columns * stored.info.dtype.bitsize() / 8;
    Ok(Unit {
        name: stored.info.name.clone(),
        reads: stored.reads(header).into_iter().map(|(tensor, span)| Read { tensor, span }).collect(),
        writes: vec![Write { info: stored.info.clone(), span: Span::row(row_bytes) }],
        rows: stored.rows,
        row_quantum: stored.row_quantum(),
        scope: Scope::Block,
        key,
        is_copy: false,
    })
}

impl Pass for Dequantize {
    fn verb(&self) -> &'static str {
        "convert"
    }

    fn options(&self) -> Value {
        json!({"decompress": true})
    }

    fn plan(&self, input: &Header) -> Result<Plan> {
        let weights = stored_weights(input)?;
        // The first part of a weight stands for it, the others vanish.
        let mut owner = vec![None; input.tensors.len()];
        for (w, weight) in weights.iter().enumerate() {
            weight.parts.all().for_each(|at| owner[at] = Some(w));
        }
        let mut is_done = vec![false; weights.len()];
        let mut plan = Plan { metadata: input.metadata.clone(), ..Plan::default() };
        for (at, tensor) in input.tensors.iter().enumerate() {
            let Some(w) = owner[at] else {
                plan.units.push(Unit::copy(at, tensor));
                continue;
            };
            if std::mem::replace(&mut is_done[w], true) {
                continue;
            }
            let weight = &weights[w];
            let dtype = dlopt_checkpoint::dtype_name(weight.info.dtype).to_ascii_lowercase();
            plan.notes.push(Note {
                tensor: weight.info.name.clone(),
                kind: "compressed".to_owned(),
                action: format!("decoded to {dtype}"),
                reason: format!("held in `{}`", input.tensors[weight.parts.codes].name),
            });
            plan.units.push(unit_of(weight, input)?);
        }
        if let Some(config) = input.config()?.filter(|c| compressed_tensors::quantization(c).is_some()) {
            let config = compressed_tensors::without_quantization(config);
            plan.metadata.insert("config".to_owned(), compressed_tensors::config_text(&config));
        }
        plan.metadata.remove(compressed_tensors::SHAPES_KEY);
        let mut layout = read_layout(input)?;
        layout.retain(|_, entry| !dlopt::is_quantized(entry));
        if layout.is_empty() {
            plan.metadata.remove(LAYOUT_KEY);
        } else {
            plan.metadata.insert(LAYOUT_KEY.to_owned(), layout_text(layout));
        }
        plan.metadata.insert(HISTORY_KEY.to_owned(), extend_history(input, self.verb(), self.options())?);
        plan.check_names()?;
        Ok(plan)
    }

    fn apply(
        &self,
        unit: &Unit,
        _position: usize,
        block: &Block<'_>,
        _decision: Option<&Decision>,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let mut parts = StoredRows::of(unit, block)?;
        let to = float(unit.writes[0].info.dtype).ok_or_else(|| parts.broken())?;
        parts.check_shape()?;
        let mut x = vec![0.0; parts.columns];
        let row_bytes = parts.columns * to.bytes();
        for (row, out) in block.rows.clone().zip(output.parts[0].chunks_exact_mut(row_bytes)) {
            parts.decode(row, &mut x)?;
            narrow(to, &x, out);
        }
        Ok(())
    }
}

/// The stored parts of a few rows.
pub(crate) struct StoredRows<'a> {
    unit: &'a Unit,
    pub(crate) key: Key,
    first: usize,
    pub(crate) columns: usize,
    pub(crate) code_bytes: usize,
    pub(crate) codes: &'a [u8],
    scale_bytes: &'a [u8],
    /// Rows that share scales; `None`: all.
    height: Option<usize>,
    pub(crate) zero: Option<&'a [u8]>,
    pub(crate) zero_span: Option<&'a Span>,
    shape: Option<&'a [u8]>,
    global: f32,
    /// The piece of scales that is decoded now.
    piece: Option<usize>,
    pub(crate) scale: Vec<f32>,
    pub(crate) zeros: Vec<f32>,
    scratch: Vec<i8>,
    words: Vec<u8>,
}

impl<'a> StoredRows<'a> {
    /// The parts of a block of a unit that [`Dequantize`] planned.
    pub(crate) fn of(unit: &'a Unit, block: &Block<'a>) -> Result<Self> {
        let key = Key::unpack(unit.key);
        let broken = || Error::input(format!("tensor `{}` came in other pieces than planned", unit.name));
        let elements = unit.writes.first().ok_or_else(broken)?.info.elements();
        let columns = elements / unit.rows.max(1);
        let (Some(Span::Every { bytes: code_bytes, .. }), Some(codes)) =
            (unit.reads.first().map(|r| &r.span), block.inputs.first())
        else {
            return Err(broken());
        };
        let height = match unit.reads.get(1).map(|r| &r.span) {
            Some(Span::Every { rows, .. }) => Some(*rows),
            _ => None,
        };
        let mut next = 2;
        let mut take = |is_there: bool| {
            let at = next;
            next += usize::from(is_there);
            is_there.then_some(at)
        };
        let (zero_at, shape_at) = (take(key.has_zero), take(key.has_shape));
        let global_at = take(key.scale_type == ScaleType::Fp8Global);
        let input = |at: Option<usize>| at.and_then(|at| block.inputs.get(at)).copied();
        let global = match global_at {
            None => 1.0,
            Some(_) => {
                let bytes = input(global_at).and_then(|b| b.first_chunk()).ok_or_else(broken)?;
                f32::from_le_bytes(*bytes)
            }
        };
        if columns == 0 || key.group == 0 || codes.len() != block.rows.len() * code_bytes {
            return Err(broken());
        }
        Ok(Self {
            unit,
            key,
            first: block.rows.start,
            columns,
            code_bytes: *code_bytes,
            codes,
            scale_bytes: block.inputs.get(1).ok_or_else(broken)?,
            height,
            zero: input(zero_at),
            zero_span: zero_at.and_then(|at| unit.reads.get(at)).map(|r| &r.span),
            shape: input(shape_at),
            global,
            piece: None,
            scale: Vec::new(),
            zeros: Vec::new(),
            scratch: Vec::new(),
            words: Vec::new(),
        })
    }

    fn broken(&self) -> Error {
        Error::input(format!("tensor `{}` came in other pieces than planned", self.unit.name))
    }

    pub(crate) fn groups(&self) -> usize {
        self.columns.div_ceil(self.key.group)
    }

    /// Compares the shape that is stored as data.
    pub(crate) fn check_shape(&self) -> Result<()> {
        self.shape.map_or(Ok(()), |bytes| crate::check_shape(&self.unit.name, bytes, self.unit.rows, self.columns))
    }

    /// Codes of a row as bytes.
    pub(crate) fn code_row(&self, row: usize) -> Option<&'a [u8]> {
        let at = row.checked_sub(self.first)? * self.code_bytes;
        self.codes.get(at..at + self.code_bytes)
    }

    /// Reads scales and zero points of a row.
    pub(crate) fn read_steps(&mut self, row: usize) -> Result<()> {
        let groups = self.groups();
        // Blocks begin at whole pieces.
        let scale_piece = self.height.map_or(0, |h| row / h - self.first / h);
        if self.piece != Some(scale_piece) {
            let entries = self.key.entries().unwrap_or(1);
            let size = groups * entries * self.key.scale_type.bytes();
            let bytes =
                self.scale_bytes.get(scale_piece * size..(scale_piece + 1) * size).ok_or_else(|| self.broken())?;
            self.scale.resize(groups * entries, 0.0);
            match self.key.scale_type {
                ScaleType::Float(float) => widen(float, bytes, &mut self.scale),
                ScaleType::E8M0 => self.scale.iter_mut().zip(bytes).for_each(|(s, b)| *s = e8m0(*b)),
                ScaleType::Fp8Global => {
                    decode_fp8(bytes, groups, &[1.0], &mut self.scale);
                    self.scale.iter_mut().for_each(|s| *s /= self.global);
                }
            }
        }
        if self.key.has_zero {
            self.read_zeros(row)?;
        }
        self.piece = Some(scale_piece);
        Ok(())
    }

    fn read_zeros(&mut self, row: usize) -> Result<()> {
        let groups = self.groups();
        let bytes = self.zero.ok_or_else(|| self.broken())?;
        self.zeros.resize(groups, 0.0);
        let bits = self.key.bits as usize;
        match (self.key.codes, self.zero_span) {
            (Codes::Packed | Codes::PackedByWord, Some(Span::Every { rows, bytes: piece })) => {
                let at = (row / rows - self.first / rows) * piece;
                let piece = bytes.get(at..(at + piece).min(bytes.len())).ok_or_else(|| self.broken())?;
                let half = (1i32 << (bits - 1)) as f32;
                let start = row % rows * bits;
                for (g, zero) in self.zeros.iter_mut().enumerate() {
                    // One byte of the column's bit stream: word by word, `groups` words apart.
                    let bit = |b: usize| {
                        let byte = (b / 32 * groups + g) * 4 + b % 32 / 8;
                        piece.get(byte).map(|byte| u32::from(byte >> (b % 8) & 1))
                    };
                    let code = (0..bits).try_fold(0, |code, i| bit(start + i).map(|b| code | b << i));
                    *zero = code
                        .ok_or_else(|| Error::input(format!("tensor `{}` lacks zero points", self.unit.name)))?
                        as f32
                        - half;
                }
            }
            _ => {
                let at = self.height.map_or(0, |h| row / h - self.first / h) * groups;
                let row = bytes.get(at..at + groups).ok_or_else(|| self.broken())?;
                self.zeros.iter_mut().zip(row).for_each(|(zero, b)| *zero = f32::from(*b as i8));
            }
        }
        Ok(())
    }

    /// Decodes one row as exact products.
    pub(crate) fn decode(&mut self, row: usize, x: &mut [f32]) -> Result<()> {
        self.read_steps(row)?;
        let key = self.key;
        self.with_stream(row, |rows, bytes| {
            let zero: &[f32] = if key.has_zero { &rows.zeros } else { &[] };
            let steps = Steps { group: key.group, scale: &rows.scale, zero, bits: key.bits };
            key.codes.decoder().decode(bytes, &steps, &mut rows.scratch, x);
        })
    }

    /// The codes of one row: integers, or the bits of 8-bit floats.
    pub(crate) fn codes_of(&mut self, row: usize, codes: &mut [i8]) -> Result<()> {
        let key = self.key;
        self.with_stream(row, |_, bytes| match key.codes {
            Codes::Packed | Codes::PackedByWord | Codes::Codebook => unpack(bytes, key.bits, codes),
            _ => codes.iter_mut().zip(bytes).for_each(|(code, byte)| *code = *byte as i8),
        })
    }

    /// Calls `work` with the bytes of a row, a dense stream of codes.
    fn with_stream(&mut self, row: usize, work: impl FnOnce(&mut Self, &[u8])) -> Result<()> {
        let mut bytes = self.code_row(row).ok_or_else(|| self.broken())?;
        let (key, mut words) = (self.key, std::mem::take(&mut self.words));
        if key.codes == Codes::PackedByWord {
            close_gaps(bytes, key.bits, self.columns, &mut words);
            bytes = &words;
        }
        if bytes.len() != key.codes.decoder().row_bytes(self.columns, key.bits) {
            return Err(self.broken());
        }
        work(self, bytes);
        self.words = words;
        Ok(())
    }
}

/// Turns words of whole codes into a dense bit stream.
fn close_gaps(bytes: &[u8], bits: u32, columns: usize, out: &mut Vec<u8>) {
    let (bits, per_word) = (bits as usize, 32 / bits as usize);
    out.clear();
    out.resize((columns * bits).div_ceil(32) * 4, 0);
    for i in 0..columns {
        for b in 0..bits {
            let from = i / per_word * 32 + i % per_word * bits + b;
            let to = i * bits + b;
            if bytes.get(from / 8).is_some_and(|byte| byte >> (from % 8) & 1 == 1) {
                out[to / 8] |= 1 << (to % 8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlopt_kernels::Float;

    #[test]
    fn a_key_packs_and_unpacks() {
        let mut key = Key {
            codes: Codes::Packed,
            scale_type: ScaleType::Float(Float::BF16),
            bits: 8,
            has_zero: true,
            has_shape: false,
            group: 4096,
        };
        for codes in Codes::ALL {
            for scale_type in ScaleType::ALL {
                key = Key { codes, scale_type, ..key };
                assert_eq!(Key::unpack(key.pack().unwrap()), key);
            }
        }
        assert_eq!(Key { group: usize::MAX, ..key }.pack(), None);
    }

    #[test]
    fn words_of_whole_codes_become_a_dense_stream() {
        // Ten 3-bit codes a word; the eleventh begins the next.
        let first = (0..10).fold(0u32, |w, i| w | (i % 8) << (3 * i));
        let bytes: Vec<u8> = [first, 5].iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut out = Vec::new();
        close_gaps(&bytes, 3, 11, &mut out);
        let stream = u64::from_le_bytes(out[..8].try_into().unwrap());
        assert_eq!(stream & 0x3fff_ffff, u64::from(first));
        assert_eq!(stream >> 30 & 7, 5);
    }
}
