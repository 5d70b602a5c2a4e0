//! Features of sounds, series and texts, and steps of sounds, against `fixtures/features/*/golden.json`, which librosa,
//! SciPy and scikit-learn computed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{FEATURES, Feature};
use crate::raw::{Raw, Series, Values};
use crate::steps::STEPS;

/// Each number may be off by this share of itself, and by this much of the largest of its kind: librosa keeps spectra in
/// 32 bits here and there.
const TOLERANCE: f64 = 1e-4;
const NEAR_ZERO: f64 = 2e-5;

#[derive(serde::Deserialize)]
struct SoundCase {
    sound: String,
    name: String,
    options: Map<String, Value>,
    shape: Vec<usize>,
    values: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct Sounds {
    features: Vec<SoundCase>,
    steps: Vec<SoundCase>,
}

#[derive(serde::Deserialize)]
struct SeriesCase {
    series: String,
    name: String,
    options: Map<String, Value>,
    values: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct AllSeries {
    series: BTreeMap<String, Vec<Vec<f32>>>,
    features: Vec<SeriesCase>,
}

#[derive(serde::Deserialize)]
struct TextCase {
    name: String,
    options: Map<String, Value>,
    #[serde(default)]
    terms: Option<Vec<String>>,
    rows: Vec<Vec<f64>>,
}

#[derive(serde::Deserialize)]
struct Texts {
    train: Vec<String>,
    test: Vec<String>,
    features: Vec<TextCase>,
}

fn feature(name: &str, options: &Map<String, Value>) -> Box<dyn Feature> {
    FEATURES.iter().find(|kind| kind.name == name).unwrap().make(options.clone()).unwrap()
}

/// A WAV file of 16 bits.
fn sound(name: &str) -> Raw {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/features/sounds");
    let bytes = std::fs::read(format!("{folder}/{name}.wav")).unwrap();
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let chunk = |name: &[u8]| {
        let mut at = 12;
        while &bytes[at..at + 4] != name {
            at += 8 + word(at + 4) as usize;
        }
        at + 8
    };
    let (format, data) = (chunk(b"fmt "), chunk(b"data"));
    assert_eq!((half(format), half(format + 14)), (1, 16), "PCM of 16 bits");
    let samples = bytes[data..][..word(data - 4) as usize].as_chunks().0;
    let values: Vec<f32> = samples.iter().map(|&two| f32::from(i16::from_le_bytes(two)) / 32_768.0).collect();
    let features = usize::from(half(format + 2));
    let time = values.len() / features;
    Raw::Series(Series { time, features, rate: Some(word(format + 4)), values: Values::F32(values) })
}

fn assert_close(found: &[f32], wanted: &[f64], place: &str) {
    assert_eq!(found.len(), wanted.len(), "{place}");
    let largest = wanted.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    for (at, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        let off = (f64::from(found) - wanted).abs();
        assert!(off <= TOLERANCE * wanted.abs() + NEAR_ZERO * largest, "{place}, {at}: {found} and {wanted}");
    }
}

fn taken(feature: &dyn Feature, name: &str, raw: &Raw) -> Vec<f32> {
    let mut values = Vec::new();
    feature.extract(raw, &mut values).unwrap();
    assert_eq!(feature.names(name, values.len()).len(), values.len(), "{name}");
    values
}

#[test]
fn features_of_sounds_equal_those_of_librosa() {
    let golden: Sounds =
        serde_json::from_str(include_str!("../../../../fixtures/features/sounds/golden.json")).unwrap();
    let mut kinds = BTreeSet::new();
    for case in golden.features {
        let place = format!("{} of {} with {:?}", case.name, case.sound, case.options);
        let found = taken(&*feature(&case.name, &case.options), &case.name, &sound(&case.sound));
        assert_close(&found, &case.values, &place);
        kinds.insert(case.name);
    }
    assert_eq!(kinds.len(), 3);
}

#[test]
fn steps_of_sounds_equal_those_of_librosa() {
    let golden: Sounds =
        serde_json::from_str(include_str!("../../../../fixtures/features/sounds/golden.json")).unwrap();
    let mut kinds = BTreeSet::new();
    for case in golden.steps {
        let place = format!("{} of {} with {:?}", case.name, case.sound, case.options);
        let kind = STEPS.iter().find(|kind| kind.name == case.name).unwrap();
        let mut raw = sound(&case.sound);
        if case.name == "trim" {
            // The samples from where to where are kept, of the mean of the channels.
            raw = crate::steps::with_channels(raw, 1).unwrap();
            let whole = raw.clone().series("").unwrap().values;
            let kept = (kind.make)(kind.name, case.options).unwrap().apply(raw).unwrap().series("").unwrap();
            let (from, to) = (case.values[0] as usize, case.values[1] as usize);
            assert_eq!(kept.values.floats()[..], whole.floats()[from..to], "{place}");
        } else {
            let found = (kind.make)(kind.name, case.options).unwrap().apply(raw).unwrap().series("").unwrap();
            assert_eq!([found.time, found.features], case.shape[..], "{place}");
            assert_close(&found.values.floats(), &case.values, &place);
        }
        kinds.insert(case.name);
    }
    assert_eq!(kinds.len(), 3);
}

#[test]
fn features_of_series_equal_those_of_scipy() {
    let golden: AllSeries =
        serde_json::from_str(include_str!("../../../../fixtures/features/series/golden.json")).unwrap();
    let mut kinds = BTreeSet::new();
    for case in golden.features {
        let rows = &golden.series[&case.series];
        let values = Values::F32(rows.concat());
        let raw = Raw::Series(Series { time: rows.len(), features: rows[0].len(), rate: None, values });
        let place = format!("{} of {} with {:?}", case.name, case.series, case.options);
        assert_close(&taken(&*feature(&case.name, &case.options), &case.name, &raw), &case.values, &place);
        kinds.insert(case.name);
    }
    assert_eq!(kinds.len(), 3);
}

#[test]
fn features_of_texts_equal_those_of_scikit_learn() {
    let golden: Texts = serde_json::from_str(include_str!("../../../../fixtures/features/text/golden.json")).unwrap();
    let mut kinds = BTreeSet::new();
    for case in golden.features {
        let place = format!("{} with {:?}", case.name, case.options);
        let mut own = feature(&case.name, &case.options);
        if let Some(mut fit) = own.fitting() {
            golden.train.iter().for_each(|text| fit.see(&Raw::Text(text.clone())).unwrap());
            own = fit.fitted().unwrap();
            // What it learned is in its options, and those make the same feature again.
            own = feature(&case.name, &own.options());
            assert!(own.fitting().is_none(), "{place}");
        }
        if let Some(terms) = &case.terms {
            assert_eq!(own.options()["terms"], serde_json::json!(terms), "{place}");
        }
        for (text, wanted) in golden.test.iter().zip(&case.rows) {
            let found = taken(&*own, &case.name, &Raw::Text(text.clone()));
            assert_close(&found, wanted, &format!("{place}: {text:?}"));
        }
        kinds.insert(case.name);
    }
    assert_eq!(kinds.len(), 4);
}
