//! Gain: all values times `10^(decibels / 20)`. Floats are not cut off at full scale; bytes end at 0 and 255. The label
//! stays. Source: as in audiomentations (Jordal 2019); the decibel of amplitudes.

use serde::{Deserialize, Serialize};

use super::change;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::portable::pow;
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<Gain>(
    "gain",
    "decibels",
    Kinds::SERIES,
    "louder or softer by decibels (±6): values times 10^(decibels / 20)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gain {
    /// Decibels of amplitude, -100..=100.
    decibels: Range,
}

impl Default for Gain {
    fn default() -> Self {
        Self { decibels: Range::new(-6.0, 6.0) }
    }
}

impl Operation for Gain {
    fn validate(&self) -> Result<(), String> {
        self.decibels.within("decibels", "dB", -100.0, 100.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let decibels = draws.of(self.decibels);
        scratch.note(|| format!("gain {decibels:.1} dB"));
        if decibels == 0.0 {
            return;
        }
        let factor = amplitude(f64::from(decibels)) as f32;
        change(sample, scratch, |steps| steps.values.iter_mut().for_each(|x| *x *= factor));
    }
}

/// The factor of amplitudes that these decibels are.
pub(super) fn amplitude(decibels: f64) -> f64 {
    pow(10.0, decibels / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_decibels_are_ten_times() {
        for (decibels, factor) in [(20.0, 10.0), (-20.0, 0.1), (0.0, 1.0), (6.0, 1.995_262_314_968_879_6)] {
            assert!((amplitude(decibels) / factor - 1.0).abs() < 1e-12);
        }
    }
}
