//! Grid mask: squares in a regular grid are blotted out. The grid repeats every `d` pixels, `unit` of the shorter side;
//! of each piece, a square of side `round((1 - keep) d)` goes; the grid begins anywhere. The label stays. Source: Chen et
//! al. 2020 (arXiv 2001.04086), whose r is `keep`; they also turn the grid, which is not done here.

use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<GridMask>(
    "grid-mask",
    "unit",
    Kinds::IMAGES,
    "squares in a grid of unit of the shorter side (0.3..0.6) blotted out, all but keep (0.6) of each side, by value (0)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GridMask {
    /// How soon the grid repeats, as a share of the shorter side, 0.01..=1.
    unit: Range,
    /// Share of a unit's side that is kept, 0..=1.
    keep: Range,
    /// What stands in the squares, 0..=1 of white.
    value: f32,
}

impl Default for GridMask {
    fn default() -> Self {
        Self { unit: Range::new(0.3, 0.6), keep: Range::only(0.6), value: 0.0 }
    }
}

impl Operation for GridMask {
    fn validate(&self) -> Result<(), String> {
        self.unit.within("unit", "of the shorter side", 0.01, 1.0)?;
        self.keep.within("keep", "of a unit's side", 0.0, 1.0)?;
        Range::only(self.value).within("value", "of white", 0.0, 1.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Image { height, width, channels, white } = sample.form else { return };
        let (unit, keep) = (draws.of(self.unit), draws.of(self.keep));
        let every = ((unit * height.min(width) as f32 + 0.5) as usize).max(1);
        let side = (((1.0 - keep) * every as f32 + 0.5) as usize).min(every);
        let begin = [draws.below(every), draws.below(every)];
        scratch.note(|| format!("grid-mask {side} of {every}"));
        let value = self.value * white;
        match &mut sample.data {
            Data::U8(pixels) => mask(pixels, [width, channels], every, side, begin, u8::of(value)),
            Data::F32(pixels) => mask(pixels, [width, channels], every, side, begin, value),
            Data::Tokens(_) => {}
        }
    }
}

fn mask<P: Element>(
    pixels: &mut [P],
    [width, channels]: [usize; 2],
    every: usize,
    side: usize,
    [right, down]: [usize; 2],
    value: P,
) {
    let rows = pixels.chunks_exact_mut(width * channels).enumerate();
    for (_, row) in rows.filter(|(y, _)| (y + down) % every < side) {
        let pixels = row.chunks_exact_mut(channels).enumerate();
        pixels.filter(|(x, _)| (x + right) % every < side).for_each(|(_, pixel)| pixel.fill(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_repeat() {
        let mut pixels = [1_u8; 30];
        mask(&mut pixels, [6, 1], 3, 2, [1, 0], 9);
        let own: Vec<String> = pixels.chunks(6).map(|row| row.iter().map(|x| x.to_string()).collect()).collect();
        assert_eq!(own, ["919919", "919919", "111111", "919919", "919919"]);
    }
}
