//! What holds for every operation with the options that it has when nobody says any.

use std::collections::BTreeMap;

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
