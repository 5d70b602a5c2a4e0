//! The scale at which the weight of largest magnitude is the largest code: `scale = max(-low, high) / qmax`.
//!
//! With symmetric integers [`rtn`](super::rtn) uses the code `qmin = -qmax - 1` too, and clips positive extremes by half a
//! step; here nothing is clipped, at steps that are larger by `(qmax + 1/2) / qmax`. It is what most papers mean by
//! round to nearest. Asymmetric integers and floats, whose range is used whole either way, are as with `rtn`.
//! Source: Jacob et al. 2018, arXiv 1712.05877, section 3 ("narrow range").

use super::{Encoding, Method, Pair, Scales, Tile, rtn};
use crate::Plugin;

pub(super) static METHOD: AbsMax = AbsMax;

const PLUGIN: Plugin = Plugin {
    name: "absmax",
    summary: "the largest magnitude of each group becomes the largest code: nothing is clipped",
    source: "arXiv 1712.05877",
};

/// The largest magnitude becomes the largest code.
pub(super) struct AbsMax;

impl Method for AbsMax {
    fn plugin(&self) -> Plugin {
        PLUGIN
    }

    fn searches(&self) -> bool {
        false
    }

    fn choose(&self, tile: &Tile<'_>, scales: &mut Scales) {
        rtn::METHOD.choose(tile, scales);
        if !tile.encoding.is_symmetric {
            return;
        }
        let Scales { scale, low, high, .. } = scales;
        for (scale, (low, high)) in scale.iter_mut().zip(low.iter().zip(high)) {
            *scale = tile.encoding.unclipped_pair(*low, *high).scale;
        }
    }

    fn candidates(&self, encoding: &Encoding, low: f32, high: f32) -> Vec<Pair> {
        match encoding.is_symmetric {
            true => vec![encoding.unclipped_pair(low, high)],
            false => rtn::METHOD.candidates(encoding, low, high),
        }
    }
}
