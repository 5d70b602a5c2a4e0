//! Blocks of few values, and of many zeros: what weight sharing and pruning leave in dense tensors.

use std::collections::HashMap;

use crate::split::Split;

/// The share of zeros from which they are kept apart: then their places cost less than what they take in every plane.
const MANY: f64 = 0.3;
/// Elements from which a palette can pay.
const WORTH_A_PALETTE: usize = 64;

/// Values, and for each element which of them it is.
pub(crate) struct Palette {
    /// The values one behind the other, in ascending order of their bytes.
    pub(crate) values: Vec<u8>,
    /// Bytes of a value.
    pub(crate) width: usize,
    pub(crate) places: Vec<u8>,
}

impl Palette {
    /// Nothing where a block has more than 256 values, or too few elements for so many.
    pub(crate) fn of(raw: &[u8], split: Split) -> Option<Self> {
        let width = split.width().filter(|width| *width > 1)?;
        let elements = raw.len() / width;
        if elements < WORTH_A_PALETTE {
            return None;
        }
        let most = 256.min(elements / 4);
        let mut place_of: HashMap<&[u8], u8> = HashMap::new();
        for value in raw.chunks_exact(width) {
            if !place_of.contains_key(value) {
                if place_of.len() == most {
                    return None;
                }
                place_of.insert(value, 0);
            }
        }
        let mut values: Vec<&[u8]> = place_of.keys().copied().collect();
        values.sort_unstable();
        values.iter().enumerate().for_each(|(place, value)| {
            place_of.insert(value, place as u8);
        });
        let places = raw.chunks_exact(width).map(|value| place_of[value]).collect();
        Some(Self { values: values.concat(), width, places })
    }
}

/// For each element whether it is not zero (all its bits), and those that are not; nothing where zeros are few.
pub(crate) fn without_zeros(raw: &[u8], split: Split) -> Option<(Vec<u8>, Vec<u8>)> {
    let width = split.width().filter(|width| *width > 1)?;
    let is_zero = |value: &&[u8]| value.iter().all(|byte| *byte == 0);
    let elements = raw.len() / width;
    let zeros = match width {
        2 => raw.as_chunks::<2>().0.iter().filter(|value| u16::from_ne_bytes(**value) == 0).count(),
        4 => raw.as_chunks::<4>().0.iter().filter(|value| u32::from_ne_bytes(**value) == 0).count(),
        _ => raw.chunks_exact(width).filter(is_zero).count(),
    };
    if (zeros as f64) < MANY * elements as f64 || elements < WORTH_A_PALETTE {
        return None;
    }
    let flags = raw.chunks_exact(width).map(|value| u8::from(!is_zero(&value))).collect();
    let others = raw.chunks_exact(width).filter(|value| !is_zero(value)).flatten().copied().collect();
    Some((flags, others))
}
