//! How much each feature of a series is like itself some steps later:
//! `r_k = sum_t (x_t - m) (x_(t+k) - m) / sum_t (x_t - m)^2` for lags `k` from 1 on (Box and Jenkins, 1970). 0 for what
//! never changes, and for lags beyond the end.

use dlopt_checkpoint::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::columns::columns;
use super::{Feature, FeatureKind};
use crate::options;
use crate::raw::Raw;

/// The feature.
pub(super) const KIND: FeatureKind =
    FeatureKind::of::<Autocorrelation>("autocorrelation", "lags", "series: likeness to itself so many steps later");

/// How much series are like themselves.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Options")]
struct Autocorrelation(Options);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// The largest lag, in steps.
    lags: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { lags: 10 }
    }
}

impl TryFrom<Options> for Autocorrelation {
    type Error = String;

    fn try_from(options: Options) -> Result<Self, String> {
        match (1..=1 << 20).contains(&options.lags) {
            true => Ok(Self(options)),
            false => Err(format!("{} lags; wanted 1 to {}", options.lags, 1 << 20)),
        }
    }
}

impl Feature for Autocorrelation {
    fn options(&self) -> Map<String, Value> {
        options::written(&self.0)
    }

    fn extract(&self, raw: &Raw, out: &mut Vec<f32>) -> Result<()> {
        for mut column in columns(raw, KIND.name)?.0 {
            let mean = column.iter().sum::<f64>() / column.len() as f64;
            column.iter_mut().for_each(|x| *x -= mean);
            let product = |lag: usize| column.iter().zip(&column[lag..]).map(|(a, b)| a * b).sum::<f64>();
            let whole = product(0);
            let is_constant = whole.sqrt() <= 1e-12 * mean.abs() * (column.len() as f64).sqrt();
            let at = |lag: usize| if is_constant || lag >= column.len() { 0.0 } else { product(lag) / whole };
            out.extend((1..=self.0.lags).map(|lag| at(lag) as f32));
        }
        Ok(())
    }
}
