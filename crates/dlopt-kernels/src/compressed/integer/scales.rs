//! The scales of a matrix, `[panels][groups][PANEL]`: in 16 bits where that loses nothing.

use super::registers::PANEL;
use super::tile::ScalePlace;
use crate::{Float, narrow, widen};

#[derive(Debug)]
pub(super) enum Scales {
    Single(Vec<f32>),
    Half(Vec<u16>),
}

impl Scales {
    /// Lays `[outputs, groups]` out.
    pub(super) fn new(scale: &[f32], groups: usize) -> Self {
        let single = by_panels(scale, groups, 0.0);
        let mut halves = vec![0; 2 * single.len()];
        let mut back = vec![0.0_f32; single.len()];
        narrow(Float::F16, &single, &mut halves);
        widen(Float::F16, &halves, &mut back);
        let is_exact = single.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits());
        if is_exact {
            Self::Half(halves.as_chunks().0.iter().map(|&half| u16::from_le_bytes(half)).collect())
        } else {
            Self::Single(single)
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Single(scales) => 4 * scales.len(),
            Self::Half(scales) => 2 * scales.len(),
        }
    }

    /// Those of all groups of a panel, and of the panels behind it.
    pub(super) fn panel(&self, panel: usize, groups: usize) -> ScalePlace {
        let at = panel * groups * PANEL;
        match self {
            Self::Single(scales) => ScalePlace::Single(scales[at..].as_ptr()),
            Self::Half(scales) => ScalePlace::Half(scales[at..].as_ptr()),
        }
    }
}

/// `[outputs, groups]` as `[panels][groups][PANEL]`, with `fill` for the outputs that are missing in the last panel.
pub(super) fn by_panels<T: Copy>(values: &[T], groups: usize, fill: T) -> Vec<T> {
    let outputs = values.len() / groups;
    let mut laid = vec![fill; outputs.next_multiple_of(PANEL) * groups];
    for (output, values) in values.chunks_exact(groups).enumerate() {
        for (group, &value) in values.iter().enumerate() {
            laid[(output / PANEL * groups + group) * PANEL + output % PANEL] = value;
        }
    }
    laid
}
