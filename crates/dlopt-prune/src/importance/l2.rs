//! L2: channels of small squared weights go first.
//!
//! `s(m[k]) = sum over w in m[k] of w^2`. Source: Fang et al., 2023, arXiv:2301.12900.

use super::Importance;
use crate::Plugin;
use crate::coupling::Pieces;

pub(super) struct L2;

impl Importance for L2 {
    fn plugin(&self) -> Plugin {
        Plugin {
            name: "l2",
            summary: "channels of the smallest sums of squared weights go first",
            source: "Fang et al. 2023, arXiv 2301.12900",
        }
    }

    fn adds_up(&self) -> bool {
        true
    }

    fn scores(&self, pieces: &Pieces<'_>, _seed: u64) -> Vec<f64> {
        pieces.sums(|weight| weight * weight)
    }
}
