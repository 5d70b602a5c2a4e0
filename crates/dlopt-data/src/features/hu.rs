//! Hu's seven moments: numbers of a shape that stay the same when it is moved, scaled or turned.
//!
//! Of `m_pq = sum x^p y^q value`, the central moments `mu_pq` about the centre of mass and
//! `eta_pq = mu_pq / m_00^(1 + (p + q) / 2)`; all are 0 for a black picture. With `log`,
//! `-sign(h) log10 |h|`, 0 for 0, since they span many magnitudes. Values are luma (BT.601); with `threshold` they are 1
//! from it on and 0 below.
//!
//! Source: Hu 1962. Equals OpenCV's HuMoments of moments.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::planes::{Plane, grey, picture};
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// Hu's moments.
pub(super) const KIND: FeatureKind =
    FeatureKind::of::<Hu>("hu", "threshold", "shape: seven moments that stay when it turns (Hu 1962; as OpenCV)");

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Hu {
    /// The value from which on a pixel belongs to the shape; without it, pixels weigh what their value is.
    threshold: Option<f32>,
    /// Whether magnitudes are taken, `-sign(h) log10 |h|`.
    log: bool,
}

impl Default for Hu {
    fn default() -> Self {
        Self { threshold: None, log: true }
    }
}

impl Feature for Hu {
    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        let mut plane = grey(picture(raw, KIND.name)?);
        if let Some(threshold) = self.threshold {
            plane.values.iter_mut().for_each(|x| *x = f32::from(u8::from(*x >= threshold)));
        }
        let invariants = invariants(&scaled_moments(&plane));
        let magnitude = |h: f64| if h == 0.0 { 0.0 } else { -h.signum() * h.abs().log10() };
        out.extend(invariants.map(|h| if self.log { magnitude(h) } else { h } as f32));
        Ok(())
    }
}

/// `eta_pq`, by `q` and `p`.
fn scaled_moments(plane: &Plane) -> [[f64; 4]; 4] {
    // Sums of values times powers of the column, row by row, so that rows are only weighed.
    let mut raw = [[0.0; 4]; 4];
    for (y, line) in plane.values.chunks_exact(plane.width).enumerate() {
        let mut sums = [0.0; 4];
        for (x, &value) in line.iter().enumerate() {
            let (x, value) = (x as f64, f64::from(value));
            sums[0] += value;
            sums[1] += value * x;
            sums[2] += value * x * x;
            sums[3] += value * x * x * x;
        }
        for (q, moments) in raw.iter_mut().enumerate() {
            let weight = (y as f64).powi(q as i32);
            moments.iter_mut().zip(sums).for_each(|(moment, sum)| *moment += weight * sum);
        }
    }
    let mass = raw[0][0];
    let mut eta = [[0.0; 4]; 4];
    if mass == 0.0 {
        return eta;
    }
    let (x, y) = (raw[0][1] / mass, raw[1][0] / mass);
    let m = |p: usize, q: usize| raw[q][p];
    eta[0][2] = m(2, 0) - x * m(1, 0);
    eta[1][1] = m(1, 1) - x * m(0, 1);
    eta[2][0] = m(0, 2) - y * m(0, 1);
    eta[0][3] = m(3, 0) - x * (3.0 * m(2, 0) - 2.0 * x * m(1, 0));
    eta[1][2] = m(2, 1) - x * (2.0 * m(1, 1) - 2.0 * x * m(0, 1)) - y * m(2, 0);
    eta[2][1] = m(1, 2) - y * (2.0 * m(1, 1) - 2.0 * y * m(1, 0)) - x * m(0, 2);
    eta[3][0] = m(0, 3) - y * (3.0 * m(0, 2) - 2.0 * y * m(0, 1));
    for (q, moments) in eta.iter_mut().enumerate() {
        for (p, moment) in moments.iter_mut().enumerate().filter(|(p, _)| p + q >= 2) {
            *moment /= mass.powf(1.0 + (p + q) as f64 / 2.0);
        }
    }
    eta
}

fn invariants(eta: &[[f64; 4]; 4]) -> [f64; 7] {
    let n = |p: usize, q: usize| eta[q][p];
    let (sum, difference) = (n(2, 0) + n(0, 2), n(2, 0) - n(0, 2));
    let (a, b) = (n(3, 0) - 3.0 * n(1, 2), 3.0 * n(2, 1) - n(0, 3));
    let (c, d) = (n(3, 0) + n(1, 2), n(2, 1) + n(0, 3));
    let (e, f) = (c * (c * c - 3.0 * d * d), d * (3.0 * c * c - d * d));
    [
        sum,
        difference * difference + 4.0 * n(1, 1) * n(1, 1),
        a * a + b * b,
        c * c + d * d,
        a * e + b * f,
        difference * (c * c - d * d) + 4.0 * n(1, 1) * c * d,
        b * e - a * f,
    ]
}
