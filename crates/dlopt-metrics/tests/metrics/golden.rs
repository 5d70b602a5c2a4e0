//! Values of `fixtures/metrics/metrics.json`, which others computed.

use dlopt_metrics::{Estimate, Method, Options, binary, classification, paired, regression};
use serde_json::Value;

/// Both sides compute in `f64`, in another order.
const CLOSE: f64 = 1e-9;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../../../fixtures/metrics/metrics.json")).unwrap()
}

fn cases(kind: &str) -> Vec<Value> {
    golden()[kind].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|v| v as f32).collect()
}

fn labels(case: &Value) -> Vec<u32> {
    numbers(&case["labels"]).into_iter().map(|v| v as u32).collect()
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

#[track_caller]
fn assert_close(found: f64, wanted: &Value) {
    let wanted = wanted.as_f64().unwrap();
    assert!((found - wanted).abs() <= CLOSE * wanted.abs().max(1.0), "{found} is not {wanted}");
}

#[track_caller]
fn assert_ends(found: Estimate, wanted: &Value, method: Method) {
    let interval = found.interval.unwrap();
    assert_eq!(interval.method, method);
    assert_close(interval.low, &wanted[0]);
    assert_close(interval.high, &wanted[1]);
}

/// Another generator's draws: the ends may differ by an eighth of the interval's width.
#[track_caller]
fn assert_near_ends(found: Estimate, wanted: &Value) {
    let interval = found.interval.unwrap();
    assert_eq!(interval.method, Method::BootstrapBca);
    let (low, high) = (wanted[0].as_f64().unwrap(), wanted[1].as_f64().unwrap());
    let near = (high - low) / 8.0;
    assert!((interval.low - low).abs() < near && (interval.high - high).abs() < near, "{interval:?}, not {wanted}");
}

#[track_caller]
fn assert_optional(found: Option<Estimate>, value: &Value, ends: &Value, method: Method) {
    let Some(found) = found else { panic!("nothing found where {value} was wanted") };
    assert_close(found.value, value);
    if ends.is_null() {
        assert_eq!(found.interval, None);
    } else {
        assert_ends(found, ends, method);
    }
}

fn many() -> Options {
    Options { resamples: 4000, seed: 11, ..Options::default() }
}

#[test]
fn classification_agrees_with_scikit_learn() {
    for case in cases("classification") {
        let (classes, labels) = (size(&case["classes"]), labels(&case));
        let options = Options { top: 3, ..many() };
        let report = classification(&floats(&case["logits"]), classes, &labels, &[], &options).unwrap();
        assert_close(report.loss.value, &case["loss"]);
        assert_close(report.brier.value, &case["brier"]);
        assert_close(report.entropy.value, &case["entropy"]);
        assert_close(report.accuracy.value, &case["accuracy"]);
        assert_eq!(serde_json::to_value(&report.confusion).unwrap(), case["confusion"]);
        for (scores, kind) in [(&report.macro_average, "macro"), (&report.weighted_average, "weighted")] {
            assert_close(scores.precision.value, &case[kind][0]);
            assert_close(scores.recall.value, &case[kind][1]);
            assert_close(scores.f1.value, &case[kind][2]);
        }
        match report.top_accuracy {
            Some(top) => assert_close(top.value, &case["top_3"]),
            None => assert!(classes <= 3),
        }
        match report.auroc {
            Some(auroc) => assert_close(auroc.value, &case["auroc_macro"]),
            None => assert!(case["auroc_macro"].is_null()),
        }
    }
}

#[test]
fn classes_agree_with_scikit_learn_and_their_intervals_with_statsmodels() {
    for case in cases("classification") {
        let classes = size(&case["classes"]);
        let report = classification(&floats(&case["logits"]), classes, &labels(&case), &[], &many()).unwrap();
        assert_ends(report.accuracy, &case["accuracy_wilson"], Method::Wilson);
        for (c, class) in report.classes.iter().enumerate() {
            assert_eq!(class.support, case["support"][c].as_u64().unwrap());
            for (found, name, ends, method) in [
                (class.precision, "precision", "precision_wilson", Method::Wilson),
                (class.recall, "recall", "recall_wilson", Method::Wilson),
                (class.f1, "f1", "f1_ends", Method::WilsonOfJaccard),
            ] {
                match case[ends][c].is_null() {
                    // Where 0/0 is 0 for scikit-learn, nothing is said here.
                    true => assert_eq!((found, case[name][c].as_f64()), (None, Some(0.0))),
                    false => assert_optional(found, &case[name][c], &case[ends][c], method),
                }
            }
        }
    }
}

#[test]
fn areas_agree_with_scikit_learn_and_their_intervals_with_delong_over_all_pairs() {
    for case in cases("classification") {
        let classes = size(&case["classes"]);
        let report = classification(&floats(&case["logits"]), classes, &labels(&case), &[], &many()).unwrap();
        for (c, class) in report.classes.iter().enumerate() {
            let wanted = &case["auroc"][c];
            if wanted.is_null() {
                assert_eq!(class.auroc, None);
                continue;
            }
            let method = if wanted == 1.0 { Method::HanleyMcneilScore } else { Method::DelongLogit };
            assert_optional(class.auroc, wanted, &case["auroc_ends"][c], method);
        }
    }
}

#[test]
fn calibration_agrees_with_bins_by_numpy() {
    for case in cases("classification") {
        let classes = size(&case["classes"]);
        let report = classification(&floats(&case["logits"]), classes, &labels(&case), &[], &many()).unwrap();
        assert_close(report.calibration.expected_error.value, &case["ece"]);
        assert_eq!(report.calibration.bins.len(), 15);
        for (bin, wanted) in report.calibration.bins.iter().zip(case["bins"].as_array().unwrap()) {
            assert_eq!(bin.samples, wanted[0].as_u64().unwrap());
            let right = bin.accuracy.map_or(0.0, |a| a.value * bin.samples as f64);
            assert_close(right, &wanted[1]);
            assert_close(bin.confidence.map_or(0.0, |c| c * bin.samples as f64), &wanted[2]);
        }
    }
}

#[test]
fn bootstrap_of_means_agrees_with_scipy() {
    for case in cases("classification") {
        let classes = size(&case["classes"]);
        let report = classification(&floats(&case["logits"]), classes, &labels(&case), &[], &many()).unwrap();
        assert_near_ends(report.loss, &case["loss_bca"]);
        assert_near_ends(report.entropy, &case["entropy_bca"]);
    }
}

#[test]
fn paired_tests_agree_with_statsmodels_and_scipy() {
    for case in cases("paired") {
        let (first, second) = (floats(&case["first"]), floats(&case["second"]));
        let report = paired(&first, &second, size(&case["classes"]), &labels(&case), &many()).unwrap();
        let table =
            serde_json::json!([[report.both_right, report.only_first], [report.only_second, report.both_wrong]]);
        assert_eq!(table, case["table"]);
        assert_close(report.mcnemar.exact, &case["exact"]);
        assert_close(report.accuracy.p_value, &case["exact"]);
        assert_close(report.mcnemar.mid, &case["mid"]);
        assert_close(report.accuracy.difference.value, &case["accuracy_difference"]);
        assert_ends(report.accuracy.difference, &case["bonett_price"], Method::BonettPrice);
        assert_close(report.agreement.value, &case["agreement"]);
        assert_close(report.loss.difference.value, &case["loss_difference"]);
        assert_near_ends(report.loss.difference, &case["loss_bca"]);
    }
}

#[test]
fn regression_agrees_with_scikit_learn_and_scipy() {
    for case in cases("regression") {
        let (targets, predictions) = (floats(&case["targets"]), floats(&case["predictions"]));
        let report = regression(&predictions, size(&case["outputs"]), &targets, &[], &many()).unwrap();
        assert_close(report.mse.value, &case["mse_mean"]);
        assert_close(report.mae.value, &case["mae_mean"]);
        assert_close(report.r2.unwrap().value, &case["r2_mean"]);
        for (o, output) in report.outputs.iter().enumerate() {
            assert_close(output.mse.value, &case["mse"][o]);
            assert_close(output.rmse.value * output.rmse.value, &case["mse"][o]);
            assert_close(output.mae.value, &case["mae"][o]);
            assert_close(output.r2.unwrap().value, &case["r2"][o]);
            assert_near_ends(output.mse, &case["mse_bca"][o]);
            assert_near_ends(output.mae, &case["mae_bca"][o]);
            assert_near_ends(output.r2.unwrap(), &case["r2_bca"][o]);
        }
    }
}

#[test]
fn yes_or_no_outputs_agree_with_scikit_learn() {
    for case in cases("binary") {
        let (logits, targets) = (floats(&case["logits"]), floats(&case["targets"]));
        let report = binary(&logits, size(&case["outputs"]), &targets, &[], &many()).unwrap();
        assert_close(report.exact_match.value, &case["exact_match"]);
        assert_close(1.0 - report.accuracy.value, &case["hamming"]);
        assert_close(report.auroc.unwrap().value, &case["auroc_mean"]);
        for (o, output) in report.outputs.iter().enumerate() {
            assert_close(output.loss.value, &case["loss"][o]);
            assert_close(output.accuracy.value, &case["accuracy"][o]);
            assert_close(output.f1.unwrap().value, &case["f1"][o]);
            assert_optional(output.auroc, &case["auroc"][o], &case["auroc_ends"][o], Method::DelongLogit);
        }
    }
}
