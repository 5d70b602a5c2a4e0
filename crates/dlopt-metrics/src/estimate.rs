//! A value, its interval, and how the interval was made.

use std::fmt;

use dlopt_checkpoint::{Error, Result};
use serde::{Deserialize, Serialize};

/// The confidence of every interval.
pub(crate) const LEVEL: f64 = 0.95;

/// The standard normal quantile of the upper end of a two-sided interval at [`LEVEL`].
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// How an interval was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Wilson's score interval of a proportion (1927).
    Wilson,
    /// Wilson's interval of TP / (TP + FP + FN), carried over to F1 = 2J / (1 + J) (Lam et al. 2023, arXiv:2309.14621).
    WilsonOfJaccard,
    /// DeLong, DeLong and Clarke-Pearson's variance of the area (1988), on the logit scale.
    DelongLogit,
    /// The areas that Hanley and McNeil's variance (1982) does not rule out: for areas of exactly 0 or 1, where
    /// DeLong's variance is zero.
    HanleyMcneilScore,
    /// Bonett and Price's adjusted interval of a difference of paired proportions (2012).
    BonettPrice,
    /// Bias-corrected and accelerated bootstrap over samples (Efron 1987).
    BootstrapBca,
    /// Percentiles of the bootstrap over samples, widened to hold the value where they do not.
    BootstrapPercentile,
    /// The bootstrap's percentiles reflected at the value, for metrics whose resamples are biased upward, cut at 0
    /// and widened to hold the value.
    BootstrapBasic,
    /// The means of the classes' lower and upper ends: where no resample differs from the value.
    MeanOfClasses,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wilson => "Wilson",
            Self::WilsonOfJaccard => "Wilson, by Jaccard",
            Self::DelongLogit => "DeLong, logit",
            Self::HanleyMcneilScore => "Hanley-McNeil score",
            Self::BonettPrice => "Bonett-Price",
            Self::BootstrapBca => "bootstrap, BCa",
            Self::BootstrapPercentile => "bootstrap, percentile",
            Self::BootstrapBasic => "bootstrap, basic",
            Self::MeanOfClasses => "mean of classes",
        })
    }
}

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How it was made.
    pub method: Method,
}

/// A metric's value with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value on these samples.
    pub value: f64,
    /// The interval; absent where the samples say nothing of the spread (a mean of one sample).
    pub interval: Option<Interval>,
}

impl Estimate {
    pub(crate) fn new(value: f64, low: f64, high: f64, method: Method) -> Self {
        Self { value, interval: Some(Interval { low, high, method }) }
    }

    /// Applies an increasing function to the value and both ends.
    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let interval = self.interval.map(|i| Interval { low: f(i.low), high: f(i.high), method: i.method });
        Self { value: f(self.value), interval }
    }
}

/// How intervals are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Resamples of every bootstrap, at least 100.
    pub resamples: usize,
    /// Decides every resample.
    pub seed: u64,
    /// Threads that draw resamples; 0 takes as many as the machine has. Changes no result.
    pub threads: usize,
    /// Bins of equal width for the calibration error.
    pub bins: usize,
    /// The k of top-k accuracy, reported where there are more classes than k.
    pub top: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { resamples: 1000, seed: 0, threads: 0, bins: 15, top: 5 }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        if self.resamples < 100 {
            return Err(Error::usage(format!(
                "{} resamples are too few for the ends of a 95 % interval; at least 100 are needed",
                self.resamples
            ))
            .hint("1000, the default"));
        }
        if self.bins == 0 || self.bins > 1000 {
            return Err(
                Error::usage(format!("{} calibration bins; wanted 1 to 1000", self.bins)).hint("15, the default")
            );
        }
        if self.top == 0 {
            return Err(Error::usage("top-0 accuracy is always 0; wanted a k of at least 1").hint("5, the default"));
        }
        Ok(())
    }
}
