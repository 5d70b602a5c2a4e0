//! What RandAugment and TrivialAugment choose from: fourteen operations, each with a strength in 31 bins from 0 to 30 that
//! grows evenly from nothing to its largest.
//!
//! - shear: slanted by `s` pixels a pixel, about the upper left corner: `x = x' + s y'`, or `y = y' + s x'`
//! - translate: by a whole number of pixels each way, what is behind the point cut off
//! - rotate: by degrees
//! - brightness, contrast, saturation, sharpness: by a factor of `1 + s`
//! - posterise: to `8 - s` bits, `s` rounded; solarise: from `255 - 255 bin / 30` on; autocontrast, equalise, nothing
//!
//! The first four groups go either way, drawn alike. The label stays. Strengths as torchvision has them (`RandAugment` and
//! `TrivialAugmentWide`). Pictures without colours do without saturation. Neighbours that move pixels are put together and
//! resample once, where torchvision resamples for each.

use super::grey::{in_colour, saturate};
use super::histogram::{autocontrast, equalise};
use super::sharpen::sharpen;
use super::tone::{brighten, contrast, posterise, solarise};
use crate::draws::Draws;
use crate::geometry::{Affine, Geometry, Resampling};
use crate::sample::{Form, Sample, Scratch};

/// The last bin.
pub(super) const LAST_BIN: usize = 30;

/// The largest strengths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// Pixels a pixel.
    shear: f32,
    /// How far pictures move.
    reach: Reach,
    /// Degrees.
    degrees: f32,
    /// Beside the factor 1.
    factor: f32,
    /// Bits that are lost.
    bits: f32,
}

#[derive(Clone, Copy, Debug)]
enum Reach {
    /// So many of 331 parts of the extent.
    Of331(f64),
    /// Pixels.
    Pixels(f64),
}

/// Those of RandAugment.
pub(super) const RAND: Space = Space { shear: 0.3, reach: Reach::Of331(150.0), degrees: 30.0, factor: 0.9, bits: 4.0 };
/// Those of TrivialAugment (Wide).
pub(super) const WIDE: Space =
    Space { shear: 0.99, reach: Reach::Pixels(32.0), degrees: 135.0, factor: 0.99, bits: 6.0 };

/// What there is to choose from; saturation is the last, since grey pictures do without.
const CHOICES: [Choice; 14] = [
    Choice::Identity,
    Choice::ShearX,
    Choice::ShearY,
    Choice::TranslateX,
    Choice::TranslateY,
    Choice::Rotate,
    Choice::Brightness,
    Choice::Contrast,
    Choice::Sharpness,
    Choice::Posterise,
    Choice::Solarise,
    Choice::Autocontrast,
    Choice::Equalise,
    Choice::Saturation,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Choice {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Contrast,
    Sharpness,
    Posterise,
    Solarise,
    Autocontrast,
    Equalise,
    Saturation,
}

/// Operations at work on one sample.
pub(super) struct Policy {
    pub(super) space: Space,
    pub(super) resampling: Resampling,
    /// Moves that are not carried out yet.
    pending: Option<Affine>,
}

impl Policy {
    /// A policy that has done nothing yet.
    pub(super) fn new(space: Space, resampling: Resampling) -> Self {
        Self { space, resampling, pending: None }
    }

    /// Any operation, with the strength of a bin, either way.
    pub(super) fn any(&mut self, bin: usize, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let count = CHOICES.len() - usize::from(in_colour(&sample.form).is_err());
        let choice = CHOICES[draws.below(count)];
        let sign = draws.sign();
        self.one(choice, bin, sign, sample, scratch);
    }

    fn one(&mut self, choice: Choice, bin: usize, sign: f32, sample: &mut Sample, scratch: &mut Scratch) {
        let Form::Image { height, width, .. } = sample.form else { return };
        let strength = self.space.strength(choice, bin, [height, width]);
        let signed = sign * strength;
        scratch.note(|| choice.in_words(strength, signed));
        let to = f64::from(signed);
        let slanted = |linear, shift| {
            Affine::about_middle(linear, [0.0; 2], height, width).then(Affine::stretch([1.0; 2], shift))
        };
        let map = match choice {
            // From the middle to the corner.
            Choice::ShearX => slanted([1.0, to, 0.0, 1.0], [to * height as f64 / 2.0, 0.0]),
            Choice::ShearY => slanted([1.0, 0.0, to, 1.0], [0.0, to * width as f64 / 2.0]),
            Choice::TranslateX => Affine::stretch([1.0; 2], [-to, 0.0]),
            Choice::TranslateY => Affine::stretch([1.0; 2], [0.0, -to]),
            Choice::Rotate => Affine::rotation(to, height, width),
            Choice::Identity => return,
            _ => {
                self.finish(sample, scratch);
                return match choice {
                    Choice::Brightness => brighten(sample, 1.0 + signed),
                    Choice::Contrast => contrast(sample, 1.0 + signed),
                    Choice::Saturation => saturate(sample, 1.0 + signed),
                    Choice::Sharpness => sharpen(sample, 1.0 + signed, scratch),
                    Choice::Posterise => posterise(sample, strength as u32),
                    Choice::Solarise => solarise(sample, strength / 255.0),
                    Choice::Autocontrast => autocontrast(sample),
                    _ => equalise(sample),
                };
            }
        };
        self.pending = Some(self.pending.map_or(map, |before| before.then(map)));
    }

    /// Carries out what is pending.
    pub(super) fn finish(&mut self, sample: &mut Sample, scratch: &mut Scratch) {
        if let Some(map) = self.pending.take() {
            Geometry { map, resampling: Some(self.resampling) }.carry_out(sample, scratch);
        }
    }
}

impl Space {
    /// The strength of a bin: pixels a pixel, pixels, degrees, what is beside the factor 1, bits that stay, or a level of
    /// 255.
    fn strength(&self, choice: Choice, bin: usize, [height, width]: [usize; 2]) -> f32 {
        let share = bin as f32 / LAST_BIN as f32;
        let moved = |extent: usize| {
            let (parts, of) = match self.reach {
                Reach::Of331(parts) => (parts * extent as f64, 331.0),
                Reach::Pixels(pixels) => (pixels, 1.0),
            };
            (parts * bin as f64 / (of * LAST_BIN as f64)).trunc() as f32
        };
        match choice {
            Choice::ShearX | Choice::ShearY => self.shear * share,
            Choice::TranslateX => moved(width),
            Choice::TranslateY => moved(height),
            Choice::Rotate => self.degrees * share,
            Choice::Brightness | Choice::Contrast | Choice::Saturation | Choice::Sharpness => self.factor * share,
            Choice::Posterise => 8.0 - (self.bits * share).round(),
            Choice::Solarise => 255.0 - 8.5 * bin as f32,
            Choice::Identity | Choice::Autocontrast | Choice::Equalise => 0.0,
        }
    }
}

impl Choice {
    fn in_words(self, strength: f32, signed: f32) -> String {
        let factor = 1.0 + signed;
        match self {
            Self::Identity => "as it is".to_owned(),
            Self::ShearX => format!("shear x {signed:.2}"),
            Self::ShearY => format!("shear y {signed:.2}"),
            Self::TranslateX => format!("move x {signed}"),
            Self::TranslateY => format!("move y {signed}"),
            Self::Rotate => format!("rotate {signed:.1}°"),
            Self::Brightness => format!("brightness {factor:.2}"),
            Self::Contrast => format!("contrast {factor:.2}"),
            Self::Sharpness => format!("sharpen {factor:.2}"),
            Self::Posterise => format!("posterise {strength}"),
            Self::Solarise => format!("solarise {:.2}", strength / 255.0),
            Self::Autocontrast => "autocontrast".to_owned(),
            Self::Equalise => "equalise".to_owned(),
            Self::Saturation => format!("saturation {factor:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::draws::Key;
    use crate::geometry::{Fill, Filter};
    use crate::recipe::Recipe;
    use crate::sample::Data;

    const NEAREST: Resampling = Resampling { filter: Filter::Nearest, fill: Fill::Constant, value: 0.0 };

    #[derive(serde::Deserialize)]
    struct Picture {
        shape: [usize; 3],
        pixels: String,
    }

    #[derive(serde::Deserialize)]
    struct Pictures {
        pictures: BTreeMap<String, Picture>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        policy: String,
        picture: String,
        operation: String,
        bin: usize,
        sign: f32,
        pixels: String,
    }

    #[derive(serde::Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    fn bytes(pixels: &str) -> Vec<u8> {
        let pairs = pixels.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn choice(name: &str) -> Choice {
        match name {
            "Color" => Choice::Saturation,
            "Posterize" => Choice::Posterise,
            "Solarize" => Choice::Solarise,
            "AutoContrast" => Choice::Autocontrast,
            "Equalize" => Choice::Equalise,
            name => CHOICES.into_iter().find(|choice| format!("{choice:?}") == name).unwrap(),
        }
    }

    fn sample([height, width, channels]: [usize; 3], pixels: Vec<u8>, is_bytes: bool) -> Sample {
        let (data, white) = match is_bytes {
            true => (Data::U8(pixels), 255.0),
            false => (Data::F32(pixels.iter().map(|&x| f32::from(x) / 255.0).collect()), 1.0),
        };
        Sample { form: Form::Image { height, width, channels, white }, data, steps: 1 }
    }

    #[test]
    fn operations_of_each_strength_are_those_of_torchvision() {
        let stored: Pictures = serde_json::from_str(include_str!("../../../../fixtures/augment/images.json")).unwrap();
        let golden: Golden = serde_json::from_str(include_str!("../../../../fixtures/augment/policies.json")).unwrap();
        let mut seen = Vec::new();
        for case in &golden.cases {
            let picture = &stored.pictures[&case.picture];
            let space = if case.policy == "rand-augment" { RAND } else { WIDE };
            for is_bytes in [true, false] {
                let mut sample = sample(picture.shape, bytes(&picture.pixels), is_bytes);
                let mut policy = Policy::new(space, NEAREST);
                let scratch = &mut Scratch::default();
                policy.one(choice(&case.operation), case.bin, case.sign, &mut sample, scratch);
                policy.finish(&mut sample, scratch);
                let own: Vec<f32> = match &sample.data {
                    Data::U8(pixels) => pixels.iter().map(|&x| f32::from(x)).collect(),
                    Data::F32(pixels) => pixels.iter().map(|&x| x * 255.0).collect(),
                    Data::Tokens(_) => panic!(),
                };
                // torchvision cuts fractions of bytes off after blending, and before that those of the grey.
                let level = match (choice(&case.operation), is_bytes) {
                    (Choice::Saturation, _) => 2.0,
                    (_, true) => 1.0,
                    (_, false) => 1.5,
                };
                let off = own
                    .iter()
                    .zip(bytes(&case.pixels))
                    .filter(|(own, other)| (**own - f32::from(*other)).abs() > level);
                assert_eq!(
                    off.count(),
                    0,
                    "{} {} of {}: {} {is_bytes}",
                    case.policy,
                    case.operation,
                    case.picture,
                    case.bin
                );
            }
            seen.push(choice(&case.operation));
        }
        assert!(CHOICES.iter().all(|choice| seen.contains(choice)));
    }

    #[test]
    fn strengths_end_where_torchvision_ends_them() {
        let of = |space: Space, choice, bin| space.strength(choice, bin, [331, 662]);
        for choice in [Choice::ShearX, Choice::ShearY, Choice::Rotate, Choice::TranslateX, Choice::Brightness] {
            assert_eq!((of(RAND, choice, 0), of(WIDE, choice, 0)), (0.0, 0.0));
        }
        assert_eq!((of(RAND, Choice::TranslateX, 30), of(RAND, Choice::TranslateY, 30)), (300.0, 150.0));
        assert_eq!((of(RAND, Choice::TranslateY, 1), of(WIDE, Choice::TranslateY, 1)), (5.0, 1.0));
        assert_eq!((of(WIDE, Choice::TranslateX, 30), of(WIDE, Choice::TranslateX, 29)), (32.0, 30.0));
        assert_eq!((of(RAND, Choice::Posterise, 30), of(WIDE, Choice::Posterise, 30)), (4.0, 2.0));
        // round(9 / 7.5) and round(9 / 5).
        assert_eq!((of(RAND, Choice::Posterise, 9), of(WIDE, Choice::Posterise, 9)), (7.0, 6.0));
        assert_eq!((of(RAND, Choice::Solarise, 30), of(WIDE, Choice::Solarise, 10)), (0.0, 170.0));
        assert_eq!((of(RAND, Choice::Rotate, 9), of(WIDE, Choice::Rotate, 10)), (9.0, 45.0));
    }

    #[test]
    fn neighbours_that_move_pixels_resample_once() {
        let pixels: Vec<u8> = (0..31 * 24 * 3).map(|at| (at * 7919 % 256) as u8).collect();
        let mut own = sample([31, 24, 3], pixels, true);
        let before = own.clone();
        let scratch = &mut Scratch::default();
        let mut policy = Policy::new(WIDE, NEAREST);
        for sign in [1.0, -1.0] {
            policy.one(Choice::Rotate, 30, sign, &mut own, scratch);
            policy.one(Choice::TranslateX, 15, sign, &mut own, scratch);
            policy.one(Choice::TranslateX, 15, -sign, &mut own, scratch);
        }
        // There and back: pixels that went beyond the edge have come back.
        assert!(policy.pending.is_some() && own == before);
        policy.finish(&mut own, scratch);
        let (Data::U8(own), Data::U8(before)) = (own.data, before.data) else { panic!() };
        assert!(own.iter().zip(&before).filter(|(own, before)| own == before).count() * 100 > own.len() * 99);
    }

    #[test]
    fn all_are_chosen_as_often_and_grey_pictures_do_without_saturation() {
        for (channels, count) in [(1, 13), (3, 14)] {
            let mut counts = BTreeMap::<String, i32>::new();
            let recipe = Recipe::of_ops(&["rand-augment=20,ops=1"]).unwrap();
            for number in 0..count * 500 {
                let mut own = sample([3, 5, channels], vec![7; 15 * channels], true);
                let mut scratch = Scratch { notes: Some(String::new()), ..Scratch::default() };
                recipe.apply(&mut own, Key { seed: 1, round: 0, sample: number }, &mut scratch);
                let notes = scratch.notes.unwrap();
                let name = notes.trim_end_matches(|letter: char| !letter.is_alphabetic());
                *counts.entry(name.to_owned()).or_default() += 1;
            }
            assert_eq!((counts.len() as u64, counts.contains_key("saturation")), (count, channels == 3));
            assert!(counts.values().all(|own| (own - 500).abs() < 110), "{counts:?}");
        }
    }
}
