//! What holds for every operation with the options that it has when nobody says any.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use crate::draws::Key;
use crate::operations::OPERATIONS;
use crate::recipe::Recipe;
use crate::sample::{Data, Form, Sample, Scratch};

/// Samples that an operation may be for: ordinary ones, and the smallest there are.
fn samples() -> Vec<Sample> {
    let mut all = Vec::new();
    let images = [(24, 31, 3), (9, 14, 3), (1, 1, 3), (2, 1, 1), (1, 7, 4), (11, 10, 2), (3, 3, 5)];
    for (height, width, channels) in images {
        let bytes = (0..height * width * channels).map(|at| (at * 7919 % 256) as u8);
        let form = |white| Form::Image { height, width, channels, white };
        let floats = bytes.clone().map(|x| f32::from(x) / 51.0).collect();
        all.push(Sample { form: form(255.0), data: Data::U8(bytes.collect()), steps: 1 });
        all.push(Sample { form: form(5.0), data: Data::F32(floats), steps: 1 });
    }
    for (steps, time, features) in [(1, 1, 1), (1, 5, 3), (8, 13, 4), (13, 13, 2)] {
        let bytes = (0..time * features).map(|at| if at < steps * features { (at * 37 % 255 + 1) as u8 } else { 0 });
        let form = Form::Series { time, features };
        let floats = bytes.clone().map(|x| f32::from(x) / 100.0).collect();
        all.push(Sample { form, data: Data::U8(bytes.collect()), steps });
        all.push(Sample { form, data: Data::F32(floats), steps });
    }
    for (steps, time) in [(1, 1), (1, 4), (7, 12), (12, 12)] {
        let tokens = (0..time).map(|at| if at < steps { 2 + at as u32 } else { 0 }).collect();
        all.push(Sample { form: Form::Tokens { time, vocabulary: 20 }, data: Data::Tokens(tokens), steps });
    }
    all
}

fn recipe(name: &str) -> Recipe {
    Recipe::of(&json!([{ "op": name, "p": 1 }])).unwrap()
}

/// Operations that change a sample by itself, with the samples that they are for.
fn each(mut call: impl FnMut(&'static str, &Recipe, &Sample)) {
    for kind in OPERATIONS {
        let recipe = recipe(kind.name);
        if recipe.mixes() {
            continue;
        }
        for sample in samples().iter().filter(|sample| recipe.check(&sample.form).is_ok()) {
            call(kind.name, &recipe, sample);
        }
    }
}

fn floats(sample: &Sample) -> Vec<f32> {
    match &sample.data {
        Data::U8(values) => values.iter().map(|&x| f32::from(x)).collect(),
        Data::F32(values) => values.clone(),
        Data::Tokens(values) => values.iter().map(|&x| x as f32).collect(),
    }
}

fn key(sample: u64) -> Key {
    Key { seed: 5, round: 1, sample }
}

#[test]
fn extents_and_elements_stay_and_padding_is_zero() {
    let mut changes: BTreeMap<&str, usize> = BTreeMap::new();
    each(|name, recipe, own| {
        for number in 0..12 {
            let mut sample = own.clone();
            recipe.apply(&mut sample, key(number), &mut Scratch::default());
            assert_eq!(sample.form, own.form, "{name}");
            assert_eq!(std::mem::discriminant(&sample.data), std::mem::discriminant(&own.data), "{name}");
            let values = floats(&sample);
            assert_eq!(values.len(), floats(own).len(), "{name}");
            assert!(values.iter().all(|x| x.is_finite()), "{name} of {:?}", own.form);
            let step = match sample.form {
                Form::Series { features, .. } => features,
                Form::Tokens { .. } => 1,
                _ => values.len(),
            };
            assert!(sample.steps >= 1 && values.len() >= sample.steps * step, "{name}");
            assert!(values[sample.steps * step..].iter().all(|&x| x == 0.0), "{name}");
            *changes.entry(name).or_default() += usize::from(sample != *own);
        }
    });
    for kind in OPERATIONS.iter().filter(|kind| !recipe(kind.name).mixes()) {
        assert!(changes.get(kind.name).is_some_and(|&count| count > 5), "{} changed next to nothing", kind.name);
    }
}

#[test]
fn what_was_changed_before_changes_nothing() {
    let mut scratch = Scratch::default();
    let mut all: Vec<(&str, Sample, u64, Sample)> = Vec::new();
    each(|name, recipe, own| {
        for number in 0..3 {
            let mut sample = own.clone();
            recipe.apply(&mut sample, key(number), &mut Scratch::default());
            all.push((name, own.clone(), number, sample));
        }
    });
    // In another order, with room that others have used.
    let count = all.len();
    for at in 0..count {
        let (name, own, number, wanted) = &all[at * 997 % count];
        let mut sample = own.clone();
        recipe(name).apply(&mut sample, key(*number), &mut scratch);
        assert_eq!(sample, *wanted, "{name}");
    }
    assert!(!count.is_multiple_of(997));
}

#[test]
fn notes_change_nothing() {
    each(|name, recipe, own| {
        let [mut silent, mut told] = [own.clone(), own.clone()];
        recipe.apply(&mut silent, key(3), &mut Scratch::default());
        let mut scratch = Scratch { notes: Some(String::new()), ..Scratch::default() };
        recipe.apply(&mut told, key(3), &mut scratch);
        assert_eq!(silent, told, "{name}");
        assert!(scratch.notes.is_some_and(|notes| !notes.is_empty()), "{name} says nothing");
    });
}

#[test]
fn mixtures_keep_extents_and_lie_between_both() {
    for kind in OPERATIONS {
        let recipe = recipe(kind.name);
        let mixes = recipe.mixes();
        let (mut changed, mut all) = (0, 0);
        for own in samples().iter().filter(|sample| mixes && recipe.check(&sample.form).is_ok()) {
            for number in 0..20 {
                let mut other = own.clone();
                match &mut other.data {
                    Data::U8(values) => values.reverse(),
                    Data::F32(values) => values.reverse(),
                    Data::Tokens(values) => values.reverse(),
                }
                let (mut sample, mut kept) = (own.clone(), None);
                recipe.apply_mixing(
                    &mut sample,
                    key(number),
                    &mut Scratch::default(),
                    &mut |mut mix, sample, scratch| {
                        kept = Some(mix.mixing.mix(sample, &other, &mut mix.draws, scratch));
                    },
                );
                let kept = kept.unwrap();
                assert!((0.0..=1.0).contains(&kept) && sample.steps == own.steps, "{}", kind.name);
                assert!(kept < 1.0 || sample == *own, "{}", kind.name);
                for ((mixed, own), other) in floats(&sample).into_iter().zip(floats(own)).zip(floats(&other)) {
                    let (low, high) = (own.min(other), own.max(other));
                    let series = matches!(sample.form, Form::Series { .. });
                    assert!(series || (low - 1e-5..=high + 1e-5).contains(&mixed), "{}", kind.name);
                }
                changed += usize::from(sample != *own);
                all += 1;
            }
        }
        assert!(!mixes || changed * 4 > all, "{} changed {changed} of {all}", kind.name);
    }
}

/// Operations at the ends of their ranges.
const EXTREMES: &[&str] = &[
    "jitter=10",
    "jitter=0.3,relative=false",
    "scaling=10,features=true",
    "gain=-100..100",
    "time-shift=±1",
    "time-shift=±1,fill=edge",
    "time-shift=±1,fill=wrap",
    "time-stretch=0.1",
    "time-stretch=10",
    "window-slice=0.01",
    "window-slice=0.01..1,stretch=false",
    "window-warp=1,factor=0.05",
    "window-warp=0..1,factor=0.05..20",
    "magnitude-warp=10,knots=0",
    "magnitude-warp=1,knots=1000,features=true",
    "time-warp=10,knots=0",
    "time-warp=1,knots=1000",
    "permutation=1000",
    "permutation=1000,equal=true",
    "time-mask=1,masks=30",
    "time-mask=1,steps=0",
    "frequency-mask=1,bands=1,masks=30",
    "background-noise=-60,colour=pink",
    "background-noise=120,colour=brown",
    "token-deletion=1",
    "token-swap=1",
    "token-swap=1,distance=1",
    "token-mask=1,token=0,random=0.5,keep=0.5",
    "token-insertion=10,first=19",
    "word-dropout=1",
    "span-crop=0",
    "perspective=0.9",
    "perspective=0.9,fill=reflect,filter=nearest",
    "elastic=10000,sigma=0.5,fill=edge",
    "elastic=300,sigma=100,fill=reflect",
    "blur=100",
    "motion-blur=200",
    "sharpen=10",
    "jpeg=1",
    "jpeg=100",
    "grid-mask=1,keep=0",
    "grid-mask=0.01,keep=0.5",
    "augmix=10,width=16,depth=16",
    "rand-augment=30,ops=16",
    "rand-augment=0,ops=1,filter=bilinear,fill=edge",
    "trivial-augment,fill=reflect,filter=bilinear",
    "hue=±0.5",
    "salt-and-pepper=1,salt=1",
    "speckle=10",
    "poisson=1",
    "poisson=1000000",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn the_ends_of_ranges_do_no_harm(
        op in 0..EXTREMES.len(),
        (width, height, channels) in (1_usize..20, 1_usize..20, 1_usize..6),
        fill in 0.0_f32..=1.0,
        is_bytes in any::<bool>(),
        number in any::<u64>(),
    ) {
        let recipe = Recipe::of_ops(&[EXTREMES[op]]).unwrap();
        let steps = ((fill * height as f32) as usize).clamp(1, height);
        let forms = [
            Form::Image { height, width, channels, white: if is_bytes { 255.0 } else { 1.0 } },
            Form::Series { time: height, features: channels },
            Form::Tokens { time: height, vocabulary: 20 },
        ];
        for form in forms.into_iter().filter(|form| recipe.check(form).is_ok()) {
            let (elements, counted) = match form {
                Form::Series { .. } => (height * channels, steps * channels),
                Form::Tokens { .. } => (height, steps),
                _ => (height * width * channels, height * width * channels),
            };
            let values = (0..elements).map(|at| if at < counted { (at * 53 % 19 + 1) as u8 } else { 0 });
            let data = match (form, is_bytes) {
                (Form::Tokens { .. }, _) => Data::Tokens(values.map(u32::from).collect()),
                (_, true) => Data::U8(values.map(|x| x * 12).collect()),
                (_, false) => Data::F32(values.map(|x| f32::from(x) / 20.0).collect()),
            };
            let own = if matches!(form, Form::Image { .. }) { 1 } else { steps };
            let mut sample = Sample { form, data, steps: own };
            recipe.apply(&mut sample, key(number), &mut Scratch::default());
            let values = floats(&sample);
            prop_assert!(values.len() == elements && sample.steps >= 1 && values.iter().all(|x| x.is_finite()));
            prop_assert!(own == 1 && sample.steps == 1 || sample.steps <= height);
            if let Data::Tokens(tokens) = &sample.data {
                prop_assert!(tokens.iter().all(|&token| token < 20));
            }
        }
    }
}
