//! Odd inputs: one clear answer or one clear error each.

use dlopt_metrics::{EpochRecord, Method, Options, binary, classification, paired, paired_regression, regression};

fn quick() -> Options {
    Options { resamples: 100, ..Options::default() }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn two_classes_worked_by_hand() {
    // Probabilities of class 1: 1/2 (tied, so class 0 is said), 3/4, 1/4; labels 0, 1, 1.
    let three = 3f32.ln();
    let report = classification(&[0.0, 0.0, 0.0, three, three, 0.0], 2, &[0, 1, 1], &[], &quick()).unwrap();
    assert_eq!(report.confusion, [[1, 0], [1, 1]]);
    assert!((report.accuracy.value - 2.0 / 3.0).abs() < 1e-15);
    let loss = (2f64.ln() + (4.0 / 3.0f64).ln() + 4f64.ln()) / 3.0;
    assert!((report.loss.value - loss).abs() < 1e-7);
    assert!((report.brier.value - (0.5 + 0.125 + 1.125) / 3.0).abs() < 1e-7);
    assert_eq!(report.classes[1].precision.unwrap().value, 1.0);
    assert_eq!(report.classes[1].recall.unwrap().value, 0.5);
    // Of the pairs (sample 1 against 0) and (sample 2 against 0), one is won.
    assert_eq!(report.auroc.unwrap().value, 0.5);
}

#[test]
fn one_sample_has_a_value_and_an_interval_only_where_one_can_be_had() {
    let report = classification(&[1.0, 3.0, 2.0], 3, &[1], &[], &quick()).unwrap();
    assert_eq!(report.accuracy.value, 1.0);
    let interval = report.accuracy.interval.unwrap();
    assert!(interval.low < 0.25 && interval.high == 1.0);
    assert_eq!(report.loss.interval, None);
    assert_eq!(report.auroc, None);
    assert_eq!(report.classes[0].recall, None);
    let text = report.text();
    assert!(text.starts_with("1 sample\n"), "{text}");
}

#[test]
fn one_class_present_leaves_areas_out() {
    let report = classification(&[1.0, 0.0, 0.5, 2.0, 3.0, 1.0], 2, &[0, 0, 0], &[], &quick()).unwrap();
    assert_eq!(report.auroc, None);
    assert!(report.classes.iter().all(|c| c.auroc.is_none()));
    assert!((report.accuracy.value - 2.0 / 3.0).abs() < 1e-15);
}

#[test]
fn a_model_of_one_class_is_always_right() {
    let report = classification(&[0.5, -2.0], 1, &[0, 0], &[], &quick()).unwrap();
    assert_eq!((report.accuracy.value, report.loss.value, report.entropy.value), (1.0, 0.0, 0.0));
    assert_eq!(report.calibration.expected_error.value, 0.0);
}

#[test]
fn equal_scores_give_an_area_of_one_half() {
    let report = binary(&[0.25; 9], 1, &[1., 0., 0., 1., 0., 1., 0., 0., 1.], &[], &quick()).unwrap();
    assert_eq!(report.auroc.unwrap().value, 0.5);
}

#[test]
fn all_right_still_leaves_room_below() {
    let labels: Vec<u32> = (0..30).map(|i| i % 3).collect();
    let logits: Vec<f32> = labels.iter().flat_map(|l| (0..3).map(move |c| if c == *l { 9.0 } else { 0.0 })).collect();
    let report = classification(&logits, 3, &labels, &[], &quick()).unwrap();
    for estimate in [report.accuracy, report.macro_average.f1, report.weighted_average.recall, report.auroc.unwrap()] {
        let interval = estimate.interval.unwrap();
        assert_eq!((estimate.value, interval.high), (1.0, 1.0));
        assert!(interval.low > 0.6 && interval.low < 0.95, "{interval:?}");
    }
    assert_eq!(report.macro_average.f1.interval.unwrap().method, Method::MeanOfClasses);
}

#[test]
fn confident_samples_are_told_apart_where_probabilities_round_to_one() {
    // Both probabilities of class 1 are 1 in 64 bits; the log odds are not equal.
    let report = classification(&[0.0, 60.0, 0.0, 50.0], 2, &[1, 0], &[], &quick()).unwrap();
    assert_eq!(report.classes[1].auroc.unwrap().value, 1.0);
}

#[test]
fn huge_logits_neither_overflow_nor_lose_the_loss() {
    let report = classification(&[3e38, -3e38, -3e38, 3e38], 2, &[1, 1], &[], &quick()).unwrap();
    assert!((report.loss.value / 3e38 - 1.0).abs() < 1e-6);
    assert!(report.entropy.value == 0.0 && report.brier.value == 1.0);
}

#[test]
fn no_samples_is_an_error() {
    let error = classification(&[], 3, &[], &[], &quick()).unwrap_err();
    assert_eq!(error.message(), "there are no samples to evaluate");
    assert!(regression(&[], 2, &[], &[], &quick()).is_err());
    assert!(binary(&[], 2, &[], &[], &quick()).is_err());
    assert!(classification(&[], 0, &[0], &[], &quick()).is_err());
}

#[test]
fn nan_logits_are_an_error_that_counts_them() {
    let error = classification(&[0.0, 1.0, f32::NAN, 0.0, f32::INFINITY, 1.0], 2, &[0, 1, 0], &[], &quick());
    assert_eq!(error.unwrap_err().message(), "logits of 2 of 3 samples are NaN or infinite, of sample 1 first");
    let error = paired(&[0.0, 1.0], &[f32::NAN, 0.0], 2, &[0], &quick()).unwrap_err();
    assert!(error.message().starts_with("second model: logits of 1 of 1 samples"));
    let error = regression(&[f32::NAN], 1, &[0.0], &[], &quick()).unwrap_err();
    assert!(error.message().starts_with("predictions of 1 of 1"));
}

#[test]
fn labels_shapes_and_names_that_do_not_fit_are_named() {
    let error = |logits: &[f32], labels: &[u32], n: &[&str]| {
        classification(logits, 2, labels, &names(n), &quick()).unwrap_err().message().to_owned()
    };
    assert_eq!(error(&[0.0; 4], &[0, 2], &[]), "sample 1 has label 2; the model has 2 classes, 0 to 1");
    assert_eq!(error(&[0.0; 5], &[0, 1], &[]), "5 logits do not go with 2 labels; wanted [2, 2]");
    assert_eq!(error(&[0.0; 4], &[0, 1], &["cat"]), "wanted 2 class names, as many as the model has, found 1");
    let error = binary(&[0.0; 4], 2, &[0.0, 1.0, 0.5, 1.0], &[], &quick()).unwrap_err();
    assert_eq!(error.message(), "sample 1 has target 0.5 for output 0; wanted 0 or 1");
}

#[test]
fn options_out_of_range_are_refused() {
    for options in [
        Options { resamples: 99, ..Options::default() },
        Options { bins: 0, ..Options::default() },
        Options { top: 0, ..Options::default() },
    ] {
        assert!(classification(&[0.0, 1.0], 2, &[0], &[], &options).is_err());
    }
}

#[test]
fn targets_that_do_not_vary_have_no_share_of_variance() {
    let report =
        regression(&[0.1, 5.0, 0.2, 6.0, 0.4, 9.0], 2, &[0.1, 5.0, 0.1, 7.0, 0.1, 8.0], &[], &quick()).unwrap();
    assert_eq!(report.outputs[0].r2, None);
    assert_eq!(report.r2, report.outputs[1].r2);
    assert_eq!(report.outputs[1].r2.unwrap().value, 1.0 - 2.0 / (14.0 / 3.0));
}

#[test]
fn equal_models_do_not_differ() {
    let logits = [0.0, 1.0, 2.0, 0.5, 3.0, 1.0];
    let report = paired(&logits, &logits, 2, &[1, 0, 1], &quick()).unwrap();
    for d in [report.accuracy, report.loss, report.brier, report.macro_f1, report.calibration_error] {
        assert_eq!((d.difference.value, d.p_value), (0.0, 1.0));
    }
    assert_eq!(report.agreement.value, 1.0);
    let report = paired_regression(&logits, &logits, 2, &[0.0; 6], &quick()).unwrap();
    assert_eq!((report.mse.difference.value, report.mse.p_value), (0.0, 1.0));
}

#[test]
fn a_clearly_better_model_of_numbers_is_told_so() {
    let targets: Vec<f32> = (0..50).map(|i| i as f32).collect();
    let near: Vec<f32> = (0..50).map(|i| i as f32 + (i % 3) as f32 * 0.1).collect();
    let far: Vec<f32> = (0..50).map(|i| i as f32 + (i % 5) as f32).collect();
    let report = paired_regression(&far, &near, 1, &targets, &Options::default()).unwrap();
    assert!(report.mse.difference.interval.unwrap().high < 0.0);
    assert!(report.mse.p_value < 0.01);
}

#[test]
fn reports_survive_json() {
    let logits: Vec<f32> = (0..40 * 3).map(|i| ((i * 7919) % 101) as f32 / 25.0).collect();
    let labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
    let report = classification(&logits, 3, &labels, &names(&["a", "b", "c"]), &quick()).unwrap();
    let json = serde_json::to_string(&report).unwrap();
    // By way of a value: `serde_json` reads a text's last digit of a number less than exactly.
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(serde_json::from_value::<dlopt_metrics::ClassificationReport>(value).unwrap(), report);
    assert!(json.contains("\"method\":\"bootstrap-bca\""));
}

fn record() -> EpochRecord {
    EpochRecord {
        epoch: 3,
        step: 4_500,
        train_loss: 0.25,
        train_accuracy: Some(0.9),
        validation_loss: None,
        validation_accuracy: None,
        learning_rate: 0.001,
        seconds: 1.5,
    }
}

#[test]
fn a_record_is_one_line_of_json() {
    let line = record().to_line();
    let wanted =
        r#"{"epoch":3,"step":4500,"train_loss":0.25,"train_accuracy":0.9,"learning_rate":0.001,"seconds":1.5}"#;
    assert_eq!(line, format!("{wanted}\n"));
    assert_eq!(EpochRecord::read_lines(&format!("{line}\n{line}")).unwrap(), [record(), record()]);
}

#[test]
fn a_loss_that_is_nan_is_written_as_null_and_read_as_nan() {
    let mut record = record();
    record.train_loss = f64::NAN;
    record.validation_loss = Some(f64::INFINITY);
    let line = record.to_line();
    assert!(line.contains(r#""train_loss":null"#) && line.contains(r#""validation_loss":null"#), "{line}");
    let read = EpochRecord::read_lines(&line).unwrap();
    assert!(read[0].train_loss.is_nan());
    assert!(read[0].validation_loss.is_some_and(f64::is_nan));
}

#[test]
fn a_line_that_is_no_record_is_named() {
    let error = EpochRecord::read_lines(&format!("{}{{\"epoch\":1}}\n", record().to_line())).unwrap_err();
    assert!(error.message().starts_with("line 2: not an epoch's record"), "{}", error.message());
}
