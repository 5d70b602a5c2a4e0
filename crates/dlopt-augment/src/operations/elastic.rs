//! Elastic distortion: every pixel comes from a place nearby, `x + alpha (G * u)`, `y + alpha (G * v)`, with `u` and `v`
//! drawn anew for every pixel from -1 to 1, all alike, and `G` a Gaussian of deviation `sigma` pixels; neighbours move
//! together, the further the smaller alpha is against sigma. The label stays. Source: Simard, Steinkraus and Platt 2003
//! (ICDAR), who take alpha 34 and sigma 4 for digits of 29 x 29.

use serde::{Deserialize, Serialize};

use super::blur::gaussian;
use super::filter::both_ways;
use crate::draws::Draws;
use crate::geometry::{Fill, Filter, Resampling, from_places};
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<Elastic>(
    "elastic",
    "alpha",
    Kinds::IMAGES,
    "moved by alpha (34) times a noise smoothed over sigma (4) pixels; filter and fill as rotate (Simard et al. 2003)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Elastic {
    /// Strength in pixels, 0..=10000: before the noise is smoothed, pixels move by up to this.
    alpha: Range,
    /// Deviation of the smoothing in pixels, 0.5..=100.
    sigma: Range,
    /// How values between pixels are found.
    filter: Filter,
    /// What lies outside.
    fill: Fill,
    /// Of a constant fill, 0..=1 of white.
    value: f32,
}

impl Default for Elastic {
    fn default() -> Self {
        let (alpha, sigma) = (Range::only(34.0), Range::only(4.0));
        Self { alpha, sigma, filter: Filter::default(), fill: Fill::default(), value: 0.0 }
    }
}

impl Operation for Elastic {
    fn validate(&self) -> Result<(), String> {
        self.alpha.within("alpha", "pixels", 0.0, 10_000.0)?;
        self.sigma.within("sigma", "pixels", 0.5, 100.0)?;
        Resampling { filter: self.filter, fill: self.fill, value: self.value }.validate()
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let Form::Image { height, width, .. } = sample.form else { return };
        let (alpha, sigma) = (draws.of(self.alpha), draws.of(self.sigma));
        scratch.note(|| format!("elastic {alpha:.0} {sigma:.1}"));
        if alpha == 0.0 {
            return;
        }
        let mut moves = std::mem::take(&mut scratch.floats);
        moves.clear();
        moves.extend((0..2 * height * width).map(|_| 2.0 * draws.unit() - 1.0));
        both_ways(&mut moves, [height, width, 2], &gaussian(f64::from(sigma)), &mut scratch.more_floats);
        let how = Resampling { filter: self.filter, fill: self.fill, value: self.value };
        from_places(sample, scratch, how, |x, y| {
            let at = 2 * (y * width + x);
            let by = |part: usize| f64::from(alpha * moves[at + part]);
            [x as f64 + by(0), y as f64 + by(1)]
        });
        scratch.floats = moves;
    }
}
