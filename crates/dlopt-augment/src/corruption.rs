//! Corruptions that robustness is measured under, each at five strengths: what `eval --corrupt` does to a split.
//!
//! The protocol is that of common corruptions (Hendrycks and Dietterich, 2019, arXiv 1903.12261): a network that is
//! trained as usual is evaluated on the test samples, changed in a fixed way, and never trained on its results. Strengths
//! were taken from the literature or set in even steps before any network was measured:
//!
//! - `rotate`: by 6, 12, 18, 24 or 30 degrees, to the left or to the right. MNIST-C (Mu and Gilmer, 2019, arXiv
//!   1906.02337) turns by 23 degrees, either way.
//! - `noise`: gaussian, of deviation 0.04, 0.06, 0.08, 0.09 or 0.1 of white, as in CIFAR-10-C
//! - `blur`: gaussian, of deviation 0.4, 0.6, 0.7, 0.8 or 1 pixel, as in CIFAR-10-C with its 32 pixels a side; where
//!   the shorter side has more, by as much more. The strongest is near that of ImageNet-C, 6 pixels of 224. Smaller pictures
//!   are blurred as those of 32 are: less than that would change nothing.
//! - `scale`: by a factor of 1.1, 1.2, 1.3, 1.4 or 1.5, larger or smaller. MNIST-C makes digits smaller by 1 / 0.7 = 1.43.
//! - `contrast`: 0.75, 0.5, 0.4, 0.3 or 0.15 of the distance from the mean, as in CIFAR-10-C; the mean of the grey picture,
//!   where the original takes one for each channel
//!
//! What lies outside of a turned or smaller picture is black. Each is a recipe of the ordinary operations. All strengths of
//! a corruption share their draws: a sample is turned to the same side at each of them, and has the same noise, only more.

use std::ops::Range;
use std::sync::Arc;

use dlopt_checkpoint::{Error, Result};
use dlopt_data::Dataset;
use serde_json::{Value, json};

use crate::recipe::Recipe;
use crate::sample::Form;
use crate::worker::{Augmenter, form_of};

/// How many strengths a corruption has.
pub const STRENGTHS: usize = 5;

/// Something that samples are changed by to see what a network can bear.
pub struct Corruption {
    /// As tables name it.
    pub name: &'static str,
    /// What it does, in one line, with its source.
    pub summary: &'static str,
    /// What a strength is a number of.
    pub unit: &'static str,
    /// The strengths, the weakest first.
    pub strengths: [f64; STRENGTHS],
    nodes: fn(strength: f64, side: f64) -> Value,
}

/// All corruptions. One is drawn by its place, so that new ones go to the end.
pub const CORRUPTIONS: &[Corruption] = &[
    Corruption {
        name: "rotate",
        summary: "turned to the left or to the right, what is outside black",
        unit: "degrees",
        strengths: [6.0, 12.0, 18.0, 24.0, 30.0],
        nodes: |degrees, _| {
            let turned = |degrees: f64| json!({ "op": "rotate", "degrees": degrees });
            json!([{ "one-of": [turned(degrees), turned(-degrees)] }])
        },
    },
    Corruption {
        name: "noise",
        summary: "gaussian noise, with the deviations of CIFAR-10-C",
        unit: "of white",
        strengths: [0.04, 0.06, 0.08, 0.09, 0.1],
        nodes: |sigma, _| json!([{ "op": "noise", "sigma": sigma }]),
    },
    Corruption {
        name: "blur",
        summary: "gaussian blur, with the deviations of CIFAR-10-C; wider where the shorter side has more than 32 pixels",
        unit: "pixels of 32",
        strengths: [0.4, 0.6, 0.7, 0.8, 1.0],
        nodes: |sigma, side| json!([{ "op": "blur", "sigma": sigma * (side / 32.0).max(1.0) }]),
    },
    Corruption {
        name: "scale",
        summary: "larger or smaller by a factor, what is outside black",
        unit: "times",
        strengths: [1.1, 1.2, 1.3, 1.4, 1.5],
        nodes: |factor, _| {
            let scaled = |factor: f64| json!({ "op": "scale", "factor": factor });
            json!([{ "one-of": [scaled(factor), scaled(1.0 / factor)] }])
        },
    },
    Corruption {
        name: "contrast",
        summary: "less contrast, with the factors of CIFAR-10-C",
        unit: "times",
        strengths: [0.75, 0.5, 0.4, 0.3, 0.15],
        nodes: |factor, _| json!([{ "op": "contrast", "factor": factor }]),
    },
];

impl Corruption {
    /// What is done to samples of a form at a strength, in the corruption's unit.
    ///
    /// # Errors
    /// When the samples are no pictures, or the strength is out of the range of its operation.
    pub fn recipe(&self, strength: f64, form: &Form) -> Result<Recipe> {
        let &Form::Image { height, width, .. } = form else {
            return Err(Error::usage(format!("corruptions are for pictures, and the samples are {}", form.in_words()))
                .hint("`dlopt augment --split test` makes a split of other samples that are changed"));
        };
        Recipe::of(&(self.nodes)(strength, height.min(width) as f64))
    }

    /// Corrupts samples of a dataset, of which these are to be evaluated.
    ///
    /// # Errors
    /// When the samples are no pictures, or of a type that no operation works on.
    pub fn of(&self, strength: f64, dataset: &Arc<Dataset>, samples: Range<usize>, seed: u64) -> Result<Augmenter> {
        let form = form_of(dataset).map_err(|e| e.within(dataset.name()))?;
        let recipe = self.recipe(strength, &form).map_err(|e| e.within(dataset.name()))?;
        Augmenter::over(recipe, dataset, samples, seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Key;
    use crate::sample::{Data, Sample, Scratch};

    /// The same picture as bytes and as floats, whose white is 255 and 2.
    fn pictures() -> [Sample; 2] {
        let (height, width, channels) = (13, 19, 3);
        let bytes: Vec<u8> = (0..height * width * channels).map(|at| (at * 7919 % 256) as u8).collect();
        let floats = bytes.iter().map(|&x| f32::from(x) / 127.5).collect();
        let form = |white| Form::Image { height, width, channels, white };
        [
            Sample { form: form(255.0), data: Data::U8(bytes), steps: 1 },
            Sample { form: form(2.0), data: Data::F32(floats), steps: 1 },
        ]
    }

    fn corrupted(corruption: &Corruption, strength: f64, sample: &Sample, number: u64) -> Sample {
        let recipe = corruption.recipe(strength, &sample.form).unwrap();
        let mut own = sample.clone();
        recipe.apply(&mut own, Key { seed: 3, round: 0, sample: number }, &mut Scratch::default());
        own
    }

    /// Root of the mean squared difference, as a share of white.
    fn distance(a: &Sample, b: &Sample) -> f64 {
        let white = match a.form {
            Form::Image { white, .. } => f64::from(white),
            _ => 1.0,
        };
        let floats = |sample: &Sample| match &sample.data {
            Data::U8(values) => values.iter().map(|&x| f64::from(x) / white).collect::<Vec<_>>(),
            Data::F32(values) => values.iter().map(|&x| f64::from(x) / white).collect(),
            Data::Tokens(_) => Vec::new(),
        };
        let (a, b) = (floats(a), floats(b));
        (a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / a.len() as f64).sqrt()
    }

    #[test]
    fn every_strength_changes_pictures_of_bytes_and_floats_alike() {
        for corruption in CORRUPTIONS {
            for strength in corruption.strengths {
                let [bytes, floats] = pictures();
                let changed = corrupted(corruption, strength, &bytes, 0);
                let moved = distance(&changed, &bytes);
                assert!(moved > 0.01, "{} {strength} changed {moved}", corruption.name);
                let other = distance(&corrupted(corruption, strength, &floats, 0), &floats);
                // Bytes are rounded, and noise that would leave 0..=255 is cut off.
                assert!((moved - other).abs() < 0.15 * moved, "{} {strength}: {moved} {other}", corruption.name);
            }
        }
    }

    #[test]
    fn without_strength_a_corruption_changes_no_byte() {
        for (corruption, none) in CORRUPTIONS.iter().zip([0.0, 0.0, 0.0, 1.0, 1.0]) {
            for sample in pictures() {
                assert_eq!(corrupted(corruption, none, &sample, 5), sample, "{}", corruption.name);
            }
        }
    }

    #[test]
    fn strengths_rise_from_what_changes_nothing() {
        for (corruption, none) in CORRUPTIONS.iter().zip([0.0, 0.0, 0.0, 1.0, 1.0]) {
            let far: Vec<f64> = corruption.strengths.iter().map(|strength| (strength - none).abs()).collect();
            assert!(far[0] > 0.0 && far.is_sorted_by(|a, b| a < b), "{}", corruption.name);
        }
    }

    #[test]
    fn a_sample_goes_the_same_way_at_every_strength_and_samples_go_both_ways() {
        let [sample, _] = pictures();
        let rotate = &CORRUPTIONS[0];
        let mut turns = [0, 0];
        for number in 0..40 {
            let left = |strength: f64| {
                let text = format!("rotate={strength}");
                let mut own = sample.clone();
                let key = Key { seed: 3, round: 0, sample: number };
                Recipe::of_ops(&[text]).unwrap().apply(&mut own, key, &mut Scratch::default());
                own == corrupted(rotate, strength, &sample, number)
            };
            let side = left(6.0);
            assert!(rotate.strengths.iter().all(|&strength| left(strength) == side));
            turns[usize::from(side)] += 1;
        }
        assert!(turns.iter().all(|&count| count > 8), "{turns:?}");
    }

    #[test]
    fn the_blur_grows_with_the_picture() {
        let form = |height, width| Form::Image { height, width, channels: 1, white: 1.0 };
        let sigma = |form: &Form| {
            let spec = CORRUPTIONS[2].recipe(1.0, form).unwrap().spec();
            spec[0]["sigma"].as_f64().unwrap()
        };
        let found = [form(8, 9), form(32, 40), form(448, 224)].each_ref().map(sigma);
        assert_eq!(found, [1.0, 1.0, 7.0]);
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let error = CORRUPTIONS[0].recipe(6.0, &Form::Series { time: 9, features: 2 }).unwrap_err();
        assert!(error.message().contains("corruptions are for pictures"), "{error}");
    }
}
