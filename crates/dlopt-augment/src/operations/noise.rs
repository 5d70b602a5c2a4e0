//! Gaussian noise: `x + sigma white z`, with `z` normal and drawn anew for every number; rounded to nearest and held to
//! black and white for pictures of bytes. `sigma` is a share of white for pictures, and in the data's own unit for series
//! and rows. The label stays. Source: as old as the field; for training, Bishop 1995 (Neural Computation 7).

use dlopt_kernels::pixels::{add_noise_f32, add_noise_u8};
use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Data, Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<Noise>(
    "noise",
    "sigma",
    Kinds::NUMBERS,
    "gaussian noise of deviation sigma (0.05): a share of white for pictures, else in the unit of the data",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Noise {
    /// Deviation, 0..=10: a share of white for pictures.
    sigma: Range,
}

impl Default for Noise {
    fn default() -> Self {
        Self { sigma: Range::only(0.05) }
    }
}

impl Operation for Noise {
    fn validate(&self) -> Result<(), String> {
        self.sigma.within("sigma", "", 0.0, 10.0)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let sigma = draws.of(self.sigma);
        scratch.note(|| format!("noise {sigma:.3}"));
        add(sample, sigma, draws, scratch);
    }
}

/// Numbers that are drawn at once: they stay in the nearest cache.
const RUN: usize = 640;

/// Adds noise of a deviation.
pub(crate) fn add(sample: &mut Sample, sigma: f32, draws: &mut Draws, scratch: &mut Scratch) {
    if sigma == 0.0 {
        return;
    }
    let sigma = match sample.form {
        Form::Image { white, .. } => sigma * white,
        _ => sigma,
    };
    // Of a series, the steps that count.
    let counted = match sample.form {
        Form::Series { features, .. } => sample.steps * features,
        _ => usize::MAX,
    };
    let room = &mut scratch.floats;
    room.resize(RUN, 0.0);
    match &mut sample.data {
        Data::U8(values) => {
            let counted = counted.min(values.len());
            for values in values[..counted].chunks_mut(RUN) {
                let noise = &mut room[..values.len()];
                draws.normals(noise);
                add_noise_u8(values, sigma, noise);
            }
        }
        Data::F32(values) => {
            let counted = counted.min(values.len());
            for values in values[..counted].chunks_mut(RUN) {
                let noise = &mut room[..values.len()];
                draws.normals(noise);
                add_noise_f32(values, sigma, noise);
            }
        }
        Data::Tokens(_) => {}
    }
}
