//! What holds for every operation, and for geometry.

use serde_json::{Value, json};

use crate::draws::Key;
use crate::operations::OPERATIONS;
use crate::recipe::Recipe;
use crate::sample::{Data, Form, Sample, Scratch};

pub(super) fn picture(height: usize, width: usize, channels: usize, is_bytes: bool) -> Sample {
    let values = (0..height * width * channels).map(|at| (at * 7919 % 256) as u8);
    let (data, white) = match is_bytes {
        true => (Data::U8(values.collect()), 255.0),
        false => (Data::F32(values.map(|x| f32::from(x) / 255.0).collect()), 1.0),
    };
    Sample { form: Form::Image { height, width, channels, white }, data, steps: 1 }
}

pub(super) fn after(ops: Value, sample: &Sample, number: u64) -> Sample {
    let mut sample = sample.clone();
    let recipe = Recipe::of(&ops).unwrap();
    recipe.check(&sample.form).unwrap();
    recipe.apply(&mut sample, Key { seed: 9, round: 2, sample: number }, &mut Scratch::default());
    sample
}

#[test]
fn names_are_unique_and_said_in_one_line() {
    for (place, kind) in OPERATIONS.iter().enumerate() {
        assert!(OPERATIONS[place + 1..].iter().all(|other| other.name != kind.name), "{}", kind.name);
        assert!(!kind.summary.is_empty() && !kind.summary.contains('\n') && kind.summary.len() < 140, "{}", kind.name);
    }
}

#[test]
fn options_that_change_nothing_leave_every_byte() {
    let nothing = [
        "rotate=0",
        "rotate=360",
        "scale=1",
        "translate=0",
        "shear=0",
        "affine=0,scale=1,translate=0",
        "crop=0",
        "random-resized-crop=1,ratio=1.4",
        "noise=0",
        "salt-and-pepper=0",
        "speckle=0",
        "brightness=1",
        "contrast=1",
        "saturation=1",
        "gamma=1",
        "posterise=8",
        "hue=0",
        "perspective=0",
        "elastic=0",
        "blur=0",
        "motion-blur=1",
        "sharpen=1",
        "grid-mask=0.5,keep=1",
    ];
    for op in nothing {
        for is_bytes in [true, false] {
            let own = picture(5, 7, 3, is_bytes);
            assert_eq!(after(json!([{ "op": op, "p": 1 }]), &own, 0), own, "{op}");
        }
    }
}

#[test]
fn a_share_of_one_leaves_every_byte() {
    for op in ["mixup=0", "cutmix=0"] {
        for is_bytes in [true, false] {
            let own = picture(5, 7, 3, is_bytes);
            let other = after(json!([{ "op": "invert", "p": 1 }]), &own, 0);
            let mut mixed = own.clone();
            let recipe = Recipe::of_ops(&[op]).unwrap();
            let mut kept = 0.0;
            let key = Key { seed: 9, round: 2, sample: 0 };
            recipe.apply_mixing(&mut mixed, key, &mut Scratch::default(), &mut |mut mix, sample, scratch| {
                kept = mix.mixing.mix(sample, &other, &mut mix.draws, scratch);
            });
            assert!(mixed == own && kept == 1.0, "{op}");
        }
    }
}

#[test]
fn four_quarter_turns_are_none() {
    for (extent, channels, is_bytes) in [(7, 1, true), (8, 3, true), (5, 2, false), (6, 3, false)] {
        for filter in ["bilinear", "nearest"] {
            for degrees in [90, -90] {
                let own = picture(extent, extent, channels, is_bytes);
                let mut turned = own.clone();
                for turn in 0..4 {
                    turned = after(json!([{ "op": "rotate", "degrees": degrees, "filter": filter }]), &turned, turn);
                    assert_eq!(turned == own, turn == 3);
                }
                let both = after(json!([{ "op": "rotate=90" }, { "op": "rotate=-90" }]), &own, 0);
                assert_eq!(both, own);
            }
        }
    }
}

#[test]
fn a_quarter_turn_is_counter_clockwise() {
    let sample = Sample {
        form: Form::Image { height: 3, width: 3, channels: 1, white: 255.0 },
        data: Data::U8(vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
        steps: 1,
    };
    // numpy.rot90.
    assert_eq!(after(json!([{ "op": "rotate=90" }]), &sample, 0).data, Data::U8(vec![3, 6, 9, 2, 5, 8, 1, 4, 7]));
}

#[test]
fn flips_are_involutions() {
    for op in ["horizontal-flip", "vertical-flip"] {
        for is_bytes in [true, false] {
            let own = picture(4, 7, 3, is_bytes);
            let once = after(json!([{ "op": op, "p": 1 }]), &own, 0);
            assert_ne!(once, own);
            assert_eq!(after(json!([{ "op": op, "p": 1 }]), &once, 1), own);
        }
    }
}

#[test]
fn noise_has_the_deviation_that_was_asked_for() {
    let grey = Sample {
        form: Form::Image { height: 100, width: 301, channels: 1, white: 255.0 },
        data: Data::U8(vec![128; 30100]),
        steps: 1,
    };
    let Data::U8(noisy) = after(json!([{ "op": "noise=0.1" }]), &grey, 3).data else { panic!() };
    let mean = noisy.iter().map(|&x| f64::from(x)).sum::<f64>() / noisy.len() as f64;
    let variance = noisy.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / noisy.len() as f64;
    // Rounding adds a variance of 1/12; the tail beyond white and black is cut.
    assert!((mean - 128.0).abs() < 0.75 && (variance.sqrt() - 25.5).abs() < 0.6, "{mean} {variance}");
}
