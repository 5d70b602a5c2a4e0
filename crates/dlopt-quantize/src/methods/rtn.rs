//! Round to nearest: the scale that just covers the smallest and largest weight of a group.
//!
//! Scales as in [`Encoding::pair`]. For asymmetric 16-bit weights the pair that compressed-tensors would store is tried
//! too, and the one with the smaller squared error is kept; for F32 both are the same.
//! Source: compressed-tensors 0.20, `calculate_qparams`.

use super::{Encoding, Method, Pair, Scales, Tile};
use crate::Plugin;

pub(super) static METHOD: RoundToNearest = RoundToNearest;

const PLUGIN: Plugin = Plugin {
    name: "rtn",
    summary: "round to nearest, the scale from the extremes of each group",
    source: "compressed-tensors 0.20",
};

/// Round to nearest.
pub(super) struct RoundToNearest;

impl Method for RoundToNearest {
    fn plugin(&self) -> Plugin {
        PLUGIN
    }

    fn searches(&self) -> bool {
        false
    }

    fn choose(&self, tile: &Tile<'_>, scales: &mut Scales) {
        let Tile { encoding, .. } = tile;
        tile.extremes(&mut scales.low, &mut scales.high, &mut scales.spare);
        let Scales { scale, zero, error, plain_error, low, high, trial, .. } = scales;
        [&mut *scale, &mut *zero, error, plain_error].into_iter().for_each(Vec::clear);
        trial.clear();
        let mut differs = false;
        for (low, high) in low.iter().zip(high) {
            let pair = encoding.pair(*low, *high);
            scale.push(pair.scale);
            if !encoding.is_symmetric {
                let other = encoding.stepwise_pair(*low, *high).unwrap_or(pair);
                differs |= other != pair;
                zero.push(pair.zero);
                trial.push(other, false);
            }
        }
        if differs {
            tile.errors(&scales.scale, &scales.zero, &mut scales.error, &mut scales.spare);
            let Scales { trial, spare, .. } = scales;
            tile.errors(&trial.scale, &trial.zero, &mut trial.error, spare);
            scales.keep_better(|_| ());
            scales.error.clear();
        }
    }

    fn candidates(&self, encoding: &Encoding, low: f32, high: f32) -> Vec<Pair> {
        let pair = encoding.pair(low, high);
        let other = encoding.stepwise_pair(low, high).filter(|p| *p != pair);
        std::iter::once(pair).chain(other).collect()
    }
}
