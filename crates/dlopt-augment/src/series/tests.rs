//! What holds for operations on series.

use serde_json::{Value, json};

use crate::draws::Key;
use crate::operations::OPERATIONS;
use crate::recipe::Recipe;
use crate::sample::{Data, Form, Sample, Scratch};

fn series(steps: usize, time: usize, features: usize, is_bytes: bool) -> Sample {
    let value = |at: usize| if at < steps * features { (at * 7919 % 251 + 1) as u8 } else { 0 };
    let values = (0..time * features).map(value);
    let data = match is_bytes {
        true => Data::U8(values.collect()),
        false => Data::F32(values.map(|x| if x == 0 { 0.0 } else { f32::from(x) / 100.0 - 1.3 }).collect()),
    };
    Sample { form: Form::Series { time, features }, data, steps }
}

fn after(op: &Value, sample: &Sample, number: u64) -> Sample {
    let mut sample = sample.clone();
    let recipe = Recipe::of(&json!([op])).unwrap();
    recipe.check(&sample.form).unwrap();
    recipe.apply(&mut sample, Key { seed: 3, round: 1, sample: number }, &mut Scratch::default());
    sample
}

fn floats(sample: &Sample) -> Vec<f32> {
    match &sample.data {
        Data::U8(values) => values.iter().map(|&x| f32::from(x)).collect(),
        Data::F32(values) => values.clone(),
        Data::Tokens(_) => panic!(),
    }
}

/// All operations that are for series alone.
fn own_operations() -> impl Iterator<Item = &'static str> {
    OPERATIONS.iter().filter(|kind| kind.kinds.series && !kind.kinds.images).map(|kind| kind.name)
}

#[test]
fn options_that_change_nothing_leave_every_byte() {
    let nothing = [
        "jitter=0",
        "scaling=0",
        "gain=0",
        "time-shift=0",
        "time-stretch=1",
        "window-slice=1",
        "window-warp=0",
        "window-warp=0.5,factor=1",
        "magnitude-warp=0",
        "time-warp=0",
        "permutation=1",
        "time-mask=0",
        "time-mask=1,masks=0",
        "frequency-mask=0",
        "spec-augment=,masks=0",
    ];
    for op in nothing {
        for is_bytes in [true, false] {
            for (steps, time) in [(1, 1), (7, 11), (13, 13)] {
                let own = series(steps, time, 3, is_bytes);
                assert_eq!(after(&json!({ "op": op }), &own, 4), own, "{op}");
            }
        }
    }
}

#[test]
fn padding_never_becomes_data_and_lengths_fit() {
    for name in own_operations() {
        let mut changes = 0;
        for number in 0..30 {
            for (steps, time) in [(1, 1), (1, 9), (12, 19), (19, 19)] {
                for is_bytes in [true, false] {
                    let own = series(steps, time, 4, is_bytes);
                    let other = after(&json!({ "op": name }), &own, number);
                    let values = floats(&other);
                    assert!((1..=time).contains(&other.steps) && values.len() == time * 4, "{name}");
                    assert!(values[other.steps * 4..].iter().all(|&x| x == 0.0), "{name}");
                    assert!(values.iter().all(|x| x.is_finite()), "{name}");
                    changes += usize::from(other != own);
                    // What lies behind the end says nothing about the result.
                    let short = after(&json!({ "op": name }), &series(steps, time + 3, 4, is_bytes), number);
                    if short.steps <= time {
                        assert_eq!(
                            floats(&short)[..short.steps.min(other.steps) * 4],
                            values[..short.steps.min(other.steps) * 4],
                            "{name}"
                        );
                    }
                }
            }
        }
        assert!(changes > 20, "{name} changed {changes}");
    }
}

#[test]
fn a_sample_is_changed_alike_after_any_other() {
    for name in own_operations() {
        let recipe = Recipe::of_ops(&[name]).unwrap();
        let key = |sample| Key { seed: 8, round: 0, sample };
        let own = series(9, 14, 3, false);
        let apply = |order: &[u64]| {
            let mut scratch = Scratch::default();
            let mut all = std::collections::BTreeMap::new();
            for &number in order {
                let mut sample = own.clone();
                recipe.apply(&mut sample, key(number), &mut scratch);
                all.insert(number, sample);
            }
            all
        };
        assert_eq!(apply(&[0, 1, 2, 3, 4]), apply(&[3, 0, 4, 2, 1]), "{name}");
    }
}

#[test]
fn masks_cover_whole_steps_and_features_up_to_their_width() {
    let own = series(20, 25, 10, false);
    let values = floats(&own);
    let mut widest = [0; 2];
    for number in 0..300 {
        let masked = floats(&after(&json!({ "op": "time-mask=0.3", "fill": "zero" }), &own, number));
        let steps: Vec<usize> = (0..20).filter(|&t| masked[t * 10..][..10].iter().all(|&x| x == 0.0)).collect();
        assert!(steps.len() <= 6 && steps.windows(2).all(|pair| pair[1] == pair[0] + 1), "{steps:?}");
        let kept = (0..200).filter(|at| !steps.contains(&(at / 10)));
        assert!(kept.into_iter().all(|at| masked[at] == values[at]));
        widest[0] = widest[0].max(steps.len());

        let masked = floats(&after(&json!({ "op": "frequency-mask=0.4,bands=3", "fill": "zero" }), &own, number));
        let bands: Vec<usize> = (0..10).filter(|&f| (0..20).all(|t| masked[t * 10 + f] == 0.0)).collect();
        assert!(bands.len() <= 3 && bands.windows(2).all(|pair| pair[1] == pair[0] + 1), "{bands:?}");
        assert!((0..200).filter(|at| !bands.contains(&(at % 10))).all(|at| masked[at] == values[at]));
        widest[1] = widest[1].max(bands.len());
    }
    assert_eq!(widest, [6, 3]);
    let mean = (values.iter().map(|&x| f64::from(x)).sum::<f64>() / 200.0) as f32;
    let masked = floats(&after(&json!({ "op": "spec-augment", "frequency": 1, "time": 1, "masks": 40 }), &own, 0));
    assert!(masked[..200].iter().all(|x| *x == mean));
}

#[test]
fn noise_has_its_ratio_to_the_signal() {
    for colour in ["white", "pink", "brown"] {
        for (snr, features) in [(10.0, 1), (-5.5, 2), (40.0, 1)] {
            let own = series(900, 1000, features, false);
            let noisy = floats(&after(&json!({ "op": "background-noise", "snr": snr, "colour": colour }), &own, 0));
            let square = |x: f64| x * x;
            let signal: f64 = floats(&own).iter().map(|&x| square(f64::from(x))).sum();
            let noise: f64 = floats(&own).iter().zip(&noisy).map(|(&a, &b)| square(f64::from(b) - f64::from(a))).sum();
            let ratio = 10.0 * (signal / noise).log10();
            assert!((ratio - snr).abs() < 0.1, "{colour}: {ratio} for {snr}");
        }
    }
}

#[test]
fn factors_and_lengths_are_those_asked_for() {
    let own = series(20, 30, 2, false);
    let values = floats(&own);
    let louder = floats(&after(&json!({ "op": "gain=6" }), &own, 0));
    assert!(values.iter().zip(&louder).all(|(a, b)| (a * 1.995_262_3 - b).abs() < 1e-6));
    let steps = |op: &str| after(&json!({ "op": op }), &own, 0).steps;
    assert_eq!([steps("time-stretch=2"), steps("time-stretch=0.8"), steps("time-stretch=0.5")], [10, 25, 30]);
    assert_eq!([steps("window-slice=0.5"), steps("window-slice=0.5,stretch=false")], [20, 10]);
    let scaled = floats(&after(&json!({ "op": "scaling=0.5" }), &own, 1));
    let factor = scaled[0] / values[0];
    assert!(values[..40].iter().zip(&scaled).all(|(a, b)| (a * factor - b).abs() < 1e-5));
    let mut sorted = floats(&after(&json!({ "op": "permutation=7" }), &own, 5));
    let mut before = values.clone();
    assert_ne!(sorted, before);
    sorted.sort_by(f32::total_cmp);
    before.sort_by(f32::total_cmp);
    assert_eq!(sorted, before);
}

#[test]
fn jitter_counts_in_deviations_of_each_feature() {
    let time = 4000;
    let data = (0..time).flat_map(|t| [(t % 2) as f32 * 200.0, 5.0, (t % 2) as f32 * 0.2]).collect();
    let own = Sample { form: Form::Series { time, features: 3 }, data: Data::F32(data), steps: time };
    let noisy = floats(&after(&json!({ "op": "jitter=0.1" }), &own, 0));
    let deviation = |feature: usize| {
        let off = floats(&own)
            .iter()
            .zip(&noisy)
            .skip(feature)
            .step_by(3)
            .map(|(a, b)| f64::from(b - a).powi(2))
            .sum::<f64>();
        (off / time as f64).sqrt()
    };
    assert!((deviation(0) - 10.0).abs() < 0.6 && deviation(1) == 0.0 && (deviation(2) - 0.01).abs() < 0.0006);
    let noisy = floats(&after(&json!({ "op": "jitter=0.1,relative=false" }), &own, 0));
    assert!((f64::from(noisy[1] - 5.0)).abs() < 0.4 && noisy[1] != 5.0);
}

#[test]
fn what_is_out_of_range_is_refused_with_the_range() {
    let refused = |op: &str| {
        let made = Recipe::of_ops(&[op]).and_then(|recipe| recipe.check(&Form::Series { time: 9, features: 1 }));
        made.unwrap_err().message().to_owned()
    };
    for (op, message) in [
        ("jitter=-1", "`jitter`: sigma is -1; wanted 0 to 10"),
        ("gain=200", "decibels is 200; wanted -100 to 100 dB"),
        ("time-shift=0.1..2", "share is 0.1..2; wanted -1 to 1 of the steps"),
        ("time-shift=0.1,fill=noise", "unknown variant `noise`"),
        ("time-stretch=0", "rate is 0; wanted 0.1 to 10 times the speed"),
        ("window-slice=0", "share is 0; wanted 0.01 to 1 of the steps"),
        ("window-warp=0.1,factor=0", "factor is 0; wanted 0.05 to 20"),
        ("magnitude-warp=0.1,knots=1001", "knots is 1001; wanted 0 to 1000"),
        ("permutation=0", "segments is 0; wanted 1 to 1000"),
        ("time-mask=1.1", "share is 1.1; wanted 0 to 1 of the steps"),
        ("frequency-mask=0.3", "series of one feature have no bands"),
        ("spec-augment", "series of one feature have no bands"),
        ("background-noise=200", "snr is 200; wanted -60 to 120 dB"),
    ] {
        let said = refused(op);
        assert!(said.contains(message), "{said}");
    }
}
