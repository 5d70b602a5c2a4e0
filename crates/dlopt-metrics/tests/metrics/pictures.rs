//! Pictures say what they should, and are well-formed.

use dlopt_metrics::{
    ClassificationReport, Corrupted, EpochRecord, Options, Picture, Pixels, RobustnessReport, classification,
    confusion_matrix_svg, contact_sheet_png, learning_curves_svg, reliability_svg, robustness, robustness_svg,
};
use image::{Rgb, RgbImage};

fn record(epoch: u64, train_loss: f64, validation_loss: Option<f64>) -> EpochRecord {
    EpochRecord {
        epoch,
        step: epoch * 10,
        train_loss,
        train_accuracy: Some(1.0 - train_loss.min(1.0)),
        validation_loss,
        validation_accuracy: validation_loss.map(|l| 1.0 - l.min(1.0)),
        learning_rate: 0.001,
        seconds: 1.0,
    }
}

fn report(classes: usize, samples: usize, names: &[String]) -> ClassificationReport {
    let logits: Vec<f32> = (0..samples * classes).map(|i| ((i * 7919) % 101) as f32 / 25.0).collect();
    let labels: Vec<u32> = (0..samples).map(|i| (i * 31 % 97 % classes) as u32).collect();
    let options = Options { resamples: 100, ..Options::default() };
    classification(&logits, classes, &labels, names, &options).unwrap()
}

/// Tags are closed in order, and nothing stands in coordinates that is not a number.
#[track_caller]
fn assert_well_formed(svg: &str) {
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "a coordinate is not a number");
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.trim()));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?} stay open");
}

#[test]
fn learning_curves_name_their_lines_and_the_best_epoch() {
    let records: Vec<_> =
        (1..=7).map(|e| record(e, 1.0 / e as f64, Some(0.3 + (e as f64 - 5.0).abs() / 10.0))).collect();
    let svg = learning_curves_svg(&records);
    assert_well_formed(&svg);
    for text in ["training", "validation", "Loss", "Accuracy", "epoch", "lowest validation loss 0.3 at epoch 5"] {
        assert!(svg.contains(text), "{text} is missing");
    }
    assert!(!svg.contains("Learning rate"), "a constant learning rate needs no panel");
}

#[test]
fn learning_curves_of_odd_runs_are_pictures_too() {
    for records in [
        vec![],
        vec![record(1, 0.5, None)],
        vec![record(1, f64::NAN, Some(f64::INFINITY))],
        vec![record(1, 0.0, None), record(2, 0.0, None)],
        vec![record(1, 5.0, Some(1e300)), record(2, f64::NAN, Some(1e-300)), record(9, -1.0, None)],
        vec![record(1, 1e308, None), record(2, -1e308, None)],
        vec![record(3, 0.4, None), record(3, 0.4, None)],
    ] {
        assert_well_formed(&learning_curves_svg(&records));
    }
}

#[test]
fn a_learning_rate_that_moves_has_a_panel() {
    let mut records: Vec<_> = (1..=4).map(|e| record(e, 1.0 / e as f64, None)).collect();
    records[2].learning_rate = 0.0001;
    let svg = learning_curves_svg(&records);
    assert_well_formed(&svg);
    assert!(svg.contains("Learning rate"));
}

#[test]
fn confusion_matrices_show_counts_and_names_and_escape_them() {
    let names = ["shirt & tie", "<b>", "line\nbreak"].map(String::from);
    let report = report(3, 200, &names);
    let svg = confusion_matrix_svg(&report);
    assert_well_formed(&svg);
    for text in ["shirt &amp; tie", "&lt;b&gt;", "line break", &format!(">\n{}\n", report.confusion[0][1])] {
        assert!(svg.contains(text), "{text} is missing");
    }
    assert!(!svg.contains("<b>"));
}

#[test]
fn confusion_matrices_of_one_and_of_many_classes_are_pictures_too() {
    assert_well_formed(&confusion_matrix_svg(&report(1, 5, &[])));
    let many = confusion_matrix_svg(&report(150, 400, &[]));
    assert_well_formed(&many);
    assert!(many.len() < 200_000, "cells without samples are not drawn");
}

#[test]
fn reliability_diagrams_show_each_bins_samples() {
    let report = report(4, 300, &[]);
    let svg = reliability_svg(&report.calibration);
    assert_well_formed(&svg);
    assert!(svg.contains("perfect calibration") && svg.contains("expected calibration error"));
    for bin in report.calibration.bins.iter().filter(|b| b.samples > 0) {
        assert!(svg.contains(&format!(">\n{}\n", bin.samples)));
    }
}

/// A classifier of which so many samples of 20 are right, fewer with every strength.
fn under_corruption(right: usize, names: &[&str]) -> RobustnessReport {
    let first = |count: usize| (0..20).map(|sample| sample < count).collect::<Vec<bool>>();
    let corrupted = |name: &&str| Corrupted {
        name: (*name).to_owned(),
        unit: "degrees & more".to_owned(),
        strengths: vec![2.5, 7.0, 11.0],
        right: (0..3).map(|strength| first(right.saturating_sub(3 * strength))).collect(),
    };
    let all: Vec<Corrupted> = names.iter().map(corrupted).collect();
    robustness(&first(right), &all, &Options { resamples: 100, ..Options::default() }).unwrap()
}

#[test]
fn robustness_plots_have_a_panel_for_each_corruption_and_a_line_for_each_model() {
    let names = ["turn <left>", "noise", "blur", "scale"];
    let (one, other) = (under_corruption(18, &names), under_corruption(12, &names));
    let lines = |svg: &str| svg.matches("<polyline").count();
    let (alone, both) =
        (robustness_svg(&[("a.safetensors", &one)]), { robustness_svg(&[("a.safetensors", &one), ("b & c", &other)]) });
    for svg in [&alone, &both] {
        assert_well_formed(svg);
        for text in ["noise", "mean of all", "7", "11", "90.00 % clean"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("<left>"));
    }
    assert!(both.contains("60.00 % clean") && !alone.contains("60.00 % clean"));
    assert!(lines(&both) > lines(&alone));
}

#[test]
fn robustness_plots_survive_what_is_always_right_and_what_never_is() {
    for right in [20, 0] {
        assert_well_formed(&robustness_svg(&[("m", &under_corruption(right, &["noise"]))]));
    }
    assert_well_formed(&robustness_svg(&[]));
}

fn picture(pixels: Pixels<'_>, height: usize, width: usize, channels: usize) -> Picture<'_> {
    let (label, predicted) = ("Ankle boot".to_owned(), "Straße…".to_owned());
    Picture { pixels, height, width, channels, label, predicted, confidence: 0.987 }
}

fn decode(png: &[u8]) -> RgbImage {
    image::load_from_memory(png).unwrap().into_rgb8()
}

#[test]
fn contact_sheets_enlarge_each_pixel_to_a_square() {
    // 5 rows and 7 columns: 224 / 7 = 32 times as large.
    let grey: Vec<u8> = (0..35).map(|i| i * 7).collect();
    let sheet = decode(&contact_sheet_png("worst", &[picture(Pixels::U8(&grey), 5, 7, 1)]).unwrap());
    for (row, column) in [(0, 0), (4, 6), (2, 3)] {
        let wanted = Rgb([grey[row * 7 + column]; 3]);
        for corner in [0, 31] {
            let (x, y) = (16 + 32 * column as u32 + corner, 48 + 32 * row as u32 + corner);
            assert_eq!(*sheet.get_pixel(x, y), wanted);
        }
    }
}

#[test]
fn contact_sheets_take_colour_opacity_and_standardised_values() {
    let colour: Vec<u8> = vec![255, 0, 0, 0, 255, 0];
    let opacity: Vec<u8> = vec![255, 0, 0, 0, 0, 0, 255, 9];
    let standardised = [-2.0f32, 2.0];
    let shares = [0.0f32, 0.5];
    let odd = [f32::NAN, 1.0];
    let pictures = [
        picture(Pixels::U8(&colour), 1, 2, 3),
        picture(Pixels::U8(&opacity), 1, 2, 4),
        picture(Pixels::F32(&standardised), 1, 2, 1),
        picture(Pixels::F32(&shares), 1, 2, 1),
        picture(Pixels::F32(&odd), 2, 1, 1),
    ];
    let sheet = decode(&contact_sheet_png("worst", &pictures).unwrap());
    // Three columns of 224 and gaps of 16; the second picture's right half is blue, the third's white.
    assert_eq!(*sheet.get_pixel(16 + 1, 48 + 1), Rgb([255, 0, 0]));
    assert_eq!(*sheet.get_pixel(16 + 240 + 200, 48 + 1), Rgb([0, 0, 255]));
    assert_eq!(*sheet.get_pixel(16 + 480 + 200, 48 + 1), Rgb([255; 3]));
}

#[test]
fn contact_sheets_reduce_large_pictures() {
    let large = vec![128u8; 900 * 300];
    let sheet = decode(&contact_sheet_png("", &[picture(Pixels::U8(&large), 900, 300, 1)]).unwrap());
    assert!(sheet.height() < 400);
}

#[test]
fn pictures_whose_shape_does_not_fit_are_refused() {
    let error = |p: Picture<'_>| contact_sheet_png("", &[p]).unwrap_err().message().to_owned();
    let wanted = "picture 0: 5 elements do not make a picture of shape [2, 3, 1]";
    assert_eq!(error(picture(Pixels::U8(&[0; 5]), 2, 3, 1)), wanted);
    assert!(error(picture(Pixels::U8(&[0; 12]), 2, 3, 2)).contains("2 channels; wanted 1"));
    assert!(error(picture(Pixels::U8(&[]), 0, 3, 1)).contains("0 elements"));
    assert!(contact_sheet_png("", &[]).is_err());
}
