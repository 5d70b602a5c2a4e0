//! Features of pictures against `fixtures/features/images/golden.json`, which others computed.

use serde_json::{Map, Value};

use super::{FEATURES, Feature};
use crate::raw::{Image, Raw, Values};

/// Each number may be off by this share of itself, and by this much near 0: sums are of 32-bit floats here, and codes,
/// counts and levels are whole.
const TOLERANCE: f64 = 1e-5;
const NEAR_ZERO: f64 = 1e-6;

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    picture: String,
    feature: String,
    options: Map<String, Value>,
    values: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../fixtures/features/images/golden.json")).unwrap()
}

fn feature(name: &str, options: &Map<String, Value>) -> Box<dyn Feature> {
    let kind = FEATURES.iter().find(|kind| kind.name == name).unwrap();
    (kind.make)(options.clone()).unwrap()
}

fn picture(name: &str) -> Image {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/features/images");
    let decoded = image::open(format!("{folder}/{name}.png")).unwrap();
    let (height, width) = (decoded.height() as usize, decoded.width() as usize);
    let channels = usize::from(decoded.color().channel_count());
    Image { height, width, channels, pixels: Values::U8(decoded.into_bytes()) }
}

#[test]
fn features_equal_those_of_others() {
    let mut kinds = std::collections::BTreeSet::new();
    for case in golden().cases {
        let feature = feature(&case.feature, &case.options);
        let mut values = Vec::new();
        feature.extract(&Raw::Image(picture(&case.picture)), &mut values).unwrap();
        let place = format!("{} of {} with {:?}", case.feature, case.picture, case.options);
        assert_eq!(values.len(), case.values.len(), "{place}");
        assert_eq!(feature.names(&case.feature, values.len()).len(), values.len(), "{place}");
        for (at, (&value, &wanted)) in values.iter().zip(&case.values).enumerate() {
            let off = (f64::from(value) - wanted).abs();
            assert!(off <= TOLERANCE * wanted.abs() + NEAR_ZERO, "{place}, {at}: {value} and {wanted}");
        }
        kinds.insert(case.feature);
    }
    assert_eq!(kinds.len(), 7);
}

#[test]
fn floats_from_0_to_1_give_what_bytes_give() {
    for case in golden().cases {
        // `hog` and `hu` count in the units of the values; HSV and luma of floats are not rounded.
        let image = picture(&case.picture);
        let is_rgb = case.feature.starts_with("colour-") && !case.options.contains_key("space");
        let is_raw = ["hog", "hu"].contains(&&*case.feature) || case.options.contains_key("white");
        if is_raw || (image.channels > 1 && !is_rgb) {
            continue;
        }
        let feature = feature(&case.feature, &case.options);
        let floats = image.pixels.floats().iter().map(|x| x / 255.0).collect();
        let mut values = Vec::new();
        feature.extract(&Raw::Image(Image { pixels: Values::F32(floats), ..image }), &mut values).unwrap();
        let off = values.iter().zip(&case.values).filter(|(a, b)| (f64::from(**a) - **b).abs() > 2e-3 * b.abs() + 1e-6);
        // Patterns of points between pixels, levels and bins may round to the other side.
        assert!(off.count() * 4 <= values.len(), "{} of {}: {values:?}", case.feature, case.picture);
    }
}

#[test]
fn options_come_back_in_full() {
    for case in golden().cases {
        let all = feature(&case.feature, &case.options).options();
        assert!(all.len() >= 2, "{all:?}");
        for (name, value) in &case.options {
            let same = all[name] == *value || all[name].as_f64().is_some_and(|x| Some(x) == value.as_f64());
            let is_rounded = value.as_f64().is_some_and(|x| all[name].as_f64() == Some(f64::from(x as f32)));
            assert!(same || is_rounded, "{}: {name} is {}", case.feature, all[name]);
        }
        assert_eq!(feature(&case.feature, &all).options(), all);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let grey = || Raw::Image(Image { height: 5, width: 7, channels: 1, pixels: Values::U8(vec![1; 35]) });
    let refused = |name: &str, options: &str, raw: Raw| {
        let kind = FEATURES.iter().find(|kind| kind.name == name).unwrap();
        let made = (kind.make)(serde_json::from_str(options).unwrap());
        made.and_then(|feature| feature.extract(&raw, &mut Vec::new())).unwrap_err().message().to_owned()
    };
    for (name, options, message) in [
        ("hog", "{}", "`hog`: pictures of 5x7 pixels have no block of 3x3 cells of 8x8 pixels"),
        ("hog", r#"{"cell": 0}"#, "wanted 1 to 180 orientations"),
        ("lbp", r#"{"grid": 6}"#, "a grid of 6x6 cells over pictures of 5x7 pixels; wanted 1 to 5"),
        ("lbp", r#"{"points": 17}"#, "17 points; wanted 1 to 16"),
        ("lbp", r#"{"radius": 0.1}"#, "a radius of 0.1"),
        ("lbp", r#"{"colour": 1}"#, "unknown field `colour`"),
        ("glcm", r#"{"distances": 5}"#, "no pixels of pictures of 5x7 are 5 apart"),
        ("glcm", r#"{"distances": "1+x"}"#, "wanted pixels, such as 1 or 1+2+4"),
        ("glcm", r#"{"levels": 1}"#, "wanted 2 to 256 levels"),
        ("colour-histogram", "{}", "pictures of one channel have no colours"),
        ("colour-histogram", r#"{"space": "grey", "bins": 0}"#, "0 bins; wanted 1 to 256"),
        ("colour-moments", r#"{"space": "hsv"}"#, "pictures of one channel have no colours"),
        ("edges", r#"{"threshold": 2}"#, "a threshold of 2; wanted 0 to 1"),
    ] {
        let said = refused(name, options, grey());
        assert!(said.contains(message), "{said}");
    }
    for kind in FEATURES.iter().filter(|kind| golden().cases.iter().any(|case| case.feature == kind.name)) {
        let said = refused(kind.name, "{}", Raw::Text("a".to_owned()));
        assert_eq!(said, format!("`{}` is for pictures, and the samples are texts", kind.name));
    }
}

#[test]
fn black_and_tiny_pictures_have_finite_features() {
    for kind in FEATURES.iter().filter(|kind| golden().cases.iter().any(|case| case.feature == kind.name)) {
        for (height, width, channels) in [(3, 3, 3), (24, 25, 4)] {
            let pixels = Values::U8(vec![0; height * width * channels]);
            let mut values = Vec::new();
            let options = if kind.name == "hog" { r#"{"cell": 1}"# } else { "{}" };
            let feature = (kind.make)(serde_json::from_str(options).unwrap()).unwrap();
            feature.extract(&Raw::Image(Image { height, width, channels, pixels }), &mut values).unwrap();
            assert!(values.iter().all(|value| value.is_finite()), "{}: {values:?}", kind.name);
        }
    }
}
