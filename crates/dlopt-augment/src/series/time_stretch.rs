//! Time stretch: a series played `rate` times as fast, `y(t) = x(rate t)` on straight lines between steps, for
//! `round(steps / rate)` steps. A series that becomes longer than there is room for is cut at its end; one that becomes
//! shorter counts fewer steps (in data of one length, the rest is 0). Of raw sounds it changes the pitch as well, as a
//! record does. The label stays. Source: speed perturbation, Ko et al. 2015 (Interspeech).

use serde::{Deserialize, Serialize};

use super::{change, curve};
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Sample, Scratch};

/// The operation.
pub(crate) const KIND: OperationKind = OperationKind::of::<TimeStretch>(
    "time-stretch",
    "rate",
    Kinds::SERIES,
    "played at rate times the speed (0.9..1.1), cut where there is no more room (Ko et al. 2015)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimeStretch {
    /// Speed, 0.1..=10; faster and shorter above 1.
    rate: Range,
}

impl Default for TimeStretch {
    fn default() -> Self {
        Self { rate: Range::new(0.9, 1.1) }
    }
}

impl Operation for TimeStretch {
    fn validate(&self) -> Result<(), String> {
        self.rate.within("rate", "times the speed", 0.1, 10.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let rate = draws.of(self.rate);
        scratch.note(|| format!("time-stretch {rate:.2}"));
        if rate == 1.0 {
            return;
        }
        change(sample, scratch, |steps| {
            *steps.values = stretch(steps.values, steps.features, f64::from(rate), steps.room);
        });
    }
}

/// The series at another speed, of at most `room` steps.
pub(super) fn stretch(values: &[f32], features: usize, rate: f64, room: usize) -> Vec<f32> {
    let steps = ((values.len() / features) as f64 / rate + 0.5) as usize;
    curve::read(values, features, (0..steps.clamp(1, room)).map(|step| step as f64 * rate))
}
