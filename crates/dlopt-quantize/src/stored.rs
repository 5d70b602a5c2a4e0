//! Weights as a checkpoint holds them, for what multiplies codes without decoding them first.

use std::collections::HashMap;
use std::ops::Range;

use dlopt_checkpoint::{Block, Error, Header, Result, TensorInfo, Tensors, Unit};

use crate::dequantize::{StoredRows, unit_of};
use crate::layouts::{Codes, Stored, compressed_tensors, stored_weights};
use crate::{Activations, Values};

/// Codes of a block of rows, unless one row has more: a second cache holds them beside what they were read from.
const BLOCK_CODES: usize = 1 << 18;

/// A weight that is stored as codes and scales: `weight[o, i] = (code[o, i] - zero[o, g]) * scale[o, g]`, `g = i / group`.
#[derive(Clone, Debug)]
pub struct StoredWeight {
    stored: Stored,
    unit: Unit,
    reads: Vec<(usize, usize)>,
    activations: Activations,
}

/// The codes and scales of a weight, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    /// `[outputs, inputs]`: integers in the range of the bits, or the bits of FP8 E4M3 numbers.
    pub codes: Vec<i8>,
    /// `[outputs, groups]`, finite and positive.
    pub scale: Vec<f32>,
    /// `[outputs, groups]` in the codes' range, or empty where all are 0.
    pub zero: Vec<i8>,
}

impl StoredWeight {
    /// Every weight that is stored as codes, in the order of the header.
    ///
    /// # Errors
    /// When parts are missing or their shapes disagree.
    pub fn all(header: &Header) -> Result<Vec<Self>> {
        let config = header.config()?.unwrap_or_default();
        let activations = |name: &str| {
            let module = name.strip_suffix(".weight").unwrap_or(name);
            compressed_tensors::activations(&config, module)
        };
        let each = stored_weights(header)?.into_iter().map(|stored| {
            let unit = unit_of(&stored, header)?;
            let reads = unit.reads.iter().map(|read| (read.tensor, header.tensors[read.tensor].bytes() as usize));
            // Where there is no linear layer the config is silent; integers of a byte each are what W8A8 stores.
            let silent = if stored.codes == Codes::Bytes { Activations::Int8Token } else { Activations::Dense };
            let activations = activations(&stored.info.name).unwrap_or(silent);
            Ok(Self { reads: reads.collect(), activations, unit, stored })
        });
        each.collect()
    }

    /// What it decodes to.
    pub fn info(&self) -> &TensorInfo {
        &self.stored.info
    }

    /// Outputs and inputs; the inputs of a convolution are flattened.
    pub fn extents(&self) -> [usize; 2] {
        [self.stored.rows, self.stored.columns]
    }

    /// Bits of a code.
    pub fn bits(&self) -> u32 {
        self.stored.bits
    }

    /// Neighbouring inputs that share a scale.
    pub fn group(&self) -> usize {
        self.stored.group
    }

    /// Whether codes are integers, with zero points or without.
    pub fn is_integer(&self) -> bool {
        matches!(self.stored.codes, Codes::Packed | Codes::PackedByWord | Codes::Bytes)
    }

    /// Whether codes are FP8 E4M3 numbers.
    pub fn is_fp8(&self) -> bool {
        self.stored.codes == Codes::Fp8
    }

    /// Whether codes are places in a table of shared values.
    pub fn is_codebook(&self) -> bool {
        self.stored.codes == Codes::Codebook
    }

    /// What the config asks of the activations that it is multiplied with.
    pub fn activations(&self) -> Activations {
        self.activations
    }

    /// Bytes of all its parts.
    pub fn bytes(&self) -> usize {
        self.reads.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Runs of rows whose codes take about a quarter of a mebibyte, in order: what [`StoredWeight::read_rows`] reads at a time.
    pub fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let [outputs, inputs] = self.extents();
        let quantum = self.unit.row_quantum.max(1);
        let each = (BLOCK_CODES / inputs.max(1) / quantum * quantum).max(quantum);
        (0..outputs).step_by(each).map(move |first| first..outputs.min(first.saturating_add(each)))
    }

    /// Reads and checks codes, scales and zero points; `source` is what [`StoredWeight::all`] saw the header of.
    ///
    /// # Errors
    /// When bytes cannot be had, or at the first value that is out of range: tensor and row are named. When codes are
    /// neither integers nor FP8.
    pub fn read(&self, source: &dyn Tensors) -> Result<Coded> {
        self.read_rows(source, 0..self.extents()[0])
    }

    /// The same of some rows, which are one of [`StoredWeight::blocks`] or several in a row.
    ///
    /// # Errors
    /// As [`StoredWeight::read`].
    pub fn read_rows(&self, source: &dyn Tensors, rows: Range<usize>) -> Result<Coded> {
        if !self.is_integer() && !self.is_fp8() {
            return Err(Error::input(format!("tensor `{}` is stored neither as integers nor as FP8", self.unit.name)));
        }
        let mut parts = Vec::with_capacity(self.reads.len());
        for (read, (tensor, bytes)) in self.unit.reads.iter().zip(&self.reads) {
            let total = *bytes as u64;
            let own = read.span.range(&rows, total).unwrap_or(0..total);
            let mut part = vec![0; (own.end - own.start) as usize];
            source.read(*tensor, own.start, &mut part)?;
            parts.push(part);
        }
        let inputs = self.extents()[1];
        let block = Block { rows: rows.clone(), inputs: parts.iter().map(Vec::as_slice).collect() };
        Values::check(&self.unit, &block)?;
        let mut stored = StoredRows::of(&self.unit, &block)?;
        let mut coded = Coded { codes: vec![0; rows.len() * inputs], scale: Vec::new(), zero: Vec::new() };
        for (row, codes) in rows.zip(coded.codes.chunks_exact_mut(inputs)) {
            stored.read_steps(row)?;
            coded.scale.extend_from_slice(&stored.scale);
            coded.zero.extend(stored.zeros.iter().map(|zero| *zero as i8));
            stored.codes_of(row, codes)?;
        }
        Ok(coded)
    }
}

/// The tensors that are dense streams of codes, with the bits of a code and the codes of a row.
///
/// # Errors
/// As [`StoredWeight::all`].
pub fn packed_codes(header: &Header) -> Result<HashMap<String, (u32, usize)>> {
    let is_stream = |stored: &Stored| matches!(stored.codes, Codes::Packed | Codes::Codebook);
    let packed = stored_weights(header)?.into_iter().filter(is_stream);
    let named = packed.filter_map(|stored| {
        let codes = header.tensors.get(stored.parts.codes)?;
        Some((codes.name.clone(), (stored.bits, stored.columns)))
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests;
