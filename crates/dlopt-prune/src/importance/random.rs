//! Random: every channel is as likely to go as any other; the baseline that a criterion must beat.
//!
//! `s(m[k])` is drawn from 0..1 by a counter-based hash of the seed, the tensor's name and `k`, for the tensors that work the
//! channels out.

use super::Importance;
use crate::Plugin;
use crate::coupling::{Part, Pieces};
use crate::criteria::{draw, stream};

pub(super) struct Random;

impl Importance for Random {
    fn plugin(&self) -> Plugin {
        Plugin {
            name: "random",
            summary: "drawn by --seed; the baseline that other criteria must beat",
            source: "keys by SplitMix64, Steele et al. 2014",
        }
    }

    fn counts(&self, part: Part) -> bool {
        part == Part::Writes
    }

    fn scores(&self, pieces: &Pieces<'_>, seed: u64) -> Vec<f64> {
        let stream = stream(seed, &pieces.member.tensor);
        (0..pieces.channels as u64).map(|channel| f64::from(draw(stream, channel)) / f64::from(u32::MAX)).collect()
    }

    fn is_seeded(&self) -> bool {
        true
    }
}
