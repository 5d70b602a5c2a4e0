//! What a stored weight must be like, beyond what its header says.

use dlopt_checkpoint::{Block, Error, Result, Unit};

use crate::dequantize::StoredRows;
use crate::layouts::Codes;

/// What was found in the stored parts of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Codes that were looked at, one a weight.
    pub codes: u64,
    /// Scales that were looked at.
    pub scales: u64,
}

impl Values {
    /// Checks one block of a unit that [`crate::Dequantize`] planned: scales are finite and positive, codes and zero
    /// points in range, padding zero, and the shape that is stored as data is the one in use.
    ///
    /// # Errors
    /// At the first thing that is wrong, naming tensor and row.
    pub fn check(unit: &Unit, block: &Block<'_>) -> Result<Self> {
        let mut parts = StoredRows::of(unit, block)?;
        parts.check_shape()?;
        let (decoder, bits, columns) = (parts.key.codes.decoder(), parts.key.bits, parts.columns);
        let mut found = Self::default();
        let mut scratch = Vec::new();
        for row in block.rows.clone() {
            let at_row = |what: String| Error::input(format!("tensor `{}` {what}, in row {row}", unit.name));
            parts.read_steps(row)?;
            if let Some(entries) = parts.key.entries() {
                check_tables(&parts.scale, entries).map_err(at_row)?;
            } else {
                check_scales(&unit.name, &parts.scale)
                    .map_err(|_| at_row("has a scale that is not positive".to_owned()))?;
            }
            let half = (1u32 << (bits - 1)) as f32;
            if let Some(zero) = parts.zeros.iter().find(|z| !(-half..half).contains(*z)) {
                return Err(at_row(format!("has zero point {zero}, out of range for {bits} bits")));
            }
            if let Some(codes) = parts.code_row(row).filter(|_| parts.key.codes != Codes::PackedByWord)
                && let Some(fault) = decoder.fault(codes, columns, bits, &mut scratch)
            {
                return Err(at_row(fault));
            }
            found.codes += columns as u64;
            found.scales += parts.scale.len() as u64;
        }
        check_zero_padding(unit, block, &parts)?;
        Ok(found)
    }
}

/// Values of a codebook are finite, and ascend.
fn check_tables(tables: &[f32], entries: usize) -> std::result::Result<(), String> {
    for table in tables.chunks_exact(entries) {
        if let Some(value) = table.iter().find(|value| !value.is_finite()) {
            return Err(format!("has {value} among its shared values"));
        }
        if let Some(at) = (1..table.len()).find(|&at| table[at - 1] > table[at]) {
            return Err(format!("has the shared value {} behind {}; they ascend", table[at], table[at - 1]));
        }
    }
    Ok(())
}

/// Packed zero points end in bits that belong to no row; they have to be 0.
fn check_zero_padding(unit: &Unit, block: &Block<'_>, parts: &StoredRows<'_>) -> Result<()> {
    let (Codes::Packed, Some(zero)) = (parts.key.codes, parts.zero) else { return Ok(()) };
    if block.rows.end < unit.rows {
        return Ok(());
    }
    let (groups, bits) = (parts.groups(), parts.key.bits as usize);
    let used = block.rows.len() * bits % 32;
    let last_row = zero.len().saturating_sub(groups * 4);
    let is_clear = |word: &[u8; 4]| used == 0 || u32::from_le_bytes(*word) >> used == 0;
    if zero[last_row..].as_chunks().0.iter().all(is_clear) {
        return Ok(());
    }
    Err(Error::input(format!("tensor `{}` has bits set in the padding of its zero points", unit.name)))
}

/// Refuses scales that are not finite and positive.
///
/// # Errors
/// At the first such scale, naming the tensor and its group.
pub fn check_scales(tensor: &str, scales: &[f32]) -> Result<()> {
    match scales.iter().position(|s| !(s.is_finite() && *s > 0.0)) {
        None => Ok(()),
        Some(at) => Err(Error::input(format!(
            "tensor `{tensor}` has scale {} at index {at}; scales are finite and positive",
            scales[at]
        ))),
    }
}

/// Refuses a shape stored as data (two I64 numbers) that is not `[rows, columns]`.
///
/// # Errors
/// When it is another one.
pub fn check_shape(tensor: &str, bytes: &[u8], rows: usize, columns: usize) -> Result<()> {
    let stored: Vec<i64> = bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    let expected = [i64::try_from(rows).ok(), i64::try_from(columns).ok()];
    if stored.iter().map(|d| Some(*d)).eq(expected) {
        return Ok(());
    }
    Err(Error::input(format!(
        "tensor `{tensor}` says it has shape {stored:?}, but its codes and scales are those of [{rows}, {columns}]"
    ))
    .hint("its rows may end in padding that the header does not show; only `dlopt.shapes` in the metadata would"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_to_be_finite_and_positive() {
        assert!(check_scales("t", &[1.0, 1e-30]).is_ok());
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(check_scales("t", &[1.0, bad]).unwrap_err().message().contains("at index 1"));
        }
    }

    #[test]
    fn shared_values_have_to_be_finite_and_ascend() {
        assert!(check_tables(&[-1.0, 0.0, 2.0, 1.0, 1.0, 1.0], 3).is_ok());
        assert!(check_tables(&[-1.0, f32::NAN], 2).unwrap_err().contains("NaN"));
        assert!(check_tables(&[-1.0, 0.0, 2.0, 1.0], 2).unwrap_err().contains("the shared value 1 behind 2"));
    }

    #[test]
    fn a_stored_shape_has_to_be_the_one_in_use() {
        let bytes: Vec<u8> = [13i64, 37].iter().flat_map(|d| d.to_le_bytes()).collect();
        assert!(check_shape("t", &bytes, 13, 37).is_ok());
        assert!(check_shape("t", &bytes, 13, 40).is_err());
        assert!(check_shape("t", &[], 13, 40).is_err());
    }
}
