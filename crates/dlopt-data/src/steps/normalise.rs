//! Each feature of a series less its own mean over time, over its own deviation: what a microphone or a voice adds to all
//! frames alike falls away (of MFCCs: cepstral mean and variance normalisation, Viikki and Laurila, 1998).
//!
//! Statistics are those of the one sample, where `standardise` has those of the training split.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options;
use crate::raw::{Raw, Series, Values};
use crate::step::{Step, StepKind};

/// The step.
pub(super) const KIND: StepKind =
    StepKind::of::<Normalise>("normalise", "by", "each feature of a series by its own mean and deviation over time");

/// Each feature by its own statistics over time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Normalise {
    #[serde(default)]
    by: By,
}

/// What is taken off and divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    /// Mean and deviation; a feature that never changes becomes 0.
    #[default]
    Deviation,
    /// The mean alone.
    Mean,
}

impl Step for Normalise {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let series = raw.series(KIND.name)?;
        let mut values = series.values.floats().into_owned();
        let count = series.time.max(1) as f64;
        for feature in 0..series.features {
            let own = || values.iter().skip(feature).step_by(series.features).map(|&x| f64::from(x));
            let mean = own().sum::<f64>() / count;
            let deviation = match self.by {
                By::Mean => 1.0,
                By::Deviation => (own().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt(),
            };
            // Of a constant, what rounding leaves of the deviation.
            let factor = if deviation > 1e-7 * mean.abs() { 1.0 / deviation } else { 0.0 };
            let own = values.iter_mut().skip(feature).step_by(series.features);
            own.for_each(|x| *x = ((f64::from(*x) - mean) * factor) as f32);
        }
        Ok(Raw::Series(Series { values: Values::F32(values), ..series }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(by: By, values: &[f32]) -> Vec<f32> {
        let series = Series { time: values.len() / 2, features: 2, rate: None, values: Values::F32(values.to_vec()) };
        match (Normalise { by }).apply(Raw::Series(series)).unwrap() {
            Raw::Series(Series { values: Values::F32(values), .. }) => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_feature_has_its_own_mean_and_deviation() {
        assert_eq!(normalised(By::Deviation, &[1.0, 5.0, 3.0, 5.0]), [-1.0, 0.0, 1.0, 0.0]);
        assert_eq!(normalised(By::Mean, &[1.0, 5.0, 3.0, 7.0]), [-1.0, -1.0, 1.0, 1.0]);
        assert!(Normalise { by: By::Mean }.apply(Raw::Text(String::new())).is_err());
    }
}
