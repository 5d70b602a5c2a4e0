//! L1: channels of small absolute weights go first.
//!
//! `s(m[k]) = sum over w in m[k] of |w|`. Source: Li et al., 2017, arXiv:1608.08710.

use super::Importance;
use crate::Plugin;
use crate::coupling::Pieces;

pub(super) struct L1;

impl Importance for L1 {
    fn plugin(&self) -> Plugin {
        Plugin {
            name: "l1",
            summary: "channels of the smallest sums of absolute weights go first",
            source: "Li et al. 2017, arXiv 1608.08710",
        }
    }

    fn adds_up(&self) -> bool {
        true
    }

    fn scores(&self, pieces: &Pieces<'_>, _seed: u64) -> Vec<f64> {
        pieces.sums(f64::abs)
    }
}
