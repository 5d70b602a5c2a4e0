//! CutMix: a box of another picture in the place of the picture's own, `w = W sqrt(1 - l)` wide and `h = H sqrt(1 - l)`
//! high, about a pixel drawn alike among all and cut off at the edges, with `l` of Beta(alpha, alpha). The label becomes a
//! mixture: of the other's class as much as the box covers, `1 - l` where nothing is cut off. Source: Yun et al. 2019
//! (arXiv 1905.04899); pixels are cut as torchvision's `CutMix` cuts them.
//!
//! Of series, `1 - l` of the steps that count are taken of the other, at the same times; a shorter one starts again.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::mixup::{alpha_within, share};
use crate::draws::Draws;
use crate::operation::{Kinds, Mixing, Operation, OperationKind};
use crate::sample::{Data, Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<CutMix>(
    "cutmix",
    "alpha",
    Kinds { images: true, series: true, tokens: false, rows: false },
    "a box, or a stretch of time, of another sample, and as much of its label: 1 - l of Beta(alpha, alpha) (1)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CutMix {
    /// Of the beta distribution, 0.001..=1000, or 0 for samples as they are; 1 draws all shares alike.
    alpha: f32,
}

impl Default for CutMix {
    fn default() -> Self {
        Self { alpha: 1.0 }
    }
}

impl Operation for CutMix {
    fn validate(&self) -> Result<(), String> {
        alpha_within(self.alpha)
    }

    fn apply(&self, _sample: &mut Sample, _draws: &mut Draws, _scratch: &mut Scratch) {}

    fn mixing(&self) -> Option<&dyn Mixing> {
        Some(self)
    }
}

impl Mixing for CutMix {
    fn mix(&self, sample: &mut Sample, other: &Sample, draws: &mut Draws, scratch: &mut Scratch) -> f32 {
        let part = 1.0 - share(self.alpha, draws);
        let kept = match sample.form {
            Form::Image { height, width, channels, .. } => {
                let side = part.sqrt();
                let (columns, rows) = (cut(width, side, draws), cut(height, side, draws));
                for row in rows.clone() {
                    let own = (row * width + columns.start) * channels..(row * width + columns.end) * channels;
                    copy(sample, own.clone(), other, own.start);
                }
                kept_of(height * width, columns.len() * rows.len())
            }
            Form::Series { features, .. } => {
                let steps = cut(sample.steps, part, draws);
                for step in steps.clone() {
                    let from = step % other.steps.max(1) * features;
                    copy(sample, step * features..(step + 1) * features, other, from);
                }
                kept_of(sample.steps, steps.len())
            }
            Form::Tokens { .. } | Form::Row { .. } => 1.0,
        };
        scratch.note(|| format!("cutmix {kept:.2}"));
        kept
    }
}

/// A run of a share of `extent` about a place in it, cut off at its ends.
fn cut(extent: usize, share: f32, draws: &mut Draws) -> Range<usize> {
    let middle = draws.below(extent);
    let half = (0.5 * share * extent as f32) as usize;
    middle.saturating_sub(half)..(middle + half).min(extent)
}

fn kept_of(all: usize, taken: usize) -> f32 {
    (all - taken) as f32 / all.max(1) as f32
}

fn copy(sample: &mut Sample, to: Range<usize>, other: &Sample, from: usize) {
    let from = from..from + to.len();
    match (&mut sample.data, &other.data) {
        (Data::U8(own), Data::U8(others)) => own[to].copy_from_slice(&others[from]),
        (Data::F32(own), Data::F32(others)) => own[to].copy_from_slice(&others[from]),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Key;

    fn mixed(own: &Sample, other: &Sample, number: u64) -> (Sample, f32) {
        let mut sample = own.clone();
        let mut draws = Draws::new(Key { seed: 2, round: 0, sample: number }, 0);
        let kept = CutMix::default().mix(&mut sample, other, &mut draws, &mut Scratch::default());
        (sample, kept)
    }

    #[test]
    fn the_label_keeps_as_much_as_the_picture_does() {
        let form = Form::Image { height: 9, width: 14, channels: 3, white: 255.0 };
        let picture = |value| Sample { form, data: Data::U8(vec![value; 9 * 14 * 3]), steps: 1 };
        let mut sum = 0.0;
        for number in 0..2000 {
            let (sample, kept) = mixed(&picture(1), &picture(2), number);
            let Data::U8(pixels) = &sample.data else { panic!() };
            let own = pixels.iter().filter(|x| **x == 1).count();
            assert_eq!(own as f32 / pixels.len() as f32, kept);
            assert!(pixels.chunks(3).all(|pixel| pixel == [pixel[0]; 3]));
            let changed: Vec<usize> = (0..9 * 14).filter(|at| pixels[at * 3] == 2).collect();
            if let (Some(first), Some(last)) = (changed.first(), changed.last()) {
                let (rows, columns) = (last / 14 - first / 14 + 1, last % 14 - first % 14 + 1);
                assert_eq!(rows * columns, changed.len(), "a box");
            }
            sum += kept;
        }
        // Without what the edges cut off, a half.
        assert!((1100.0..1700.0).contains(&sum), "{sum}");
    }

    #[test]
    fn a_stretch_of_time_is_taken_of_the_other() {
        let form = Form::Series { time: 40, features: 2 };
        let own = Sample { form, data: Data::F32((0..80).map(|x| x as f32).collect()), steps: 30 };
        let other = Sample { form, data: Data::F32((0..80).map(|x| 100.0 + x as f32).collect()), steps: 7 };
        for number in 0..50 {
            let (sample, kept) = mixed(&own, &other, number);
            let Data::F32(values) = &sample.data else { panic!() };
            let steps: Vec<usize> = (0..40).filter(|step| values[step * 2] >= 100.0).collect();
            assert!(steps.iter().all(|step| *step < 30 && values[step * 2] == 100.0 + (step % 7 * 2) as f32));
            assert!(steps.last().is_none_or(|last| last - steps[0] + 1 == steps.len()));
            assert_eq!((kept, sample.steps), ((30 - steps.len()) as f32 / 30.0, 30));
        }
    }
}
