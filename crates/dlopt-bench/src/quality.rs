//! What a variant is worth, from the report of `dlopt eval --against`: one metric that decides, whatever the network puts
//! out, and how it compares with the original on the same samples.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The metric that decides, and what goes with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// `accuracy`, `sequences right`, `loss` or `mean squared error`.
    pub metric: String,
    /// Whether more is better.
    pub is_gain: bool,
    /// Whether it is a share, shown in percent.
    pub is_share: bool,
    /// Its value.
    pub value: f64,
    /// The ends of its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// How the interval was made.
    pub method: Option<String>,
    /// Samples behind it.
    pub samples: u64,
    /// The error of its confidence, 0..=1, where there is one.
    pub calibration_error: Option<f64>,
    /// The same samples through the original.
    pub paired: Option<Paired>,
}

/// A variant and its original on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Variant minus original.
    pub difference: f64,
    /// The ends of its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// Two-sided, of no difference.
    pub p_value: f64,
    /// How that was tested.
    pub test: String,
    /// Share of samples for which both say the same.
    pub agreement: Option<f64>,
}

/// Where the metric stands in the report of each kind of network.
struct Where {
    kind: &'static str,
    path: &'static str,
    paired: &'static str,
    metric: &'static str,
    is_gain: bool,
    is_share: bool,
    /// The report has the share that is wrong.
    is_complement: bool,
    test: &'static str,
}

const METRICS: [Where; 5] = [
    Where {
        kind: "classification",
        path: "/accuracy",
        paired: "/accuracy",
        metric: "accuracy",
        is_gain: true,
        is_share: true,
        is_complement: false,
        test: "McNemar, exact",
    },
    Where {
        kind: "sequences",
        path: "/sequence_error_rate",
        paired: "/sequence_error_rate",
        metric: "sequences right",
        is_gain: true,
        is_share: true,
        is_complement: true,
        test: "McNemar, exact",
    },
    Where {
        kind: "tokens",
        path: "/accuracy",
        paired: "/accuracy",
        metric: "tokens right",
        is_gain: true,
        is_share: true,
        is_complement: false,
        test: "bootstrap over windows",
    },
    Where {
        kind: "regression",
        path: "/mse",
        paired: "/mse",
        metric: "mean squared error",
        is_gain: false,
        is_share: false,
        is_complement: false,
        test: "bootstrap over samples",
    },
    Where {
        kind: "binary",
        path: "/accuracy",
        paired: "/none",
        metric: "accuracy",
        is_gain: true,
        is_share: true,
        is_complement: false,
        test: "",
    },
];

impl Quality {
    /// Reads the report of an evaluation; nothing where it has no metric that is known here.
    pub fn of(report: &Value) -> Option<Self> {
        let metrics = report.pointer("/model/metrics")?;
        let place = METRICS.iter().find(|place| metrics.get(place.kind).is_some())?;
        let own = &metrics[place.kind];
        let estimate = own.pointer(place.path)?;
        let turned = |value: f64| if place.is_complement { 1.0 - value } else { value };
        let ends = |estimate: &Value, turned: &dyn Fn(f64) -> f64| {
            let [low, high] =
                ["/interval/low", "/interval/high"].map(|end| estimate.pointer(end)?.as_f64().map(turned));
            Some([low?.min(high?), low?.max(high?)])
        };
        let negated = |value: f64| if place.is_complement { -value } else { value };
        let paired = report.get("paired").and_then(|paired| paired.get(place.kind)).and_then(|paired| {
            let difference = paired.pointer(place.paired)?;
            let all = own.get("samples").and_then(Value::as_f64);
            let same = paired.get("same").and_then(Value::as_f64);
            Some(Paired {
                difference: negated(difference.pointer("/difference/value")?.as_f64()?),
                interval: ends(&difference["difference"], &negated),
                p_value: difference["p_value"].as_f64()?,
                test: place.test.to_owned(),
                agreement: paired.pointer("/agreement/value").and_then(Value::as_f64).or_else(|| Some(same? / all?)),
            })
        });
        Some(Self {
            metric: place.metric.to_owned(),
            is_gain: place.is_gain,
            is_share: place.is_share,
            value: turned(estimate["value"].as_f64()?),
            interval: ends(estimate, &turned),
            method: estimate.pointer("/interval/method").and_then(Value::as_str).map(str::to_owned),
            samples: own.get("samples").and_then(Value::as_u64)?,
            calibration_error: own.pointer("/calibration/expected_error/value").and_then(Value::as_f64),
            paired,
        })
    }

    /// What it has lost of another, in points: percent of a share, or percent of the other's value. Below 0 is a gain.
    pub fn lost(&self, of: &Self) -> f64 {
        let lost = if self.is_gain { of.value - self.value } else { self.value - of.value };
        if self.is_share { 100.0 * lost } else { 100.0 * lost / of.value.abs().max(f64::MIN_POSITIVE) }
    }

    /// Its value, as people read it.
    pub fn text(&self) -> String {
        if self.is_share { format!("{:.2}%", 100.0 * self.value) } else { format!("{:.5}", self.value) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn accuracy_with_its_interval_and_pair() {
        let report = json!({
            "model": { "metrics": { "classification": {
                "samples": 1000,
                "accuracy": { "value": 0.9, "interval": { "low": 0.88, "high": 0.92, "method": "wilson" } },
                "calibration": { "expected_error": { "value": 0.02, "interval": null } },
            } } },
            "paired": { "classification": {
                "agreement": { "value": 0.97, "interval": null },
                "accuracy": { "difference": { "value": -0.01, "interval": { "low": -0.02, "high": 0.0 } }, "p_value": 0.03 },
            } },
        });
        let quality = Quality::of(&report).unwrap();
        assert_eq!((quality.value, quality.interval, quality.samples), (0.9, Some([0.88, 0.92]), 1000));
        assert_eq!((quality.calibration_error, quality.text().as_str()), (Some(0.02), "90.00%"));
        let paired = quality.paired.clone().unwrap();
        assert_eq!((paired.difference, paired.p_value, paired.agreement), (-0.01, 0.03, Some(0.97)));
        let better = Quality { value: 0.91, ..quality.clone() };
        assert!((quality.lost(&better) - 1.0).abs() < 1e-9);
        assert!(Quality::of(&json!({})).is_none());
    }

    #[test]
    fn sequences_count_what_is_right() {
        let report = json!({
            "model": { "metrics": { "sequences": {
                "samples": 200,
                "sequence_error_rate": { "value": 0.25, "interval": { "low": 0.2, "high": 0.3, "method": "wilson" } },
            } } },
            "paired": { "sequences": {
                "same": 190,
                "sequence_error_rate": { "difference": { "value": 0.02, "interval": { "low": 0.01, "high": 0.04 } }, "p_value": 0.5 },
            } },
        });
        let quality = Quality::of(&report).unwrap();
        assert_eq!((quality.value, quality.interval), (0.75, Some([0.7, 0.8])));
        let paired = quality.paired.unwrap();
        assert_eq!((paired.difference, paired.interval, paired.agreement), (-0.02, Some([-0.04, -0.01]), Some(0.95)));
    }
}
