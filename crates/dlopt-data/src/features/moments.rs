//! Each feature of a series in six numbers: mean, deviation, skewness, excess kurtosis (as SciPy has them, of the whole
//! and not of a sample), smallest and largest. Skewness and kurtosis of what never changes are 0.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::columns::columns;
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// The feature.
pub(super) const KIND: FeatureKind = FeatureKind::of::<Moments>(
    "moments",
    "",
    "series: mean, deviation, skewness, kurtosis, smallest, largest of each feature (SciPy)",
);

const NAMES: [&str; 6] = ["mean", "deviation", "skewness", "kurtosis", "smallest", "largest"];

/// The moments of each feature.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moments {}

impl Feature for Moments {
    fn options(&self) -> Map<String, Value> {
        options::written(self)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        for column in columns(raw, KIND.name)?.0 {
            let steps = column.len() as f64;
            let mean = column.iter().sum::<f64>() / steps;
            let moment = |power: i32| column.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / steps;
            let variance = moment(2);
            // What differs from its mean by rounding alone does not change.
            let is_constant = variance.sqrt() <= 1e-12 * mean.abs();
            let [skewness, kurtosis] = match is_constant {
                true => [0.0; 2],
                false => [moment(3) / variance.powf(1.5), moment(4) / variance.powi(2) - 3.0],
            };
            let (smallest, largest) = column.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
            out.extend([mean, variance.sqrt(), skewness, kurtosis, smallest, largest].map(|x| x as f32));
        }
        Ok(())
    }

    fn names(&self, name: &str, count: usize) -> Vec<String> {
        (0..count).map(|at| format!("{name}_{}_{}", at / NAMES.len(), NAMES[at % NAMES.len()])).collect()
    }
}
