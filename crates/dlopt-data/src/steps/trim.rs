//! Cuts silence off both ends of sounds, as librosa's `effects.trim` does: frames stay from the first to the last whose
//! root mean square is less than `below` decibels under that of the loudest, in whichever channel.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Raw, Series, Values};
use crate::step::{Step, StepKind};

/// The step.
pub(super) const KIND: StepKind = StepKind::of::<Trim>(
    "trim",
    "below",
    "silence off both ends of sounds: what is so many decibels below the loudest",
);

/// Smallest mean square that has a level.
const LEAST_POWER: f64 = 1e-10;

/// Cuts silence off.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct Trim(Options);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// What is so far below the loudest frame is silence, in decibels.
    below: f64,
    /// Samples of a frame.
    frame: usize,
    /// Samples from one frame to the next.
    hop: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { below: 60.0, frame: 2048, hop: 512 }
    }
}

impl TryFrom<Options> for Trim {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        if options.below.is_nan()
            || options.below <= 0.0
            || options.frame == 0
            || options.hop == 0
            || options.frame > 1 << 24
        {
            return Err("wanted `below`, `frame` and `hop` above 0".to_owned());
        }
        Ok(Self(options))
    }
}

impl Step for Trim {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(&self.0)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let (sound, rate) = raw.sound(KIND.name)?;
        let Series { time, features, values, .. } = sound;
        let values = values.floats().into_owned();
        let Options { below, frame, hop } = self.0;
        // The loudest channel decides, each against its own loudest frame.
        let mut loud = vec![false; time / hop + 1];
        for channel in 0..features {
            let powers = mean_squares(&values, [channel, features], frame, hop);
            let levels: Vec<f64> = powers.iter().map(|power| 10.0 * power.max(LEAST_POWER).log10()).collect();
            let least = levels.iter().copied().fold(f64::MIN, f64::max) - below;
            loud.iter_mut().zip(levels).for_each(|(loud, level)| *loud |= level > least);
        }
        let first = loud.iter().position(|&loud| loud).unwrap_or(0);
        let last = loud.iter().rposition(|&loud| loud).unwrap_or(0);
        let (begin, end) = ((first * hop).min(time), ((last + 1) * hop).min(time));
        let values = Values::F32(values[begin * features..end * features].to_vec());
        Ok(Raw::Series(Series { time: end - begin, features, rate: Some(rate), values }))
    }
}

/// The mean square of every frame of a channel, frames being centred and the sound amid silence.
fn mean_squares(values: &[f32], [channel, channels]: [usize; 2], frame: usize, hop: usize) -> Vec<f64> {
    let squares: Vec<f64> =
        values.iter().skip(channel).step_by(channels).map(|&x| f64::from(x) * f64::from(x)).collect();
    let before = frame / 2;
    let power = |centre: usize| {
        let end = (centre + frame - before).min(squares.len());
        squares[centre.saturating_sub(before).min(end)..end].iter().sum::<f64>() / frame as f64
    };
    (0..=squares.len()).step_by(hop).map(power).collect()
}
