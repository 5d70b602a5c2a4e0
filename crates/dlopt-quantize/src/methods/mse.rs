//! Clip search: the share of the extremes to cover that gives each group the smallest squared error.
//!
//! ```text
//! r* = argmin over r of  sum over the group of (x - decode(encode(x; scale(r * low, r * high))))^2
//! ```
//! over a coarse grid of `r`, then twice between the best one and its neighbours, halving the distance. Symmetric
//! integer formats also try the `r > 1` at which the largest positive code reaches the extreme. Round to nearest is a
//! candidate, so the error is never larger. For a scale of a whole tensor only the coarse grid is tried.
//! Source: the clip search of Choukroun et al. 2019, arXiv 1902.06822, on weights.

use super::{Encoding, Method, Pair, Scales, Tile, rtn};
use crate::Plugin;

pub(super) static METHOD: ClipSearch = ClipSearch;

const PLUGIN: Plugin = Plugin {
    name: "mse",
    summary: "search each group for the scale with the smallest squared error",
    source: "arXiv 1902.06822",
};

/// Shares of the extremes, besides all of them.
const COARSE: [f32; 7] = [0.95, 0.9, 0.85, 0.8, 0.72, 0.62, 0.5];

/// Distances from the best share that are tried on both sides.
const FINE: [f32; 2] = [0.025, 0.0125];

/// Clip search.
pub(super) struct ClipSearch;

/// The share above 1 at which no extreme is clipped, where there is one.
fn unclipped(encoding: &Encoding) -> Option<f32> {
    let range = encoding.format.range(encoding.bits);
    (encoding.is_symmetric && range.qmax < -range.qmin).then(|| (range.qmax - range.qmin) / 2.0 / range.qmax)
}

impl Method for ClipSearch {
    fn plugin(&self) -> Plugin {
        PLUGIN
    }

    fn searches(&self) -> bool {
        true
    }

    fn choose(&self, tile: &Tile<'_>, scales: &mut Scales) {
        rtn::METHOD.choose(tile, scales);
        tile.errors(&scales.scale, &scales.zero, &mut scales.error, &mut scales.spare);
        scales.plain_error.clone_from(&scales.error);
        let groups = tile.groups();
        scales.ratio.clear();
        scales.ratio.resize(groups, 1.0);
        scales.center.clear();
        scales.center.resize(groups, 0.0);
        for share in unclipped(tile.encoding).into_iter().chain(COARSE) {
            scales.center.fill(share);
            try_shares(tile, scales, 0.0);
        }
        for distance in FINE {
            scales.center.clone_from(&scales.ratio);
            try_shares(tile, scales, -distance);
            try_shares(tile, scales, distance);
        }
    }

    fn candidates(&self, encoding: &Encoding, low: f32, high: f32) -> Vec<Pair> {
        let shares = unclipped(encoding).into_iter().chain(COARSE);
        let mut pairs = rtn::METHOD.candidates(encoding, low, high);
        pairs.extend(shares.map(|r| encoding.pair(r * low, r * high)));
        pairs
    }
}

/// Tries the share `center + offset` of each group, and keeps it in `ratio` where it is better.
fn try_shares(tile: &Tile<'_>, scales: &mut Scales, offset: f32) {
    let Scales { low, high, center, trial, spare, .. } = scales;
    let is_symmetric = tile.encoding.is_symmetric;
    trial.clear();
    for ((low, high), center) in low.iter().zip(high).zip(center) {
        let share = *center + offset;
        trial.push(tile.encoding.pair(share * *low, share * *high), is_symmetric);
    }
    tile.errors(&trial.scale, &trial.zero, &mut trial.error, spare);
    let (mut ratio, center) = (std::mem::take(&mut scales.ratio), std::mem::take(&mut scales.center));
    scales.keep_better(|g| ratio[g] = center[g] + offset);
    (scales.ratio, scales.center) = (ratio, center);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::format_named;
    use dlopt_kernels::Float;

    #[test]
    fn an_outlier_is_clipped_when_that_helps_the_others() {
        let encoding = Encoding {
            format: format_named("pack-quantized").unwrap(),
            bits: 2,
            is_symmetric: true,
            stored: Float::F32,
        };
        let mut x: Vec<f32> = (0..63).map(|i| if i % 2 == 0 { 0.5 } else { -0.5 }).collect();
        x.push(1.0);
        let tile = Tile { x: &x, columns: 64, group: 64, encoding: &encoding };
        let mut scales = Scales::default();
        METHOD.choose(&tile, &mut scales);
        assert!(scales.error[0] < scales.plain_error[0] / 4.0, "{scales:?}");
    }
}
