//! Pictures with fixed parameters against `fixtures/augment/images.json`, which scikit-image, Pillow, torchvision, OpenCV
//! and SciPy computed.
//!
//! Where a fraction arises, at most one number in a thousand of all pictures that an operation made may be off by more
//! than one grey level: weights are held in 1/2048 here, and others cut fractions off where they blend.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::OPERATIONS;
use crate::draws::{Draws, Key};
use crate::geometry::{Affine, Fill, Filter, Geometry, Resampling};
use crate::recipe::Recipe;
use crate::sample::{Data, Form, Sample, Scratch};

#[derive(serde::Deserialize)]
struct Picture {
    shape: [usize; 3],
    pixels: String,
}

#[derive(serde::Deserialize)]
struct Case {
    picture: String,
    operation: String,
    parameters: Value,
    exact: bool,
    #[serde(flatten)]
    wanted: Picture,
}

#[derive(serde::Deserialize)]
struct Golden {
    pictures: BTreeMap<String, Picture>,
    cases: Vec<Case>,
}

impl Picture {
    fn bytes(&self) -> Vec<u8> {
        let pairs = self.pixels.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn sample(&self, is_bytes: bool) -> Sample {
        let [height, width, channels] = self.shape;
        let (data, white) = match is_bytes {
            true => (Data::U8(self.bytes()), 255.0),
            false => (Data::F32(self.bytes().iter().map(|&x| f32::from(x) / 255.0).collect()), 1.0),
        };
        Sample { form: Form::Image { height, width, channels, white }, data, steps: 1 }
    }
}

/// The pixels in grey levels.
fn levels(sample: &Sample) -> Vec<f32> {
    match &sample.data {
        Data::U8(pixels) => pixels.iter().map(|&x| f32::from(x)).collect(),
        Data::F32(pixels) => pixels.iter().map(|&x| x * 255.0).collect(),
        Data::Tokens(_) => panic!(),
    }
}

/// How dlopt calls the operation with these parameters; `None` where what is drawn decides, and geometry says it.
fn operation(case: &Case) -> Option<Value> {
    let of = |name: &str| case.parameters.get(name).cloned().unwrap_or(Value::Null);
    let number = |name: &str| of(name).as_f64().unwrap();
    let op = match case.operation.as_str() {
        "rotate" => json!({ "op": "rotate", "degrees": of("degrees") }),
        "scale" => json!({ "op": "scale", "factor": of("scale") }),
        "shear" => json!({ "op": "shear", "degrees": of("shear")[0], "y": of("shear")[1] }),
        "horizontal_flip" => json!({ "op": "horizontal-flip", "p": 1 }),
        "vertical_flip" => json!({ "op": "vertical-flip", "p": 1 }),
        "brightness" | "contrast" | "saturation" | "sharpen" => {
            json!({ "op": case.operation, "factor": of("factor") })
        }
        "gamma" => json!({ "op": "gamma", "exponent": of("gamma") }),
        // Pillow inverts numbers from the threshold on, which is a byte.
        "solarise" => json!({ "op": "solarise", "threshold": number("threshold") as f32 / 255.0 }),
        "posterise" => json!({ "op": "posterise", "bits": of("bits") }),
        "hue" => json!({ "op": "hue", "shift": of("shift") }),
        "motion_blur" => json!({ "op": "motion-blur", "length": of("length"), "degrees": of("degrees") }),
        "jpeg" => json!({ "op": "jpeg", "quality": of("quality") }),
        "blur" => json!({ "op": "blur", "sigma": of("sigma") }),
        "grey" | "invert" | "equalise" | "autocontrast" => json!({ "op": case.operation, "p": 1 }),
        _ => return None,
    };
    let mut op = op;
    if let Some(fill) = case.parameters.get("fill") {
        op["fill"] = fill.clone();
        op["filter"] = of("interpolation");
        op["value"] = json!(number("value") / 255.0);
    }
    Some(op)
}

/// The geometry of a case that no operation draws alone.
fn geometry(case: &Case, [height, width, _]: [usize; 3]) -> Option<Geometry> {
    let of = |name: &str| case.parameters[name].as_f64().unwrap();
    let how = |name: &str| case.parameters[name].clone();
    let resampling = || Resampling {
        filter: serde_json::from_value(how("interpolation")).unwrap_or(Filter::Bilinear),
        fill: serde_json::from_value(how("fill")).unwrap_or(Fill::Edge),
        value: case.parameters.get("value").map_or(0.0, |value| value.as_f64().unwrap() as f32 / 255.0),
    };
    let map = match case.operation.as_str() {
        "translate" => moved(case),
        "affine" => {
            let parts = &case.parameters;
            let op = json!({ "degrees": parts["degrees"], "scale": parts["scale"], "shear": parts["shear"][0], "translate": 0 });
            let kind = OPERATIONS.iter().find(|kind| kind.name == "affine").unwrap();
            let (operation, _) = kind.make(op.as_object().unwrap().clone()).unwrap();
            let form = Form::Image { height, width, channels: 1, white: 255.0 };
            let mut draws = Draws::new(Key { seed: 0, round: 0, sample: 0 }, 0);
            operation.geometry(&form, &mut draws, &mut Scratch::default()).unwrap().map.then(moved(case))
        }
        "crop" => {
            let shift = [of("padding") - of("left"), of("padding") - of("top")];
            Affine::about_middle([1.0, 0.0, 0.0, 1.0], shift, height, width)
        }
        "resized_crop" => super::crop::stretched([of("height"), of("width")], [of("top"), of("left")], height, width),
        _ => return None,
    };
    Some(Geometry { map, resampling: Some(resampling()) })
}

/// The map of a case of perspective, checked, and how it is resampled.
fn projective(case: &Case, [height, width, _]: [usize; 3]) -> ([f64; 9], Resampling) {
    let corners = serde_json::from_value(case.parameters["corners"].clone()).unwrap();
    let wanted: Vec<f64> = serde_json::from_value(case.parameters["inverse"].clone()).unwrap();
    let map = super::perspective::from_corners(corners, height, width);
    assert!(map.iter().zip(&wanted).all(|(own, wanted)| (own - wanted).abs() < 1e-9), "{map:?} and {wanted:?}");
    let fill = serde_json::from_value(case.parameters["fill"].clone()).unwrap();
    (map, Resampling { filter: Filter::Bilinear, fill, value: 0.0 })
}

fn moved(case: &Case) -> Affine {
    let [x, y]: [f64; 2] = serde_json::from_value(case.parameters["translate"].clone()).unwrap();
    Affine::stretch([1.0, 1.0], [-x, -y])
}

/// What dlopt makes of a case; `None` where it has no such operation.
fn changed(case: &Case, picture: &Picture, is_bytes: bool) -> Option<Sample> {
    let mut sample = picture.sample(is_bytes);
    if case.operation == "perspective" {
        let (map, how) = projective(case, picture.shape);
        super::perspective::carry_out(&mut sample, &mut Scratch::default(), how, &map);
        return Some(sample);
    }
    if let Some(geometry) = geometry(case, picture.shape) {
        geometry.carry_out(&mut sample, &mut Scratch::default());
        return Some(sample);
    }
    let op = operation(case)?;
    OPERATIONS.iter().find(|kind| op["op"] == kind.name)?;
    let recipe = Recipe::of(&json!([op])).unwrap();
    recipe.check(&sample.form).unwrap();
    recipe.apply(&mut sample, Key { seed: 0, round: 0, sample: 0 }, &mut Scratch::default());
    Some(sample)
}

#[test]
fn pictures_equal_those_of_others() {
    let golden: Golden = serde_json::from_str(include_str!("../../../../fixtures/augment/images.json")).unwrap();
    // Of each operation: numbers, and those off by more than a level.
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut missing = std::collections::BTreeSet::new();
    for case in &golden.cases {
        for is_bytes in [true, false] {
            let Some(sample) = changed(case, &golden.pictures[&case.picture], is_bytes) else {
                missing.insert(case.operation.as_str());
                continue;
            };
            let (own, wanted) = (levels(&sample), case.wanted.bytes());
            assert_eq!(own.len(), wanted.len());
            let off = |(own, wanted): (&f32, &u8)| (own - f32::from(*wanted)).abs();
            let worst = own.iter().zip(&wanted).map(off).fold(0.0, f32::max);
            let place =
                || format!("{} of {} with {}, bytes: {is_bytes}", case.operation, case.picture, case.parameters);
            if case.exact {
                assert!(worst < if is_bytes { 1e-9 } else { 1e-3 }, "{}: {worst}", place());
            }
            // Peers blend bytes with a grey that is a byte, and cut the result: floats are up to half a level further off.
            let level = if is_bytes { 1.0 } else { 1.5 };
            let beyond = own.iter().zip(&wanted).filter(|both| off(*both) > level).count();
            if beyond > 0 {
                println!("{}: {beyond} of {} beyond a level, the worst by {worst}", place(), own.len());
            }
            let counts = counts.entry(&case.operation).or_default();
            *counts = [counts[0] + own.len(), counts[1] + beyond];
        }
    }
    for (operation, [all, beyond]) in &counts {
        assert!(beyond * 1000 <= *all, "{operation}: {beyond} of {all} numbers are off by more than one grey level");
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_translation_goes_right_and_down() {
    let mut sample = Picture { shape: [4, 5, 1], pixels: "00".repeat(6) + "ff" + &"00".repeat(13) }.sample(true);
    let own = |op: &str, sample: &mut Sample| {
        Recipe::of_ops(&[op]).unwrap().apply(sample, Key { seed: 0, round: 0, sample: 0 }, &mut Scratch::default());
        levels(sample).iter().position(|&x| x == 255.0).map(|at| [at % 5, at / 5])
    };
    assert_eq!(own("translate=0", &mut sample), Some([1, 1]));
    assert_eq!(own("translate=0.2,filter=nearest", &mut sample), Some([2, 2]));
    assert_eq!(own("affine=0,scale=1,translate=0.2,filter=nearest", &mut sample), Some([3, 3]));
}
