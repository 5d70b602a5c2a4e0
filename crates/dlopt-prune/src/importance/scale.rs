//! Scale: channels whose norm scales them down go first.
//!
//! `s(m[k]) = |gamma[k]|`, of the norms alone that the channels go through. Source: Liu et al., 2017, arXiv:1708.06519; layer
//! norms count like batch norms.

use super::Importance;
use crate::Plugin;
use crate::coupling::{Part, Pieces};

pub(super) struct Scale;

impl Importance for Scale {
    fn plugin(&self) -> Plugin {
        Plugin {
            name: "scale",
            summary: "channels that their batch norm scales down go first",
            source: "Liu et al. 2017, arXiv 1708.06519",
        }
    }

    fn counts(&self, part: Part) -> bool {
        part == Part::Scales
    }

    fn adds_up(&self) -> bool {
        true
    }

    fn scores(&self, pieces: &Pieces<'_>, _seed: u64) -> Vec<f64> {
        pieces.sums(f64::abs)
    }
}
