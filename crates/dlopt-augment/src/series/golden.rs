//! Series with fixed parameters against `fixtures/augment/series.json`, which numpy, SciPy and librosa computed.

use serde_json::Value;

use super::curve::Spline;
use super::time_mask::{Blot, blot, mask_steps};
use super::{background_noise, frequency_mask, magnitude_warp, time_stretch, time_warp, window_slice, window_warp};

/// Sums and products are of doubles on both sides, and results are rounded to 32 bits; the mean of a mask and the noise of
/// a mixture add a rounding.
const TOLERANCE: f64 = 3e-7;

#[derive(serde::Deserialize)]
struct Numbers {
    shape: [usize; 2],
    values: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct Case {
    series: String,
    operation: String,
    parameters: Value,
    #[serde(flatten)]
    wanted: Numbers,
}

#[derive(serde::Deserialize)]
struct Golden {
    series: std::collections::BTreeMap<String, Numbers>,
    cases: Vec<Case>,
}

#[test]
fn series_equal_those_of_others() {
    let golden: Golden = serde_json::from_str(include_str!("../../../../fixtures/augment/series.json")).unwrap();
    assert_eq!(golden.cases.len(), 14);
    for Case { series, operation, parameters, wanted } in &golden.cases {
        let own = &golden.series[series];
        let (values, features) = (&own.values[..], own.shape[1]);
        let number = |name: &str| parameters[name].as_f64().unwrap();
        let count = |name: &str| parameters[name].as_u64().unwrap() as usize;
        let curve = || Spline::new(serde_json::from_value(parameters["knots"].clone()).unwrap());
        let mut changed = values.to_vec();
        match operation.as_str() {
            "stretch" => changed = time_stretch::stretch(values, features, number("rate"), 1000),
            "window_warp" => {
                changed = window_warp::warp(values, features, count("start"), count("window"), number("speed"));
            }
            "window_slice" => changed = window_slice::slice(values, features, count("start"), count("window"), true),
            "magnitude_warp" => magnitude_warp::warp(&mut changed, features, 0..features, &curve()),
            "time_warp" => changed = time_warp::warp(values, features, &curve()),
            "mask" => {
                let fill = if parameters["fill"] == "zero" { Blot::Zero } else { Blot::Mean };
                let (value, mask) = (blot(values, fill), count("start")..count("start") + count("width"));
                match parameters["axis"] == "time" {
                    true => mask_steps(&mut changed, features, mask, value),
                    false => frequency_mask::mask_features(&mut changed, features, mask, value),
                }
            }
            "mix" => background_noise::mix(&mut changed, &golden.series["noise"].values, number("snr")),
            other => panic!("{other}"),
        }
        let place = format!("{operation} of {series} with {parameters}");
        assert_eq!(changed.len(), wanted.shape[0] * wanted.shape[1], "{place}");
        for (at, (&value, &other)) in changed.iter().zip(&wanted.values).enumerate() {
            let off = f64::from((value - other).abs());
            assert!(off <= TOLERANCE * f64::from(other.abs()).max(1.0), "{place}, {at}: {value} and {other}");
        }
    }
}
